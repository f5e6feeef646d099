"""FeatSharp's joint bilateral upsampling: FeatUp's filter with a bilinear start and nothing after it."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.adaptive_conv import adaptive_conv, cell_weights
from naf.ops.window_scores import window_scores
from naf.ops.windows import make_windows
from naf.upsamplers.filter_guidance import Filter

_RADIUS, _KEY_CHANNELS = 3, 32


class Level(nn.Module):
    """One filter of 7 x 7 pixels, at one size.

    `range_alpha` and `spatial_alpha` scale all weights of a pixel alike, which the normalisation undoes: they are part
    of the parameters and have no effect.
    """

    def __init__(self) -> None:
        super().__init__()
        self.range_temp = nn.Parameter(torch.zeros(()))
        self.range_proj = nn.Sequential(
            nn.Conv2d(3, _KEY_CHANNELS, 1), nn.GELU(), nn.Conv2d(_KEY_CHANNELS, _KEY_CHANNELS, 1)
        )
        self.sigma_spatial = nn.Parameter(torch.ones(()))
        self.range_alpha = nn.Parameter(torch.zeros(()))
        self.spatial_alpha = nn.Parameter(torch.zeros(()))

    def kernels(self, guidance: Tensor) -> Tensor:
        """Weights of the pixels around each pixel.

        Args:
            guidance: image at the level's size, (B, 3, H, W), sides above 3.

        Returns:
            (B, H, W, 49), non-negative, summing to one.
        """
        dtype = guidance.dtype
        first, last = cast(nn.Conv2d, self.range_proj[0]), cast(nn.Conv2d, self.range_proj[2])
        keys = F.gelu(_point(guidance, first))
        padded = F.pad(_point(keys, last), (_RADIUS,) * 4, mode="reflect").permute(0, 2, 3, 1)
        scores = window_scores(padded, _RADIUS) * self.range_temp.to(dtype).exp().clamp(1e-4, 1e4)
        axis = torch.linspace(-1, 1, 2 * _RADIUS + 1, dtype=dtype, device=guidance.device).square()
        distance = (axis[:, None] + axis).flatten()
        spatial = (-distance / (2 * self.sigma_spatial.to(dtype).square())).exp()
        weights: Tensor = scores.softmax(-1) * spatial
        return weights / weights.sum(-1, keepdim=True).clamp(min=1e-7)


class JBU(nn.Module):
    """A level for each prime factor of the ratio, in ascending order.

    Args:
        factor: ratio of output to input, at least 1.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factors = prime_factors(factor)
        self.ups = nn.ModuleList(Level() for _ in self.factors)

    def filters(self, guidance: Tensor, grid: tuple[int, int]) -> list[Filter]:
        """What every level does to its features.

        Args:
            guidance: image at the output size, (B, 3, H, W).
            grid: coarse grid (h, w).
        """
        filters = []
        for factor, level in zip(self.factors, self.ups, strict=True):
            size = grid[0] * factor, grid[1] * factor
            kernels = cast(Level, level).kernels(F.adaptive_avg_pool2d(guidance, size))
            windows = make_windows("bilinear", size, grid, _RADIUS)
            filters.append(Filter(cell_weights(kernels, windows), windows))
            grid = size
        return filters

    @staticmethod
    def upsample(features: Tensor, filters: list[Filter]) -> Tensor:
        """(B, C, h, w) → (B, C, H, W): bilinear resizing, reflected at the border, then the filter, level by level."""
        cells = features.permute(0, 2, 3, 1)
        for weights, windows in filters:
            cells = adaptive_conv(cells, weights, windows)
        return cells.permute(0, 3, 1, 2)


def prime_factors(number: int) -> list[int]:
    """In ascending order; none for 1."""
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors


def _point(x: Tensor, conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return F.conv2d(x, conv.weight.to(x.dtype), conv.bias.to(x.dtype))
