"""The blocked backend of :mod:`naf.ops.attention`: dense products over tiles of pixels that share keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from naf.ops.attention_convolutions import attend_tiles
from naf.ops.autograd import backward_pass
from naf.ops.buffers import new_buffer
from naf.ops.neighborhood import Neighborhood
from naf.ops.tiling import AxisTiles, plan_tiles

_CPU_ELEMENTS = 1 << 21  # scores a step on the CPU: 8 MiB, so that a step stays in the outer cache
_LEAST_PIXELS = 64  # of a tile: with fewer, batched products were measured to be faster than convolutions
_DEVICE_ELEMENTS = 1 << 26  # scores a step elsewhere: 256 MiB, to fill the device


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """What scores and sums are taken in: float64 if an operand is, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


class BlockedAttention(torch.autograd.Function):
    """Tile by tile; the backward pass recomputes the weights of a tile instead of keeping k*k of them a pixel."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.neighborhood, ctx.scale = neighborhood, scale
        ctx.may_merge = bears_zero_weights(v)
        batch, heads, height, width, _ = q.shape
        out = new_buffer((batch, height, width, v.shape[1], v.shape[-1]), v.dtype, v.device)
        dtype = compute_dtype(q, k, v)
        if _has_fast_convolutions(q.device) and dtype == torch.float32 and not torch.compiler.is_compiling():
            rows, cols = plan_tiles(neighborhood, may_merge=ctx.may_merge)
            if rows.queries.shape[1] * cols.queries.shape[1] >= _LEAST_PIXELS:
                attend_tiles(q, k, v, _columns(q, neighborhood, dtype, ctx.may_merge), scale, out)
                return out.permute(0, 3, 1, 2, 4)
        out = out.permute(0, 3, 1, 2, 4)
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
        needs = ctx.needs_input_grad[:3]
        return *_gradients(grad_out, q, k, v, ctx.neighborhood, ctx.scale, needs, ctx.may_merge), None, None

    @staticmethod
    def gradients(
        grad_out: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        neighborhood: Neighborhood,
        scale: float,
        needs: Sequence[bool],
    ) -> tuple[Tensor | None, ...]:
        """Gradients of q, k and v, None where not needed."""
        return _gradients(grad_out, q, k, v, neighborhood, scale, needs, bears_zero_weights(v))


def _gradients(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    neighborhood: Neighborhood,
    scale: float,
    needs: Sequence[bool],
    may_merge: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of q, k and v, None where not needed.

    Args:
        grad_out: of the result.
        q: queries, as all others those of the forward pass.
        k: keys.
        v: values.
        neighborhood: which coarse cells each output pixel attends to.
        scale: factor on q·k.
        needs: which of the three are wanted.
        may_merge: whether a tile may hold cells that some of its pixels do not use.
    """
    need_q, need_k, need_v = needs
    heads, is_shared = q.shape[1], v.shape[1] != q.shape[1]
    dtype = compute_dtype(q, k, v)
    grad_q = torch.empty_like(q) if need_q else None
    grad_k = torch.zeros(k.shape, dtype=dtype, device=k.device) if need_k else None
    grad_v = torch.zeros(v.shape, dtype=dtype, device=v.device) if need_v else None
    for tile in _tiles(q, neighborhood, dtype, may_merge):
        queries, keys = tile.queries(q).to(dtype), tile.cells(k).to(dtype)
        weights = tile.weights(queries, keys, scale)
        grad = tile.queries(grad_out, pad_with_zeros=True).to(dtype)
        if grad_v is not None:
            used = tile.by_head(weights, heads).mean(1).flatten(0, 1) if is_shared else weights
            tile.accumulate(grad_v, used.mT @ grad)
        if need_q or need_k:
            grad_weights = grad @ tile.cells(v).to(dtype).mT
            if is_shared:
                grad_weights = tile.by_head(grad_weights.div_(heads), 1).repeat(1, heads, 1, 1, 1).flatten(0, 2)
            mean = (grad_weights * weights).sum(-1, keepdim=True)
            grad_scores = grad_weights.sub_(mean).mul_(weights).mul_(scale)
            if grad_q is not None:
                tile.write(grad_q, grad_scores @ keys)
            if grad_k is not None:
                tile.accumulate(grad_k, grad_scores.mT @ queries)
    return (
        grad_q,
        None if grad_k is None else grad_k.to(k.dtype),
        None if grad_v is None else grad_v.to(v.dtype),
    )


def _has_fast_convolutions(device: torch.device) -> bool:
    """Whether oneDNN serves; PyTorch's own grouped convolutions are slower than its batched products."""
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def bears_zero_weights(v: Tensor) -> bool:
    """Whether a tile may hold cells that some of its pixels do not use: 0 * NaN is NaN."""
    return torch.compiler.is_compiling() or bool(v.isfinite().all())


def _tiles(q: Tensor, neighborhood: Neighborhood, dtype: torch.dtype, may_merge: bool) -> Iterator[_Tile]:
    """One row tile times as many column tiles as fit the limit, column by column."""
    return itertools.chain.from_iterable(_columns(q, neighborhood, dtype, may_merge))


def _columns(q: Tensor, neighborhood: Neighborhood, dtype: torch.dtype, may_merge: bool) -> Iterator[Iterator[_Tile]]:
    """The same, each column by itself, from top to bottom."""
    rows, cols = plan_tiles(neighborhood, may_merge=may_merge)
    keys = rows.keys.shape[1] * cols.keys.shape[1]
    scores = q.shape[0] * q.shape[1] * rows.queries.shape[1] * cols.queries.shape[1] * keys
    step = max(1, (_CPU_ELEMENTS if q.device.type == "cpu" else _DEVICE_ELEMENTS) // scores)
    step = -(-len(cols.keys) // -(-len(cols.keys) // step))  # of about one size
    like = torch.empty((), dtype=dtype, device=q.device)
    for first in range(0, len(cols.keys), step):
        last = min(first + step, len(cols.keys))
        # One tile at a time: the counts of a tile are as large as its scores.
        yield (_Tile(rows, cols, row, first, last, like) for row in range(len(rows.keys)))


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
