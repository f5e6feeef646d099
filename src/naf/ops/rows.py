"""Zero-padded 3x3 convolutions on bands of rows: what a band needs of its input, and where padding belongs.

A band is computed from the rows that it needs and no others. Zeros stand only beyond the borders of the whole map, so
bands together equal the whole map, also where convolutions follow each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.interpolation import Taps, axis_taps, interpolate_axis

Rows = Callable[[int, int], Tensor]
"""Gives rows start … stop - 1 of a map, (B, C, stop - start, W)."""

_CPU_PIXELS, _DEVICE_PIXELS = 1 << 14, 1 << 17  # of a band
_LEAST_ROWS = 8  # of a band: its halo costs up to two more rows of each convolution


class FoldedConv(NamedTuple):
    """A 3x3 convolution with the batch norm that follows it, in evaluation mode.

    Attributes:
        weight: (D, C, 3, 3), channels last in memory.
        bias: (D,).
        stride: 1 or 2.
    """

    weight: Tensor
    bias: Tensor
    stride: int


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype) -> FoldedConv:
    """One convolution that does what the two do in evaluation mode, its parameters in dtype; differentiable."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.to(dtype) / (norm.running_var.to(dtype) + norm.eps).sqrt()
    bias = -norm.running_mean.to(dtype) if conv.bias is None else conv.bias.to(dtype) - norm.running_mean.to(dtype)
    weight = (conv.weight.to(dtype) * scale[:, None, None, None]).contiguous(memory_format=torch.channels_last)
    return FoldedConv(weight, bias * scale + norm.bias.to(dtype), conv.stride[0])


def rows_needed(start: int, stop: int, stride: int, height: int) -> tuple[int, int]:
    """First and last + 1 of the input rows that output rows start … stop - 1 of a 3x3 convolution read.

    Args:
        start: first output row.
        stop: last output row + 1.
        stride: of the convolution, with one row of padding.
        height: of the input.
    """
    return max(start * stride - 1, 0), min((stop - 1) * stride + 2, height)


def conv_rows(x: Tensor, conv: FoldedConv, start: int, stop: int, height: int) -> Tensor:
    """Output rows start … stop - 1 of a convolution and ReLU.

    Args:
        x: the rows that :func:`rows_needed` names, (B, C, rows, W).
        conv: the convolution.
        start: first output row.
        stop: last output row + 1.
        height: rows of the whole input.

    Returns:
        (B, D, stop - start, W'), channels last in memory where x is.
    """
    top = start * conv.stride == 0
    bottom = (stop - 1) * conv.stride + 2 > height
    if top and bottom:  # the convolution pads by itself
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, 1).relu_()
    padded = F.pad(x, (0, 0, int(top), int(bottom))) if top or bottom else x
    return F.conv2d(padded, conv.weight, conv.bias, conv.stride, (0, 1)).relu_()


def band_rows(width: int, device: torch.device) -> int:
    """Rows of a band of that width: little memory on the CPU, enough work elsewhere."""
    return max(_LEAST_ROWS, (_CPU_PIXELS if device.type == "cpu" else _DEVICE_PIXELS) // width)


def bands(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """Cut start … stop - 1 into bands of at most `rows`, in order."""
    for top in range(start, stop, rows):
        yield top, min(top + rows, stop)


def join(pieces: Iterable[Tensor], size: int, dtype: torch.dtype) -> Tensor:
    """Concatenate along dimension 1, piece by piece, so that the pieces are not held beside their sum.

    Args:
        pieces: (B, n, …), at least one.
        size: sum of their n.
        dtype: of the result.

    Returns:
        (B, size, …), contiguous.
    """
    remaining = iter(pieces)
    first = next(remaining)
    if first.requires_grad:  # writing into a buffer would make autograd copy it at every step
        return torch.cat([first, *remaining], dim=1).to(dtype)
    out = first.new_empty(first.shape[0], size, *first.shape[2:], dtype=dtype)
    done = 0
    for piece in itertools.chain([first], remaining):
        out[:, done : done + piece.shape[1]] = piece
        done += piece.shape[1]
    return out


def join_bands(make: Rows, start: int, stop: int, rows: int, dtype: torch.dtype) -> Tensor:
    """Output rows start … stop - 1, made in bands.

    Args:
        make: gives some rows, (B, C, rows, W).
        start: first row.
        stop: last row + 1.
        rows: of a band, at most.
        dtype: of the result.

    Returns:
        (B, C, stop - start, W), channels last in memory.
    """
    pieces = (make(*band).permute(0, 2, 3, 1) for band in bands(start, stop, rows))
    return join(pieces, stop - start, dtype).permute(0, 3, 1, 2)


def pick_points(make: Rows, rows: Tensor, cols: Tensor, like: Tensor) -> Tensor:
    """Pixels of an output that is made in bands; only bands that hold a pixel are made.

    Args:
        make: gives some rows, (B, C, rows, W).
        rows: (N,) int64, on the CPU.
        cols: (N,) int64, on the CPU.
        like: tells batch, channels, dtype and device, (B, C, …).

    Returns:
        (B, C, N).
    """
    out = like.new_empty(*like.shape[:2], len(rows))
    group = rows // _LEAST_ROWS
    for index in group.unique().tolist():
        hit = group == index
        first, last = int(rows[hit].min()), int(rows[hit].max())
        out[:, :, hit] = make(first, last + 1)[:, :, rows[hit] - first, cols[hit]]
    return out


def resized_rows(make: Rows, size: tuple[int, int], output_size: tuple[int, int]) -> Rows:
    """Rows of a map after bilinear resizing (align_corners False).

    Args:
        make: gives rows of the map.
        size: of the map, (H, W).
        output_size: (Ho, Wo).
    """
    row_taps, col_taps = (axis_taps("bilinear", fine, made) for fine, made in zip(output_size, size, strict=True))

    def resized(start: int, stop: int) -> Tensor:
        # The rows that the taps read, from their definition: values of tensors may not steer a traced call.
        above, below = (max((row + 0.5) * size[0] / output_size[0] - 0.5, 0.0) for row in (start, stop - 1))
        first, last = math.floor(above), min(math.floor(below) + 2, size[0])
        taps = Taps(row_taps.cells[start:stop] - first, row_taps.weight[start:stop])
        return interpolate_axis(interpolate_axis(make(first, last), taps, 2), col_taps, 3)

    return resized
