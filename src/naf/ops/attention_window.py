"""The window backend of :mod:`naf.ops.attention`: ratio 1, each pixel attends to the window around itself.

Neighbouring windows overlap, so a tile of pixels needs few more keys than one pixel: those of its halo. The rows of
keys that a row of tiles needs wait in a ring with the rows side by side at each column. The halo of a tile is then one
piece of memory, and the halos of its neighbours begin a fixed step further on: a row of tiles is one batch of products
that reads the ring in place, and going down copies each key once. Products outside of a window are masked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from naf.ops.attention_blocked import BlockedAttention, bears_zero_weights, compute_dtype
from naf.ops.autograd import backward_pass
from naf.ops.buffers import new_buffer
from naf.ops.neighborhood import Neighborhood
from naf.ops.sliding import SlidingAxis, SlidingWindow, sliding_window

_TILE, _LARGE_TILE = 4, 8  # pixels of a side: smaller ones multiply slower, larger ones multiply more in vain
_LARGE_KERNEL = 24  # from which a large tile was measured faster
_CPU_ELEMENTS = 1 << 17  # scores a step on the CPU: 512 KiB, so that a step stays in the inner cache
_DEVICE_ELEMENTS = 1 << 26  # elsewhere: 256 MiB, to fill the device
_RING_ELEMENTS = 1 << 21  # of keys and values in rings: 8 MiB
_LEAST_PRODUCTS = 1 << 23  # multiply-adds of an image and head: below, the steps cost more than they save
_FEW_CHANNELS = 16  # values of so few channels are multiplied faster channel by channel


class WindowAttention(torch.autograd.Function):
    """Tile by tile; the backward pass recomputes the weights of a tile instead of keeping k*k of them a pixel.

    Values that are not finite go to :class:`BlockedAttention`, which keeps them from pixels outside of their windows.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood, scale: float) -> Tensor:
        windows = _windows(neighborhood)
        if not bears_zero_weights(v):
            return BlockedAttention.forward(ctx, q, k, v, neighborhood, scale)
        ctx.save_for_backward(q, k, v)
        ctx.neighborhood, ctx.scale = neighborhood, scale
        batch, _, height, width, _ = q.shape
        out = new_buffer((batch, height, width, v.shape[1], v.shape[-1]), v.dtype, v.device).permute(0, 3, 1, 2, 4)
        for block in _blocks(windows, q, k, v):
            work = _Forward(block, q[0], k[0], v[0], out[0], scale)
            for sample in range(batch):
                work.run(q[sample], k[sample], v[sample], out[sample])
        return out

    @staticmethod
    @backward_pass
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        return *WindowAttention.gradients(grad_out, q, k, v, ctx.neighborhood, ctx.scale, needs), None, None

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
        windows = _windows(neighborhood)
        if not bears_zero_weights(v):
            return BlockedAttention.gradients(grad_out, q, k, v, neighborhood, scale, needs)
        need_q, need_k, need_v = needs
        dtype = compute_dtype(q, k, v)
        grad_q = torch.empty_like(q) if need_q else None
        grad_k = torch.zeros_like(k, dtype=dtype) if need_k else None
        grad_v = torch.zeros_like(v, dtype=dtype) if need_v else None
        for block in _blocks(windows, q, k, v):
            work = _Backward(block, grad_out[0], q[0], k[0], v[0], scale, needs)
            for sample in range(len(q)):
                grads = [None if grad is None else grad[sample] for grad in (grad_q, grad_k, grad_v)]
                work.run(grad_out[sample], q[sample], k[sample], v[sample], *grads)
        return (
            grad_q,
            None if grad_k is None else grad_k.to(k.dtype),
            None if grad_v is None else grad_v.to(v.dtype),
        )


def pays(q: Tensor, neighborhood: Neighborhood) -> bool:
    """Whether this backend serves queries (B, n, Ho, Wo, d), and is expected to be faster than the blocked one."""
    windows = sliding_window(neighborhood)
    if windows is None or q.device.type != "cpu":
        return False
    return math.prod(q.shape[2:]) * windows.rows.kernel * windows.cols.kernel >= _LEAST_PRODUCTS


def _windows(neighborhood: Neighborhood) -> SlidingWindow:
    windows = sliding_window(neighborhood)
    if windows is None:
        raise ValueError("backend is 'window', expected another: the output grid is not the grid of the values")
    return windows


class _Span(NamedTuple):
    """Tiles along one axis: their positions, and the keys of their halo."""

    start: int
    stop: int
    first: int
    last: int


def _spans(axis: SlidingAxis) -> list[_Span]:
    spans, length = [], _TILE if axis.kernel < _LARGE_KERNEL else _LARGE_TILE
    for start in range(axis.start, axis.stop, length):
        stop = min(start + length, axis.stop)
        spans.append(_Span(start, stop, axis.window(start), axis.window(stop - 1) + axis.kernel))
    return spans


def _bias(axis: SlidingAxis, span: _Span, keys: Tensor) -> Tensor:
    """0 where a key lies in a position's window, else minus infinity: (positions, keys)."""
    start = torch.tensor([[axis.window(position)] for position in range(span.start, span.stop)])
    outside = (keys < start) | (keys >= start + axis.kernel)
    return torch.zeros(outside.shape).masked_fill_(outside, -math.inf)


class _Group(NamedTuple):
    """T tiles side by side whose pixels have like windows.

    Attributes:
        tiles: T.
        left: first column of pixels, from that of the block.
        width: columns of pixels of a tile.
        first: first column of keys, likewise.
        halo: columns of keys of a tile.
        bias: for the scores by columns, (width, 1, halo, 1).
    """

    tiles: int
    left: int
    width: int
    first: int
    halo: int
    bias: Tensor


def _blocks(windows: SlidingWindow, q: Tensor, k: Tensor, v: Tensor) -> Iterator[_Block]:
    """The output cut into columns whose rings stay small."""
    dtype = compute_dtype(q, k, v)
    like = torch.empty((), dtype=dtype, device=q.device)
    rows, cols = _spans(windows.rows), _spans(windows.cols)
    held = max(span.last - span.first for span in rows)
    tile = held * (cols[0].stop - cols[0].start) * (k.shape[1] * k.shape[-1] + v.shape[1] * v.shape[-1])
    count = -(-len(cols) // max(1, _RING_ELEMENTS // tile))
    step = -(-len(cols) // count)
    for first in range(0, len(cols), step):
        yield _Block(windows, rows, cols[first : first + step], held, like)


class _Block:
    """Columns of the output, from top to bottom."""

    def __init__(self, windows: SlidingWindow, rows: list[_Span], cols: list[_Span], held: int, like: Tensor) -> None:
        self.windows, self.rows, self.held, self.like = windows, rows, held, like
        self.pixels = slice(cols[0].start, cols[-1].stop)
        self.keys = slice(cols[0].first, cols[-1].last)
        self.groups = self._group(cols)
        self.elements = max(self._size(group) for group in self.groups)

    def _size(self, group: _Group) -> int:
        """Scores of a step."""
        return group.tiles * group.width * (self.rows[0].stop - self.rows[0].start) * group.halo * self.held

    def _group(self, cols: list[_Span]) -> list[_Group]:
        limit = _CPU_ELEMENTS if self.like.device.type == "cpu" else _DEVICE_ELEMENTS
        groups: list[_Group] = []
        for span in cols:
            bias = _bias(self.windows.cols, span, torch.arange(span.first, span.last))[:, None, :, None].to(self.like)
            left, first = span.start - self.pixels.start, span.first - self.keys.start
            group = _Group(1, left, bias.shape[0], first, bias.shape[2], bias)
            last = groups[-1] if groups else group
            if torch.equal(last.bias, bias):
                group = group._replace(bias=last.bias)
            if (
                group.bias is last.bias
                and first - last.first == left - last.left == last.tiles * last.width
                and self._size(last) + self._size(group) <= limit
            ):
                groups[-1] = last._replace(tiles=last.tiles + 1)
            else:
                groups.append(group)
        return groups

    def biases(self, span: _Span) -> list[Tensor]:
        """For the scores of a row of tiles, (P, U) a group."""
        slot = torch.arange(self.held)
        rows = _bias(self.windows.rows, span, span.first + (slot - span.first) % self.held)
        by_rows = rows[None, :, None].to(self.like)  # (1, rows, 1, slots)
        made: dict[int, Tensor] = {}
        for group in self.groups:
            if id(group.bias) not in made:
                made[id(group.bias)] = (group.bias + by_rows).flatten(2).flatten(0, 1)
        return [made[id(group.bias)] for group in self.groups]

    def strip(self, x: Tensor, span: _Span) -> Tensor:
        """The pixels of (n, Ho, Wo, d) as (n, columns, rows, d)."""
        start = self.windows.rows.start
        return x[:, span.start - start : span.stop - start, self.pixels].transpose(1, 2)


class _Strip:
    """Room for the pixels of a row of tiles of (n, Ho, Wo, d).

    Attributes:
        data: (n, columns, rows, d).
        parts: for each head and group its pixels, a view (T, P, d).
    """

    def __init__(self, x: Tensor, block: _Block, rows: int) -> None:
        self.data = block.like.new_empty(len(x), block.pixels.stop - block.pixels.start, rows, x.shape[-1])
        self.parts = [
            [
                head[group.left : group.left + group.tiles * group.width].view(group.tiles, -1, x.shape[-1])
                for group in block.groups
            ]
            for head in self.data
        ]


class _Ring:
    """Rows of (n, h, w, d) as (n, columns, slots, d): row r lies in slot r modulo their number.

    Attributes:
        data: (n, columns, slots, d).
        halos: for each head and group the rows and columns around each tile, an overlapping view (T, U, d).
    """

    def __init__(self, x: Tensor, block: _Block) -> None:
        self.first, self.columns, self.slots = block.rows[0].first, block.keys, block.held
        count, dim = self.columns.stop - self.columns.start, x.shape[-1]
        if dim < _FEW_CHANNELS:
            self.data = block.like.new_zeros(len(x), dim, count, self.slots).permute(0, 2, 3, 1)
        else:
            self.data = block.like.new_zeros(len(x), count, self.slots, dim)
        _, column, row, channel = self.data.stride()
        self.halos = [
            [
                head.as_strided(
                    (group.tiles, group.halo * self.slots, dim),
                    (group.width * column, row, channel),
                    head.storage_offset() + group.first * column,
                )
                for group in block.groups
            ]
            for head in self.data
        ]
        self.row = self.first

    def restart(self) -> None:
        """Begin another image, with nothing left of the last: a masked NaN is one still."""
        self.row = self.first
        self.data.zero_()

    def load(self, x: Tensor, end: int) -> None:
        """Take the rows up to `end`."""
        for rows, slots in self._runs(end):
            self.data[:, :, slots] = x[:, rows, self.columns].transpose(1, 2)

    def unload(self, x: Tensor, end: int) -> None:
        """Add the rows up to `end` to those of `x`, and begin with 0 again."""
        for rows, slots in self._runs(end):
            held = self.data[:, :, slots]
            x[:, rows, self.columns] += held.transpose(1, 2)
            held.zero_()

    def _runs(self, end: int) -> Iterator[tuple[slice, slice]]:
        """Rows whose slots follow each other."""
        while self.row < end:
            slot = self.row % self.slots
            stop = min(end, self.row + self.slots - slot)
            yield slice(self.row, stop), slice(slot, slot + stop - self.row)
            self.row = stop


class _Forward:
    """Attention of the images of a block."""

    def __init__(self, block: _Block, q: Tensor, k: Tensor, v: Tensor, out: Tensor, scale: float) -> None:
        self.block, self.scale = block, scale
        self.keys, self.values = _Ring(k, block), _Ring(v, block)
        self.scores = block.like.new_empty(block.elements)
        self.strips = {
            rows: (_Strip(q, block, rows), _Strip(out, block, rows))
            for rows in {span.stop - span.start for span in block.rows}
        }

    def run(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        """One image, (n, rows, columns, d) and so on."""
        self.keys.restart()
        self.values.restart()
        heads = len(q)
        for span in self.block.rows:
            self.keys.load(k, span.last)
            self.values.load(v, span.last)
            queries, made = self.strips[span.stop - span.start]
            queries.data.copy_(self.block.strip(q, span))
            for group, bias in enumerate(self.block.biases(span)):
                total = None
                for head in range(heads):
                    weights = _weights(
                        self.scores, bias, queries.parts[head][group], self.keys.halos[head][group], self.scale
                    )
                    if len(v) == heads:
                        torch.bmm(weights, self.values.halos[head][group], out=made.parts[head][group])
                    else:
                        total = weights.clone() if total is None else total.add_(weights)
                if total is not None:
                    torch.bmm(total.div_(heads), self.values.halos[0][group], out=made.parts[0][group])
            self.block.strip(out, span).copy_(made.data)


def _weights(scores: Tensor, bias: Tensor, queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Softmax over the keys, (T, P, U), in the memory of `scores`."""
    shape = len(queries), *bias.shape
    scores = scores[: math.prod(shape)].view(shape)
    torch.baddbmm(bias.expand(shape), queries, keys.mT, alpha=scale, out=scores)
    return torch.softmax(scores, -1, out=scores)


class _Backward:
    """Gradients of the images of a block."""

    def __init__(
        self, block: _Block, grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float, needs: Sequence[bool]
    ) -> None:
        self.block, self.scale = block, scale
        self.need_q, self.need_k, self.need_v = needs
        self.keys, self.values = _Ring(k, block), _Ring(v, block)
        self.key_sums, self.value_sums = _Ring(k, block), _Ring(v, block)
        self.scores, self.products = block.like.new_empty(2, block.elements)
        self.strips = {
            rows: (_Strip(q, block, rows), _Strip(grad_out, block, rows), _Strip(q, block, rows))
            for rows in {span.stop - span.start for span in block.rows}
        }

    def run(
        self,
        grad_out: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        grad_q: Tensor | None,
        grad_k: Tensor | None,
        grad_v: Tensor | None,
    ) -> None:
        """One image: the gradient of q is written, those of k and v are added up."""
        for ring in (self.keys, self.values, self.key_sums, self.value_sums):
            ring.restart()
        for span in self.block.rows:
            self.keys.load(k, span.last)
            self.values.load(v, span.last)
            self._unload(grad_k, grad_v, span.first)
            queries, grads, made = self.strips[span.stop - span.start]
            queries.data.copy_(self.block.strip(q, span))
            grads.data.copy_(self.block.strip(grad_out, span))
            for group, bias in enumerate(self.block.biases(span)):
                for head in range(len(q)):
                    self._differentiate(queries, grads, made, group, head, bias)
            if grad_q is not None:
                self.block.strip(grad_q, span).copy_(made.data)
        self._unload(grad_k, grad_v, self.block.rows[-1].last)

    def _unload(self, grad_k: Tensor | None, grad_v: Tensor | None, end: int) -> None:
        if grad_k is not None:
            self.key_sums.unload(grad_k, end)
        if grad_v is not None:
            self.value_sums.unload(grad_v, end)

    def _differentiate(self, queries: _Strip, grads: _Strip, made: _Strip, group: int, head: int, bias: Tensor) -> None:
        heads, is_shared = len(queries.parts), len(grads.parts) != len(queries.parts)
        value_head, share = (0, 1 / heads) if is_shared else (head, 1.0)
        pixels, keys = queries.parts[head][group], self.keys.halos[head][group]
        grad, values = grads.parts[value_head][group], self.values.halos[value_head][group]
        weights = _weights(self.scores, bias, pixels, keys, self.scale)
        if self.need_v:
            # One by one: halos overlap.
            for total, used, change in zip(self.value_sums.halos[value_head][group], weights, grad, strict=True):
                total.addmm_(used.mT, change, alpha=share)
        if not (self.need_q or self.need_k):
            return
        products = torch.bmm(grad, values.mT, out=self.products[: weights.numel()].view_as(weights))
        products.sub_(torch.linalg.vecdot(products, weights)[..., None]).mul_(weights)
        scale = self.scale * share
        if self.need_q:
            target = made.parts[head][group]
            torch.baddbmm(target, products, keys, beta=0, alpha=scale, out=target)
        if self.need_k:
            for total, used, change in zip(self.key_sums.halos[head][group], products, pixels, strict=True):
                total.addmm_(used.mT, change, alpha=scale)
