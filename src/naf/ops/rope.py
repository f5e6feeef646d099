"""Axial rotary position embedding of a feature map (Su et al., arXiv 2104.09864; NAF, section 3.1).

Written from the formulas: channel a of a head is paired with channel a + D/2; the first half of the pairs is
rotated by the row, the second half by the column, each axis scaled to -1 … 1 by its own length.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROTATED_ELEMENTS = 1 << 21  # of a strip that is rotated at once


def rope_periods(head_dim: int, base: float) -> Tensor:
    """Periods base^(j / (D/4)), j = 0 … D/4 - 1, shared by rows, columns and heads.

    Args:
        head_dim: channels a head, D, a multiple of 4.
        base: ratio between the end of the geometric series and its start.

    Returns:
        (D/4,) float32, in units of the coordinate, which spans 2 from edge to edge.
    """
    quarter = head_dim // 4
    return base ** (torch.arange(quarter, dtype=torch.float32) / quarter)


def rope_angles(size: int, periods: Tensor, rescale: float | Tensor = 1.0) -> Tensor:
    """Rotation angles along one axis of `size` positions, at pixel centres.

    Args:
        size: number of positions; position i lies at 2 (i + 1/2) / size - 1.
        periods: (D/4,), float32 or float64; the angles have its dtype and device.
        rescale: factor on the coordinates.

    Returns:
        (size, D/4) in radians.
    """
    centre = torch.arange(size, device=periods.device, dtype=periods.dtype) + 0.5
    coordinate = (2.0 * (centre / size) - 1.0) * rescale
    return 2 * math.pi * coordinate[:, None] / periods


def rotate(x: Tensor, row_angles: Tensor, col_angles: Tensor, *, heads: int) -> Tensor:
    """Rotate the channel pairs of a map by the angles of its rows and columns.

    Args:
        x: (B, H, W, heads * D), channels last, float.
        row_angles: (H, D/4), radians.
        col_angles: (W, D/4), radians.
        heads: RoPE heads, contiguous chunks of channels.

    Returns:
        (B, H, W, heads * D); float32 for half-precision input, else the dtype of x.
    """
    height, width, quarter = len(row_angles), len(col_angles), row_angles.shape[1]
    angles = torch.cat(
        [row_angles[:, None].expand(-1, width, -1), col_angles[None].expand(height, -1, -1)], dim=-1
    )  # (H, W, D/2)
    cos, sin = angles.cos()[:, :, None], angles.sin()[:, :, None]
    pairs = x.unflatten(-1, (heads, 2, 2 * quarter))  # (B, H, W, heads, 2, D/2)
    first, second = pairs.unbind(-2)
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-2).flatten(-3)
    out = torch.empty(pairs.shape, dtype=torch.promote_types(x.dtype, cos.dtype), device=x.device)
    torch.mul(first, cos, out=out[..., 0, :]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., 1, :]).addcmul_(first, sin)
    return out.flatten(-3)


def rotate_in_place(x: Tensor, row_angles: Tensor, col_angles: Tensor, *, heads: int) -> None:
    """As :func:`rotate`, strip by strip, since a rotation makes a copy. No gradients.

    Args:
        x: (B, H, W, heads * D), any strides; keeps its dtype.
        row_angles: (H, D/4), radians.
        col_angles: (W, D/4), radians.
        heads: RoPE heads.
    """
    rows = max(1, _ROTATED_ELEMENTS // (x.shape[2] * x.shape[3]))
    for strip, angles in zip(x.split(rows, dim=1), row_angles.split(rows), strict=True):
        strip.copy_(rotate(strip, angles, col_angles, heads=heads))


def adjacent_pairs(head_dim: int, heads: int) -> Tensor:
    """Order of channels in which the two of each pair follow each other, for :func:`rotate_adjacent`.

    Args:
        head_dim: channels a head, D.
        heads: RoPE heads.

    Returns:
        (heads * D,) int64: position → channel.
    """
    channels: Tensor = torch.arange(heads * head_dim).unflatten(0, (heads, 2, -1))
    return channels.transpose(1, 2).flatten()


def rotate_adjacent(x: Tensor, row_angles: Tensor, col_angles: Tensor, *, heads: int, out: Tensor) -> None:
    """As :func:`rotate`, for channels in the order of :func:`adjacent_pairs`: one complex product. No gradients.

    Args:
        x: (H, W, heads * D), contiguous.
        row_angles: (H, D/4), radians.
        col_angles: (W, D/4), radians.
        heads: RoPE heads.
        out: where to write, (H, W, heads * D) or (H, W, heads, D), channels of a head adjacent in memory; bfloat16 is
            computed in float32.

    Rows and columns may have other numbers of angles than D/4, if those of both make D/2.
    """
    height, width, dtype = len(row_angles), len(col_angles), row_angles.dtype
    out = out.view(height, width, heads, -1, 2)
    rows, cols = (torch.polar(torch.ones_like(angles), angles) for angles in (row_angles, col_angles))
    turn = torch.cat([rows[:, None].expand(-1, width, -1), cols[None].expand(height, -1, -1)], dim=-1)[:, :, None]
    pairs = torch.view_as_complex(x.to(dtype).unflatten(-1, (heads, -1, 2)))  # (H, W, heads, D/2)
    if out.dtype == dtype:
        torch.mul(pairs, turn, out=torch.view_as_complex(out))
    else:
        out.copy_(torch.view_as_real(pairs * turn))
