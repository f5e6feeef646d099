"""Cross-scale neighborhood attention (NAF, eq. 3): fine queries, coarse keys and values, nothing upsampled.

Backends give the same numbers and gradients:

- ``reference``: gathers the k x k keys of every pixel. The definition; slow, any dtype.
- ``blocked``: dense products over tiles of pixels that share keys (see :mod:`naf.ops.tiling`). Any device.

Scores, softmax and sums are taken in float32 (float64 if an operand is float64), whatever the dtype of the values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from naf.ops.autograd import backward_pass, savable
from naf.ops.neighborhood import Neighborhood
from naf.ops.tiling import AxisTiles, plan_tiles

Backend = Literal["auto", "reference", "blocked"]

_CPU_ELEMENTS = 1 << 21  # scores a step on the CPU: 8 MiB, so that a step stays in the outer cache
_DEVICE_ELEMENTS = 1 << 26  # scores a step elsewhere: 256 MiB, to fill the device
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
        backend: "auto" (the fastest there is for the device), "blocked" or "reference".

    Returns:
        (B, n, Ho, Wo, e), or (B, 1, Ho, Wo, e) for shared values; dtype of v, laid out in memory as
        (B, Ho, Wo, n, e): channels last.

    Raises:
        ValueError: if the shapes do not fit each other, or the backend is unknown.
    """
    _check(q, k, v, neighborhood)
    if backend not in get_args(Backend):
        raise ValueError(f"backend is {backend!r}, expected one of {', '.join(map(repr, get_args(Backend)))}")
    with torch.autocast(q.device.type, enabled=False):
        q, k, v = savable(q, k, v)
        if backend == "reference":
            return _reference(q, k, v, neighborhood, scale)
        return _Blocked.apply(q, k, v, neighborhood, scale)  # type: ignore[no-any-return]


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
    dtype = _compute_dtype(q, k, v)
    weights = point_scores(q.to(dtype), k, rows, cols, scale).softmax(-1)  # (B, n, N, kh*kw)
    if v.shape[1] != q.shape[1]:
        weights = weights.mean(1, keepdim=True)
    values = _gather(v.to(dtype), rows, cols)  # (B, n, N, kh*kw, e)
    return (weights[..., None, :] @ values)[..., 0, :].to(v.dtype)


def point_scores(q: Tensor, k: Tensor, rows: Tensor, cols: Tensor, scale: float) -> Tensor:
    """Scaled scores of single positions, minus infinity where a position has no cell.

    Arguments as :func:`attend_points`, result (B, n, N, kh * kw).
    """
    dtype = _compute_dtype(q, k)
    keys = _gather(k.to(dtype), rows, cols)
    scores: Tensor = (keys @ q.to(dtype)[..., None])[..., 0] * scale
    return scores.masked_fill(_is_none(rows, cols), -math.inf)


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


def _compute_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


# reference ----------------------------------------------------------------------------------------------------------


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
    # Where there is no cell, one that the position has is read, so that its weight of 0 meets no other's NaN.
    rows, cols = (torch.where(table < 0, table.amax(1, keepdim=True), table) for table in (rows, cols))
    cells = (rows[:, :, None] * x.shape[3] + cols[:, None, :]).flatten(1)  # (N, kh*kw)
    return x.flatten(2, 3)[:, :, cells]


def _is_none(rows: Tensor, cols: Tensor) -> Tensor:
    """Where a position has no cell, (N, kh*kw)."""
    return ((rows < 0)[:, :, None] | (cols < 0)[:, None, :]).flatten(1)


# blocked ------------------------------------------------------------------------------------------------------------


class _Blocked(torch.autograd.Function):
    """Tile by tile; the backward pass recomputes the weights of a tile instead of keeping k*k of them a pixel."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.neighborhood, ctx.scale = neighborhood, scale
        # 0 * NaN is NaN: cells that a pixel does not use must not be in its tile if they are not finite.
        ctx.may_merge = torch.compiler.is_compiling() or bool(v.isfinite().all())
        batch, heads, height, width, _ = q.shape
        out = torch.empty(batch, height, width, v.shape[1], v.shape[-1], dtype=v.dtype, device=v.device)
        out = out.permute(0, 3, 1, 2, 4)
        dtype = _compute_dtype(q, k, v)
        for tile in _tiles(q, neighborhood, dtype, ctx.may_merge):
            weights = tile.weights(tile.queries(q).to(dtype), tile.cells(k).to(dtype), scale)
            if v.shape[1] != heads:
                weights = tile.by_head(weights, heads).mean(1).flatten(0, 1)
            tile.write(out, weights @ tile.cells(v).to(dtype))
        return out

    @staticmethod
    @backward_pass
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        need_q, need_k, need_v = ctx.needs_input_grad[:3]
        heads, is_shared = q.shape[1], v.shape[1] != q.shape[1]
        dtype = _compute_dtype(q, k, v)
        grad_q = torch.empty_like(q) if need_q else None
        grad_k = torch.zeros(k.shape, dtype=dtype, device=k.device) if need_k else None
        grad_v = torch.zeros(v.shape, dtype=dtype, device=v.device) if need_v else None
        for tile in _tiles(q, ctx.neighborhood, dtype, ctx.may_merge):
            queries, keys = tile.queries(q).to(dtype), tile.cells(k).to(dtype)
            weights = tile.weights(queries, keys, ctx.scale)
            grad = tile.queries(grad_out, pad_with_zeros=True).to(dtype)
            if grad_v is not None:
                used = tile.by_head(weights, heads).mean(1).flatten(0, 1) if is_shared else weights
                tile.accumulate(grad_v, used.mT @ grad)
            if need_q or need_k:
                grad_weights = grad @ tile.cells(v).to(dtype).mT
                if is_shared:
                    grad_weights = tile.by_head(grad_weights.div_(heads), 1).repeat(1, heads, 1, 1, 1).flatten(0, 2)
                mean = (grad_weights * weights).sum(-1, keepdim=True)
                grad_scores = grad_weights.sub_(mean).mul_(weights).mul_(ctx.scale)
                if grad_q is not None:
                    tile.write(grad_q, grad_scores @ keys)
                if grad_k is not None:
                    tile.accumulate(grad_k, grad_scores.mT @ queries)
        return (
            grad_q,
            None if grad_k is None else grad_k.to(k.dtype),
            None if grad_v is None else grad_v.to(v.dtype),
            None,
            None,
        )


def _tiles(q: Tensor, neighborhood: Neighborhood, dtype: torch.dtype, may_merge: bool) -> Iterator[_Tile]:
    """One row tile times as many column tiles as fit the limit, in raster order."""
    rows, cols = plan_tiles(neighborhood, may_merge=may_merge)
    keys = rows.keys.shape[1] * cols.keys.shape[1]
    scores = q.shape[0] * q.shape[1] * rows.queries.shape[1] * cols.queries.shape[1] * keys
    step = max(1, (_CPU_ELEMENTS if q.device.type == "cpu" else _DEVICE_ELEMENTS) // scores)
    like = torch.empty((), dtype=dtype, device=q.device)
    for row in range(len(rows.keys)):
        for first in range(0, len(cols.keys), step):
            yield _Tile(rows, cols, row, first, min(first + step, len(cols.keys)), like)


class _Tile:
    """A row tile times T column tiles: T dense attentions of P pixels and U cells, for every image and head."""

    def __init__(self, rows: AxisTiles, cols: AxisTiles, row: int, first: int, last: int, like: Tensor) -> None:
        device = like.device
        self.top, self.bottom = rows.bounds[row], rows.bounds[row + 1]
        self.left, self.right = cols.bounds[first], cols.bounds[last]
        self.tiles, self.height, self.width = last - first, self.bottom - self.top, cols.queries.shape[1]
        self.key_rows = rows.keys[row].to(device)
        self.key_cols = cols.keys[first:last].flatten().to(device)
        self.positions = self.padding = None
        if self.right - self.left != self.tiles * self.width:
            self.positions = cols.queries[first:last].flatten().to(device)
            self.padding = cols.position_index(first, last).to(device)
        self.log_count = _joint_log_count(rows, cols, row, first, last, self.height)
        if self.log_count is not None:
            # Cast first: not every device knows float64.
            self.log_count = self.log_count.to(like.dtype).to(device)

    def queries(self, x: Tensor, *, pad_with_zeros: bool = False) -> Tensor:
        """The pixels of (B, n, Ho, Wo, d) as (B*n*T, P, d)."""
        x = x[:, :, self.top : self.bottom]
        if self.positions is None or self.padding is None:
            x = x[:, :, :, self.left : self.right]
        elif pad_with_zeros:
            zeros = x.new_zeros(*x.shape[:3], len(self.positions), x.shape[-1])
            x = zeros.index_copy_(3, self.padding, x[:, :, :, self.left : self.right])
        else:
            x = x.index_select(3, self.positions)
        x = x.unflatten(3, (self.tiles, self.width)).movedim(3, 2)  # (B, n, T, rows, cols, d)
        return x.reshape(-1, self.height * self.width, x.shape[-1])

    def cells(self, x: Tensor) -> Tensor:
        """The cells of (B, n, h, w, d) as (B*n*T, U, d)."""
        x = x.index_select(2, self.key_rows).index_select(3, self.key_cols)
        x = x.unflatten(3, (self.tiles, -1)).movedim(3, 2)  # (B, n, T, rows, cols, d)
        return x.reshape(-1, x.shape[3] * x.shape[4], x.shape[-1])

    def weights(self, queries: Tensor, keys: Tensor, scale: float) -> Tensor:
        """Softmax over the cells, (B*n*T, P, U)."""
        shape = (len(queries), queries.shape[1], keys.shape[1])
        if self.log_count is None:
            scores = torch.baddbmm(queries.new_zeros(()).expand(shape), queries, keys.mT, beta=0, alpha=scale)
        else:
            bias = self.log_count.expand(len(queries) // self.tiles, *self.log_count.shape).reshape(shape)
            scores = torch.baddbmm(bias, queries, keys.mT, alpha=scale)
        return scores.softmax(-1)

    def by_head(self, x: Tensor, heads: int) -> Tensor:
        """(B*n*T, P, U) as (B, n, T, P, U)."""
        split: Tensor = x.unflatten(0, (-1, heads, self.tiles))
        return split

    def write(self, out: Tensor, x: Tensor) -> None:
        """Put (B*n*T, P, e) at this tile's pixels of `out`, (B, n, Ho, Wo, e)."""
        x = x.view(*out.shape[:2], self.tiles, self.height, self.width, out.shape[-1])
        target = out[:, :, self.top : self.bottom, self.left : self.right]
        if self.padding is None:
            target.unflatten(3, (self.tiles, self.width)).copy_(x.movedim(2, 3))
        else:
            target.copy_(x.movedim(2, 3).flatten(3, 4).index_select(3, self.padding))

    def accumulate(self, out: Tensor, x: Tensor) -> None:
        """Add (B*n*T, U, e) to this tile's cells of `out`, (B, n, h, w, e)."""
        x = x.view(*out.shape[:2], self.tiles, len(self.key_rows), -1, out.shape[-1]).movedim(2, 3).flatten(3, 4)
        columns = x.new_zeros(*x.shape[:3], out.shape[3], x.shape[-1]).index_add_(3, self.key_cols, x)
        out.index_add_(2, self.key_rows, columns.to(out.dtype))


def _joint_log_count(rows: AxisTiles, cols: AxisTiles, row: int, first: int, last: int, height: int) -> Tensor | None:
    """Logarithm of the use counts of a step's cells, (T, P, U), or None where each is used once."""
    if rows.log_count is None and cols.log_count is None:
        return None
    row_count = torch.zeros(1, 1, 1) if rows.log_count is None else rows.log_count[row, None, :height]
    col_count = torch.zeros(1, 1, 1) if cols.log_count is None else cols.log_count[first:last]
    joint = row_count[:, :, None, :, None] + col_count[:, None, :, None, :]  # (T, rows, cols, key rows, key cols)
    tiles, width = last - first, cols.queries.shape[1]
    joint = joint.expand(tiles, height, width, rows.keys.shape[1], cols.keys.shape[1])
    return joint.reshape(tiles, height * width, -1)
