"""Cross-scale neighborhood attention (NAF, eq. 3): fine queries, coarse keys and values, nothing upsampled.

Backends give the same numbers and gradients:

- ``reference``: gathers the k x k keys of every pixel. The definition; slow, any dtype.
- ``blocked``: dense products over tiles of pixels that share keys (see :mod:`naf.ops.tiling`). Any device.
- ``window``: the same for ratio 1 alone, where each pixel attends to the window around itself, with the overlap of
  windows read in place (see :mod:`naf.ops.attention_window`). Any device; made for the CPU.
- ``triton``: the tiles of ``blocked`` in kernels of their own, for CUDA devices (see :mod:`naf.ops.attention_triton`);
  at ratio 1 those of :mod:`naf.ops.attention_window_triton`. float64 goes to ``blocked``, and so do, at other ratios,
  deterministic training and values that heads share and each pixel takes from hundreds of cells.

Scores, softmax and sums are taken in float32 (float64 if an operand is float64), whatever the dtype of the values.
Products multiply float32. They multiply half precision on the ``triton`` backend where q, k and v all are of one kind,
and, weights and values only, on the CPU where queries and values are bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import get_args

import torch
from torch import Tensor

from naf.ops.attention_blocked import compute_dtype
from naf.ops.attention_op import Backend, attend
from naf.ops.autograd import savable
from naf.ops.neighborhood import Neighborhood

__all__ = [
    "Backend",
    "attend_points",
    "neighborhood_attention",
    "neighborhood_scores",
    "point_scores",
]

_BACKENDS = get_args(Backend)
_GATHER_ELEMENTS = 1 << 24  # gathered keys and values a step


def neighborhood_attention(
    q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood, *, scale: float, backend: Backend = "auto"
) -> Tensor:
    """Softmax-weighted mean of the coarse values around each fine position.

    Args:
        q: queries, (B, n, Ho, Wo, d).
        k: keys, (B, n, h, w, d), on the coarse grid: never upsampled.
        v: values, (B, n, h, w, e); e may differ from d. (B, 1, h, w, e) stands for values that all heads share: the
            heads' weights are then averaged first.
        neighborhood: which coarse cells each output pixel attends to.
        scale: factor on q·k before the softmax.
        backend: "auto" ("triton" on CUDA devices where it is installed, "window" at ratio 1 on the CPU but for little
            work, else "blocked"), "triton", "window", "blocked" or "reference".

    Returns:
        (B, n, Ho, Wo, e), or (B, 1, Ho, Wo, e) for shared values; dtype of v, laid out in memory as
        (B, Ho, Wo, n, e): channels last.

    Raises:
        ValueError: if the shapes do not fit each other, or the backend is unknown or cannot run here; if it is
            "window" and the output grid is not that of the values.
    """
    _check(q, k, v, neighborhood)
    if backend not in _BACKENDS:
        raise ValueError(f"backend is {backend!r}, expected one of {', '.join(map(repr, _BACKENDS))}")
    with torch.autocast(q.device.type, enabled=False):
        q, k, v = savable(q, k, v)
        if backend == "reference":
            return _reference(q, k, v, neighborhood, scale)
        return attend(q, k, v, neighborhood, scale, backend)


def neighborhood_scores(q: Tensor, k: Tensor, neighborhood: Neighborhood, *, scale: float) -> Tensor:
    """Scaled scores before the softmax, as the official code returns them.

    Args:
        q: queries, (B, n, Ho, Wo, d).
        k: keys, (B, n, h, w, d).
        neighborhood: which coarse cells each output pixel attends to.
        scale: factor on q·k.

    Returns:
        (B, n, Ho, Wo, kh * kw), last index kernel row * kw + kernel column; float32 or float64.
    """
    _check(q, k, k, neighborhood)
    bands = []
    with torch.autocast(q.device.type, enabled=False):
        for start, stop in _bands(q, k, neighborhood):
            rows, cols = _pixel_tables(neighborhood.band(start, stop), q.device)
            points = q[:, :, start:stop].flatten(2, 3)
            bands.append(point_scores(points, k, rows, cols, scale).unflatten(2, (stop - start, -1)))
    return torch.cat(bands, dim=2)


def attend_points(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, cols: Tensor, *, scale: float) -> Tensor:
    """Attention of single output positions, each with its own cells.

    Args:
        q: queries, (B, n, N, d).
        k: keys, (B, n, h, w, d).
        v: values, (B, n, h, w, e), or (B, 1, h, w, e) shared by all heads.
        rows: coarse rows of each position, (N, kh) int64; -1 stands for none.
        cols: coarse columns of each position, (N, kw) int64, likewise.
        scale: factor on q·k before the softmax.

    Returns:
        (B, n, N, e) or (B, 1, N, e), dtype of v.
    """
    dtype = compute_dtype(q, k, v)
    weights = point_weights(point_scores(q.to(dtype), k, rows, cols, scale), v)
    values = _gather(v.to(dtype), rows, cols)  # (B, n, N, kh*kw, e)
    return (weights[..., None, :] @ values)[..., 0, :].to(v.dtype)


def point_scores(q: Tensor, k: Tensor, rows: Tensor, cols: Tensor, scale: float) -> Tensor:
    """Scaled scores of single positions, minus infinity where a position has no cell.

    Arguments as :func:`attend_points`, result (B, n, N, kh * kw).
    """
    dtype = compute_dtype(q, k)
    keys = _gather(k.to(dtype), rows, cols)
    scores: Tensor = (keys @ q.to(dtype)[..., None])[..., 0] * scale
    return scores.masked_fill(is_none(rows, cols), -math.inf)


def _check(q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood) -> None:
    (h, w), (ho, wo) = neighborhood.grid, neighborhood.output_size
    batch, heads, dim = (q.shape[0], q.shape[1], q.shape[-1]) if q.ndim == 5 else (-1, -1, -1)
    expected = {
        "q": (q, (batch, heads, ho, wo, dim)),
        "k": (k, (batch, heads, h, w, dim)),
        "v": (v, (batch, 1 if v.ndim == 5 and v.shape[1] == 1 else heads, h, w, v.shape[-1])),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape or 0 in shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, expected (B, n, rows, cols, dim) = {shape}, none 0"
            )


def _reference(q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood, scale: float) -> Tensor:
    bands = []
    for start, stop in _bands(q, v, neighborhood):
        rows, cols = _pixel_tables(neighborhood.band(start, stop), q.device)
        band = attend_points(q[:, :, start:stop].flatten(2, 3), k, v, rows, cols, scale=scale)
        bands.append(band.unflatten(2, (stop - start, -1)))
    return torch.cat(bands, dim=2).permute(0, 2, 3, 1, 4).contiguous().permute(0, 3, 1, 2, 4)


def _bands(q: Tensor, k: Tensor, neighborhood: Neighborhood) -> Iterator[tuple[int, int]]:
    """Bands of output rows whose gathered keys stay within the limit."""
    kh, kw = neighborhood.kernel
    row = q.shape[0] * q.shape[1] * q.shape[3] * kh * kw * max(q.shape[-1], k.shape[-1])
    step = max(1, _GATHER_ELEMENTS // row)
    for start in range(0, q.shape[2], step):
        yield start, min(start + step, q.shape[2])


def _pixel_tables(neighborhood: Neighborhood, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column tables of every pixel, row-major: (Ho*Wo, kh) and (Ho*Wo, kw)."""
    rows, cols = neighborhood.rows.to(device), neighborhood.cols.to(device)
    return rows.repeat_interleave(len(cols), 0), cols.repeat(len(rows), 1)


def _gather(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """(B, n, h, w, d) at the cells rows x cols of each of N positions: (B, n, N, kh*kw, d)."""
    return x.flatten(2, 3)[:, :, point_cells(rows, cols, x.shape[3])]


def point_cells(rows: Tensor, cols: Tensor, width: int) -> Tensor:
    """Index of each position's cells on the flattened grid, (N, kh*kw)."""
    # Where there is no cell, one that the position has is read, so that its weight of 0 meets no other's NaN.
    rows, cols = (torch.where(table < 0, table.amax(1, keepdim=True), table) for table in (rows, cols))
    return (rows[:, :, None] * width + cols[:, None, :]).flatten(1)


def is_none(rows: Tensor, cols: Tensor) -> Tensor:
    """Where a position has no cell, (N, kh*kw)."""
    return ((rows < 0)[:, :, None] | (cols < 0)[:, None, :]).flatten(1)


def point_weights(scores: Tensor, v: Tensor) -> Tensor:
    """Weights of single positions, (B, n, N, kh * kw); of one head, the heads' mean, where they share the values."""
    weights = scores.to(compute_dtype(scores, v)).softmax(-1)
    return weights if v.shape[1] == scores.shape[1] else weights.mean(1, keepdim=True)
