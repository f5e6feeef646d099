"""RoPE and the pooling of keys on CUDA: one pass over the guidance gives queries and keys.

The guidance may come as two maps, one a branch, so that it is never concatenated; queries and keys keep its dtype.
Angles are computed where they are used, in float32: those of the columns once a program, those of a row once a row.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from naf.ops import rope_triton_kernels as kernels
from naf.ops.triton_device import LAUNCH

_PIXELS = 32  # of a program's row of cells
_ROWS = 8  # of a program's tile where no keys are pooled


def rotate_and_pool(
    maps: tuple[Tensor, ...], periods: Tensor, grid: tuple[int, int], *, heads: int, interleave: bool = False
) -> tuple[Tensor, Tensor]:
    """Queries, the guidance rotated by its position, and keys, their means over coarse cells. Differentiable.

    Args:
        maps: one map (B, Ho, Wo, heads * D), or two whose channels follow each other; float32, bfloat16 or float16,
            on a device where Triton runs.
        periods: (D/4,) float32, of :func:`naf.ops.rope.rope_periods`, divided by any factor on the coordinates; or
            (2, D/4), of rows and columns.
        grid: coarse grid (h, w); adaptive average pooling where it does not divide (Ho, Wo).
        heads: RoPE heads, contiguous chunks of channels.
        interleave: whether the channels of two maps alternate, (B, Ho, Wo, heads * D / 2) each.

    Returns:
        Queries (B, Ho, Wo, heads * D) and keys (B, h, w, heads * D), dtype of the maps.
    """
    height, width = maps[0].shape[1:3]
    maps = tuple(x.contiguous() for x in maps)
    periods = periods.expand(2, -1)
    divides = height % grid[0] == 0 and width % grid[1] == 0
    with torch.cuda.device_of(maps[0]):
        if divides and grid != (height, width):
            queries, keys = _RotateAndPool.apply(periods, heads, interleave, grid, *maps)
            return queries, keys
        queries = _RotateAndPool.apply(periods, heads, interleave, None, *maps)
    if divides:
        return queries, queries
    keys = torch.nn.functional.adaptive_avg_pool2d(queries.permute(0, 3, 1, 2), grid)
    return queries, keys.permute(0, 2, 3, 1)


class _RotateAndPool(torch.autograd.Function):
    """Queries alone without a grid, which must divide the map and be smaller on an axis."""

    @staticmethod
    def forward(
        ctx: Any, periods: Tensor, heads: int, interleave: bool, grid: tuple[int, int] | None, *maps: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        batch, height, width, _ = maps[0].shape
        widths = [x.shape[-1] for x in maps]
        ctx.save_for_backward(periods)
        ctx.heads, ctx.interleave, ctx.grid, ctx.widths = heads, interleave, grid, widths
        queries = maps[0].new_empty(batch, height, width, sum(widths))
        keys = None if grid is None else queries.new_empty(batch, *grid, sum(widths))
        cell = (_ROWS, _PIXELS) if grid is None else (height // grid[0], width // grid[1])
        span = min(_PIXELS, triton.next_power_of_2(cell[1]))
        cells = _PIXELS // span
        programs = triton.cdiv(width, cells * cell[1]), triton.cdiv(height, cell[0]), batch * heads
        kernels.rotate[programs](
            *(*_pair(maps), periods, queries, keys, height, width, *cell),
            *(*_channels(widths, heads, interleave, periods), cells, span),
            num_warps=_warps(periods),
            **LAUNCH,
        )
        return queries if keys is None else (queries, keys)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_queries: Tensor, grad_keys: Tensor | None = None) -> tuple[Tensor | None, ...]:
        (periods,) = ctx.saved_tensors
        batch, height, width, _ = grad_queries.shape
        grads = tuple(grad_queries.new_empty(batch, height, width, channels) for channels in ctx.widths)
        cell = (1, 1) if ctx.grid is None else (height // ctx.grid[0], width // ctx.grid[1])
        programs = triton.cdiv(width, _PIXELS), triton.cdiv(height, _ROWS), batch * ctx.heads
        with torch.cuda.device_of(grad_queries):
            kernels.rotate_back[programs](
                *(grad_queries.contiguous(), None if grad_keys is None else grad_keys.contiguous(), periods),
                *(*_pair(grads), height, width, *cell, *_channels(ctx.widths, ctx.heads, ctx.interleave, periods)),
                *(_ROWS, _PIXELS),
                num_warps=_warps(periods),
                **LAUNCH,
            )
        return None, None, None, None, *grads


def _pair(maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor | None]:
    return maps[0], maps[1] if len(maps) > 1 else None


def _channels(
    widths: list[int], heads: int, interleave: bool, periods: Tensor
) -> tuple[int, int, int, bool, int, int, int]:
    """Compile-time constants of the kernels.

    Channels of the first map and of all, heads, whether maps alternate, a quarter of a head, the place of the columns'
    periods behind the rows', and the power of two that holds half a head.
    """
    quarter = periods.shape[1]
    half = triton.next_power_of_2(2 * quarter)
    return widths[0], sum(widths), heads, interleave, quarter, periods.stride(0), half


def _warps(periods: Tensor) -> int:
    """Warps that hold a block of pixels without spilling."""
    return 4 if periods.shape[1] <= 16 else 8
