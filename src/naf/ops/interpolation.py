"""Separable interpolation as tables of taps: which coarse positions an output position reads, with which weights.

Half-pixel centres throughout (align_corners False): output position i reads at (i + 1/2) * coarse / fine - 1/2.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.tables import cached_table

Mode = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_CUBIC = -0.75  # PyTorch's coefficient
_LOBES = 3


class Taps(NamedTuple):
    """Taps along one axis.

    Attributes:
        cells: coarse positions, (fine, taps) int64.
        weight: their weights, (fine, taps) float64; each row sums to one.
    """

    cells: Tensor
    weight: Tensor


def nearest_cells(fine: int, coarse: int) -> Tensor:
    """The coarse position that each fine position takes by PyTorch's nearest-exact, (fine,) int64.

    Exact ties are left to PyTorch's float32 kernel for plain maps; its other kernels decide some of them otherwise.
    """
    ramp = torch.arange(coarse, dtype=torch.float32)[None, None, :, None]
    return F.interpolate(ramp, size=(fine, 1), mode="nearest-exact")[0, 0, :, 0].long()


@cached_table(maxsize=64)
def axis_taps(mode: Mode, fine: int, coarse: int) -> Taps:
    """Taps of an interpolation along one axis, up or down; on the CPU, shared between calls.

    "nearest" is PyTorch's nearest-exact, "bilinear" and "bicubic" (a = -0.75) are PyTorch's with align_corners
    False and no antialiasing; "lanczos" is Pillow's: three lobes, widened by the ratio where it reduces, cut off
    at the border and normalised.
    """
    if mode == "nearest":
        return Taps(nearest_cells(fine, coarse)[:, None], torch.ones(fine, 1, dtype=torch.float64))
    position = (torch.arange(fine, dtype=torch.float64) + 0.5) * coarse / fine - 0.5
    if mode == "lanczos":
        stretch = max(coarse / fine, 1.0)
        reach = _LOBES * stretch
        index = (position - reach).floor().long()[:, None] + torch.arange(2 * math.ceil(reach) + 2)
        distance = (index - position[:, None]) / stretch
        weight = torch.sinc(distance) * torch.sinc(distance / _LOBES)
        weight = weight.masked_fill((distance.abs() >= _LOBES) | (index < 0) | (index >= coarse), 0)
        # Taps without weight read a cell that has some, so that a NaN reaches only those that use it.
        used = index.gather(1, weight.abs().argmax(1, keepdim=True))
        return Taps(torch.where(weight == 0, used, index), weight / weight.sum(1, keepdim=True))
    if mode == "bilinear":
        position = position.clamp(min=0)
    floor = position.floor()
    t = position - floor
    if mode == "bilinear":
        weights, offsets = [1 - t, t], [0, 1]
    else:
        weights, offsets = [_cubic(t + 1), _cubic(t), _cubic(1 - t), _cubic(2 - t)], [-1, 0, 1, 2]
    index = floor.long()[:, None] + torch.tensor(offsets)
    return Taps(index.clamp(0, coarse - 1), torch.stack(weights, 1))


def _cubic(distance: Tensor) -> Tensor:
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
    return torch.where(distance <= 1, near, far)


def interpolate_axis(x: Tensor, taps: Taps, dim: int) -> Tensor:
    """Apply taps along a dimension, in float32 or better.

    Args:
        x: any shape, `coarse` positions along `dim`.
        taps: (fine, taps) tables.
        dim: which dimension.

    Returns:
        x with `fine` positions along `dim`; float32 for half-precision input.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    taps = Taps(taps.cells.to(x.device), taps.weight.to(dtype).to(x.device))
    if taps.cells.shape[1] == 1:
        return x.index_select(dim, taps.cells[:, 0]).to(dtype)
    if torch.compiler.is_compiling() or x.isfinite().all():
        # Coarse axes are short: one product with a dense (fine, coarse) matrix beats gathering tap by tap.
        matrix = taps.weight.new_zeros(len(taps.cells), x.shape[dim]).scatter_add_(1, taps.cells, taps.weight)
        with torch.autocast(x.device.type, enabled=False):
            product: Tensor = torch.tensordot(x.to(dtype), matrix, dims=([dim], [1]))
        return torch.movedim(product, -1, dim)
    # 0 * NaN is NaN: only the taps may be multiplied.
    weight = taps.weight.view([-1, taps.cells.shape[1]] + [1] * (x.ndim - 1 - dim % x.ndim))
    gathered = x.to(dtype).index_select(dim, taps.cells.flatten()).unflatten(dim, tuple(taps.cells.shape))
    summed: Tensor = (gathered * weight).sum(dim % x.ndim + 1)
    return summed
