"""Guided image filter as an upsampler (He, Sun and Tang, ECCV 2010), in its fast form (He and Sun, arXiv 1505.00996).

Around each coarse cell the features are fitted by a linear function of the colours, a · colour + b, by ridge
regression over a small box; the coefficients are averaged over the box, brought bilinearly to the output size and
applied to the full-resolution image. Edges of the image become edges of the features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.adaptive_conv import cell_weights_in_bands
from naf.ops.windows import make_windows
from naf.registry import register
from naf.upsamplers.base import Upsampler
from naf.upsamplers.checks import whole_number
from naf.upsamplers.filter_guidance import Filter, FilterGuidance


class GuidedGuidance(FilterGuidance):
    """Regression on the coarse grid, then one filter that reads the four coefficients of each cell.

    Attributes:
        colors: of the reduced image, (B, 3, h, w).
        radius: of the boxes.
        mean: of the boxes' colours, (B, 3, h, w).
        inverse: of the boxes' covariance of colours with the ridge, (B, h, w, 3, 3).
    """

    def __init__(self, last: Filter, colors: Tensor, radius: int, eps: float) -> None:
        super().__init__([last], sums_to_one=True, margin=2 * radius)
        self.colors, self.radius = colors, radius
        self.mean = _box(colors, radius)
        products = (colors[:, :, None] * colors[:, None]).flatten(1, 2)
        covariance = _box(products, radius).unflatten(1, (3, 3)) - self.mean[:, :, None] * self.mean[:, None]
        ridge = eps * torch.eye(3, dtype=colors.dtype, device=colors.device)
        self.inverse = torch.linalg.inv(covariance.permute(0, 3, 4, 1, 2) + ridge)  # (B, h, w, 3, 3)

    def _cells(self, features: Tensor) -> Tensor:
        """Averaged coefficients of each channel, (B, h, w, 4, C): of the three colours, and the constant."""
        features = features.to(self.colors.dtype)
        # The covariance of a large constant would be nothing but rounding: the fit sees what differs from a level.
        known = features.detach().masked_fill(~features.isfinite(), torch.nan)
        level = known.flatten(2).nanmean(2).nan_to_num(0)[:, :, None, None]
        varying = features - level
        mean = _box(varying, self.radius)
        covariance = torch.stack(
            [
                _box(varying * color, self.radius) - mean * color_mean
                for color, color_mean in zip(self.colors.split(1, 1), self.mean.split(1, 1), strict=True)
            ],
            dim=1,
        )  # (B, 3, C, h, w)
        with torch.autocast(features.device.type, enabled=False):
            slope = torch.einsum("bhwij,bjchw->bichw", self.inverse, covariance)
        constant = mean - (slope * self.mean[:, :, None]).sum(1)
        planes = torch.cat([slope, constant[:, None]], dim=1)
        averaged: Tensor = _box(planes.flatten(1, 2), self.radius).unflatten(1, (4, -1))
        shift = F.pad(level[:, None], (0, 0, 0, 0, 0, 0, 3, 0))
        return (averaged + shift).permute(0, 3, 4, 1, 2).contiguous()


@register("guided", summary="guided image filter, no parameters", paper="He, Sun and Tang 2010; arXiv 1505.00996")
class Guided(Upsampler):
    """Guided image filter.

    Args:
        radius: of the boxes, in cells, at least 1; boxes are cut off at the border.
        eps: ridge, above 0, in squared units of the ImageNet-normalised colours: contrast well below its root is
            smoothed over, contrast above it becomes an edge.

    Raises:
        ValueError: for values outside the above.
    """

    is_convex = False

    def __init__(self, radius: int = 2, eps: float = 0.1) -> None:
        super().__init__()
        self.radius = whole_number("radius", radius, 1)
        if not 0 < eps < math.inf:
            raise ValueError(f"eps is {eps!r}, expected a positive number")
        self.eps = eps

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """Four times nine weights a pixel."""
        del image_size
        return 4 * 36 * math.prod(output_size) + (64 << 20)

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> GuidedGuidance:
        image = image.to(torch.promote_types(image.dtype, torch.float32))
        colors = F.adaptive_avg_pool2d(image, grid)
        guide = F.interpolate(image, size=output_size, mode="bilinear", align_corners=False)
        planes = torch.cat([guide, torch.ones_like(guide[:, :1])], dim=1)  # (B, 4, Ho, Wo)
        windows = make_windows("bilinear", output_size, grid, 0)
        by_plane = cell_weights_in_bands(
            lambda start, stop: planes[:, :, start:stop].flatten(0, 1)[..., None], windows, planes
        )
        weights = by_plane.unflatten(0, (-1, 4)).movedim(1, -1).flatten(-2)  # (B, Ty, Tx, P, cells * 4)
        return GuidedGuidance(Filter(weights, windows), colors, self.radius, self.eps)


def _box(x: Tensor, radius: int) -> Tensor:
    """Means over the cells within radius, along both axes, that exist."""
    return F.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False)
