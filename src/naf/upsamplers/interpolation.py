"""Upsamplers that ignore the image: nearest, bilinear, bicubic, Lanczos."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.interpolation import Mode, Taps, axis_taps, interpolate_axis
from naf.registry import register
from naf.upsamplers.base import Attention, Guidance, Upsampler


class InterpolationGuidance(Guidance):
    """Taps along both axes; nothing of the image."""

    def __init__(self, batch: int | None, mode: Mode, grid: tuple[int, int], output_size: tuple[int, int]) -> None:
        super().__init__(batch, grid, output_size)
        self.mode = mode
        self.rows, self.cols = (axis_taps(mode, fine, coarse) for fine, coarse in zip(output_size, grid, strict=True))

    def _upsample(self, features: Tensor) -> Tensor:
        if self.mode in ("bilinear", "bicubic"):
            return F.interpolate(features, size=self.output_size, mode=self.mode, align_corners=False)
        if self.mode == "nearest" and features.dtype == torch.float32 and features.is_contiguous():
            # The kernel that made the table, faster than the table; its others decide exact ties otherwise.
            return F.interpolate(features, size=self.output_size, mode="nearest-exact")
        return self._bands(features)(0, self.output_size[0])

    def _upsample_linear(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Weights sum to one and are the same for all channels: the head, bias included, goes first.
        return self._upsample(F.conv2d(features, weight[:, :, None, None], bias))

    def _bands(self, features: Tensor) -> Callable[[int, int], Tensor]:
        def make(start: int, stop: int) -> Tensor:
            taps = Taps(self.rows.cells[start:stop], self.rows.weight[start:stop])
            rows = interpolate_axis(features, taps, dim=2)
            return interpolate_axis(rows, self.cols, dim=3).to(features.dtype)

        return make

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        row_index, row_weight = (table[rows] for table in self.rows)  # (N, taps)
        col_index, col_weight = (table[cols] for table in self.cols)
        cells = features[:, :, row_index[:, :, None], col_index[:, None, :]]  # (B, C, N, taps, taps)
        dtype = torch.promote_types(features.dtype, torch.float32)
        weight = (row_weight[:, :, None] * col_weight[:, None, :]).to(dtype).to(features.device)
        return (cells.to(dtype) * weight).sum((3, 4)).to(features.dtype)

    def _attention(self, row: int, col: int, features: Tensor | None) -> Attention:
        del features  # the weights come from the sizes alone
        weights = self.rows.weight[row][:, None] * self.cols.weight[col]
        return Attention(
            weights.float()[None, None].expand(self.batch or 1, 1, -1, -1), self.rows.cells[row], self.cols.cells[col]
        )


class Interpolation(Upsampler):
    """Base of the four: no parameters, no configuration, any size up or down; the image may be None."""

    mode: ClassVar[Mode]
    uses_image = False

    def _encode(
        self, image: Tensor | None, output_size: tuple[int, int], grid: tuple[int, int]
    ) -> InterpolationGuidance:
        return InterpolationGuidance(None if image is None else image.shape[0], self.mode, grid, output_size)


@register("nearest", summary="nearest cell (PyTorch's nearest-exact)", paper="-")
class Nearest(Interpolation):
    """Each pixel takes the cell that holds its centre."""

    mode = "nearest"


@register("bilinear", summary="PyTorch's bilinear, half-pixel centres", paper="-")
class Bilinear(Interpolation):
    """Two taps an axis."""

    mode = "bilinear"


@register("bicubic", summary="PyTorch's bicubic (a = -0.75), half-pixel centres", paper="Keys 1981")
class Bicubic(Interpolation):
    """Four taps an axis, some of them negative."""

    mode = "bicubic"
    is_convex = False


@register("lanczos", summary="three-lobed Lanczos, as Pillow defines it", paper="Duchon 1979")
class Lanczos(Interpolation):
    """Six taps an axis, some of them negative; widened where it reduces."""

    mode = "lanczos"
    is_convex = False
