"""JBU: joint bilateral upsampling with a learned range kernel, the baseline of the NAF paper (arXiv 2511.18452).

One level of FeatUp's filter (arXiv 2403.10516) at the output size: features and image are brought there bilinearly,
and each pixel takes the mean of the features in its window, weighted by learned similarity in the image and distance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.adaptive_conv import adaptive_conv, adaptive_conv_points, pixel_weights
from naf.ops.windows import Windows, make_windows
from naf.registry import register
from naf.upsamplers.base import Attention, Guidance, Upsampler
from naf.upsamplers.checks import whole_number
from naf.upsamplers.execution import working_dtype
from naf.upsamplers.range_kernel import RangeKernel


class FilterGuidance(Guidance):
    """A filter of the bilinearly upsampled features, as weights of coarse cells.

    Attributes:
        weights: of all tiles, see :func:`naf.ops.adaptive_conv.cell_weights`.
        windows: which cells they belong to.
        sums_to_one: whether the weights of each pixel do.
    """

    def __init__(self, weights: Tensor, windows: Windows, *, sums_to_one: bool) -> None:
        super().__init__(len(weights), windows.grid, windows.size)
        self.weights, self.windows, self.sums_to_one = weights, windows, sums_to_one

    def _cells(self, features: Tensor) -> Tensor:
        """Channels last, in the working dtype."""
        return features.permute(0, 2, 3, 1).to(self.weights.dtype).contiguous()

    def _upsample(self, features: Tensor) -> Tensor:
        return self._bands(features)(0, self.output_size[0])

    def _upsample_linear(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # The same weights for all channels: the head goes first.
        first = bias if self.sums_to_one else None
        out = self._upsample(F.conv2d(features, weight[:, :, None, None], first))
        return out if bias is None or self.sums_to_one else out + bias[:, None, None]

    def _bands(self, features: Tensor) -> Callable[[int, int], Tensor]:
        cells = self._cells(features)

        def make(start: int, stop: int) -> Tensor:
            band = adaptive_conv(cells, self.weights, self.windows, start=start, stop=stop, dtype=features.dtype)
            return band.permute(0, 3, 1, 2)

        return make

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        points = adaptive_conv_points(self._cells(features), self.weights, self.windows, rows, cols)
        return points.transpose(1, 2).to(features.dtype)

    def _attention(self, row: int, col: int, features: Tensor | None) -> Attention:
        del features  # the weights come from the image alone
        axes = self.windows.rows, self.windows.cols
        cells = [axis.cells[p // axis.tile] for axis, p in zip(axes, (row, col), strict=True)]
        weights = pixel_weights(self.weights, self.windows, torch.tensor([row]), torch.tensor([col]))
        by_col = weights.unflatten(2, (len(cells[1]), len(cells[0])))  # (B, 1, columns, rows)
        rows, cols = (index.to(weights.device) for index in cells)
        # Weights of the cells of a whole tile; those that this pixel does not read are cut off.
        (top, bottom), (left, right) = (axis.reach(p, p) for axis, p in zip(axes, (row, col), strict=True))
        keep_rows, keep_cols = (cells[0] >= top) & (cells[0] <= bottom), (cells[1] >= left) & (cells[1] <= right)
        keep_rows, keep_cols = keep_rows.to(weights.device), keep_cols.to(weights.device)
        return Attention(by_col.mT[:, :, keep_rows][..., keep_cols], rows[keep_rows], cols[keep_cols])


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

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> FilterGuidance:
        image = image.to(working_dtype(self, image.device))
        guide = F.interpolate(image, size=output_size, mode="bilinear", align_corners=False)
        windows = make_windows("bilinear", output_size, grid, self.radius)
        weights = self.bilateral_filter.cell_weights(guide, windows)
        return FilterGuidance(weights, windows, sums_to_one=self.keeps_constants)
