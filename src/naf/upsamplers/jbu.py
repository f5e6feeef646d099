"""JBU: joint bilateral upsampling with a learned range kernel, the baseline of the NAF paper (arXiv 2511.18452).

One level of FeatUp's filter (arXiv 2403.10516) at the output size: features and image are brought there bilinearly,
and each pixel takes the mean of the features in its window, weighted by learned similarity in the image and distance.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from naf.ops.windows import make_windows
from naf.registry import register
from naf.upsamplers.base import Upsampler
from naf.upsamplers.checks import whole_number
from naf.upsamplers.execution import working_dtype
from naf.upsamplers.filter_guidance import Filter, FilterGuidance
from naf.upsamplers.range_kernel import RangeKernel


@register("jbu", summary="joint bilateral upsampling with a learned range kernel", paper="arXiv 2511.18452")
class JBU(Upsampler):
    """Learned joint bilateral upsampling.

    Args:
        dim: four times the channels of the range projection.
        radius: of the window, in output pixels, at least 1.
        combine: whether the kernel is corrected by a network that sees kernel and image; weights may then be negative
            and no longer sum to one. Its parameters exist either way.

    Raises:
        ValueError: for values outside the above.
    """

    def __init__(self, dim: int = 256, radius: int = 5, combine: bool = False) -> None:
        super().__init__()
        if whole_number("dim", dim, 4) % 4:
            raise ValueError(f"dim is {dim}, expected a multiple of 4")
        self.bilateral_filter = RangeKernel(whole_number("radius", radius, 1), dim // 4, corrects=combine)
        self.radius, self.smallest_output = radius, radius + 1
        self.is_convex = self.keeps_constants = not combine

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """The weights of some 50 cells a pixel, as at ratio 4, and bands of kernels."""
        del image_size
        return 4 * 50 * math.prod(output_size) + (128 << 20)

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> FilterGuidance:
        image = image.to(working_dtype(self, image.device))
        guide = F.interpolate(image, size=output_size, mode="bilinear", align_corners=False)
        windows = make_windows("bilinear", output_size, grid, self.radius)
        weights = self.bilateral_filter.cell_weights(guide, windows)
        return FilterGuidance([Filter(weights, windows)], sums_to_one=self.keeps_constants)
