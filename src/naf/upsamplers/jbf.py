"""JBF: Gaussian joint bilateral filter, the parameter-free baseline of the NAF paper (arXiv 2511.18452).

Features and image are brought bilinearly to four times the feature grid, filtered there by likeness of colour and
distance (joint bilateral upsampling: Kopf et al., SIGGRAPH 2007) and brought bilinearly to the output size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.adaptive_conv import cell_weights, cell_weights_in_bands
from naf.ops.windows import make_windows, reflected
from naf.registry import register
from naf.upsamplers.base import Upsampler
from naf.upsamplers.checks import whole_number
from naf.upsamplers.filter_guidance import Filter, FilterGuidance

_RATIO = 4  # of the map that is filtered to the grid of the features


@register("jbf", summary="Gaussian joint bilateral filter, no parameters", paper="Kopf et al. 2007; arXiv 2511.18452")
class JBF(Upsampler):
    """Joint bilateral filter.

    Args:
        kernel_size: odd, at least 1: pixels along a side of the window, at four times the feature grid.
        sigma_color: above 0, of the sum of absolute differences over the three ImageNet-normalised colours.
        sigma_spatial: above 0, pixels.

    Raises:
        ValueError: for values outside the above.
    """

    def __init__(self, kernel_size: int = 5, sigma_color: float = 0.1, sigma_spatial: float = 1.5) -> None:
        super().__init__()
        if whole_number("kernel_size", kernel_size, 1) % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}, expected an odd integer")
        for name, value in (("sigma_color", sigma_color), ("sigma_spatial", sigma_spatial)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}, expected a positive number")
        self.radius, self.sigma_color, self.sigma_spatial = kernel_size // 2, sigma_color, sigma_spatial
        self.smallest_grid = self.radius // _RATIO + 1  # reflection does not repeat the border

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> FilterGuidance:
        size = _RATIO * grid[0], _RATIO * grid[1]
        image = image.to(torch.promote_types(image.dtype, torch.float32))
        guide = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        row, col = (torch.arange(-self.radius, side + self.radius, device=image.device) for side in size)
        padded = guide.index_select(2, reflected(row, size[0])).index_select(3, reflected(col, size[1]))
        windows = make_windows("bilinear", size, grid, self.radius)
        weights = cell_weights_in_bands(lambda start, stop: self._kernels(padded, start, stop), windows, guide)
        resize = make_windows("bilinear", output_size, size, 0)
        ones = cell_weights(guide.new_ones(1, *output_size, 1), resize)
        filters = Filter(weights, windows), Filter(ones.expand(len(image), -1, -1, -1, -1), resize)
        return FilterGuidance(filters, sums_to_one=True)

    def _kernels(self, padded: Tensor, start: int, stop: int) -> Tensor:
        """Normalised weights of rows start … stop - 1, (B, rows, W, k * k), of the padded image."""
        radius, height, width = self.radius, stop - start, padded.shape[3] - 2 * self.radius
        centre = padded[:, :, start + radius : stop + radius, radius : radius + width]
        logits = []
        for i in range(2 * radius + 1):
            for j in range(2 * radius + 1):
                neighbor = padded[:, :, start + i : start + i + height, j : j + width]
                color = (neighbor - centre).abs().sum(1) / self.sigma_color
                space = ((i - radius) ** 2 + (j - radius) ** 2) / self.sigma_spatial**2
                logits.append(-0.5 * (color.square() + space))
        return torch.stack(logits, dim=-1).softmax(-1)
