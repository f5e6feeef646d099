"""Forward pass of the blocked backend on the CPU: all tiles of a step as the groups of 1x1 convolutions.

A tile's product of queries and keys is a 1x1 convolution whose kernel holds the keys; tiles and heads side by side in
the channels are its groups. The library of convolutions (oneDNN) was measured to be twice as fast as that of batched
products, and pixels are read and written with all their channels at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 16  # channels that the library works on at once


class Tile(Protocol):
    """What is read of a step: T tiles of `height` x `width` pixels."""

    top: int
    bottom: int
    left: int
    right: int
    tiles: int
    height: int
    width: int
    key_rows: Tensor
    key_cols: Tensor
    positions: Tensor | None
    padding: Tensor | None
    log_count: Tensor | None


def attend_tiles(q: Tensor, k: Tensor, v: Tensor, steps: Iterable[Iterable[Tile]], scale: float, out: Tensor) -> None:
    """Attention of every tile, written to `out`. No gradients.

    Scores and softmax are float32. So is the product of weights and values, but where queries and values are bfloat16:
    there the weights are rounded to that first.

    Args:
        q: queries, (B, n, Ho, Wo, d).
        k: keys, (B, n, h, w, d).
        v: values, (B, n or 1, h, w, e).
        steps: columns of tiles, top to bottom.
        scale: factor on q·k.
        out: (B, Ho, Wo, n or 1, e), contiguous.
    """
    for column in steps:
        # The tiles of a column share their buffers: from one to the next most rows of cells stay.
        cells: list[_Cells] = []
        for tile in column:
            cells = cells or [_Cells(q, v, tile) for _ in range(len(q))]
            for sample, (held, target) in enumerate(zip(cells, out, strict=True)):
                held.turn_to(k[sample], v[sample], tile, scale)
                _attend(q[sample], held, tile, target.flatten(2))


def _attend(q: Tensor, cells: _Cells, tile: Tile, out: Tensor) -> None:
    heads, used = q.shape[0], cells.used
    keys, values = cells.keys.flatten(0, 2), cells.values.flatten(0, 2)
    scores = _by_group(_pixels(q, tile).to(keys.dtype), keys, cells.absent, tile.tiles * heads)
    scores = scores.unflatten(-1, (tile.tiles, heads, -1))  # (rows, cols, T, n, U)
    if tile.log_count is not None:
        count = tile.log_count.unflatten(1, (tile.height, tile.width)).permute(1, 2, 0, 3)
        scores[..., :used] += count[:, :, :, None]
    weights = torch.softmax(scores, -1, out=scores)
    if cells.values.shape[1] != heads:
        weights = weights.mean(3, keepdim=True)
    weights = weights.to(values.dtype)
    _write(out, _by_group(weights.flatten(2), values, None, weights.shape[2] * weights.shape[3]), tile)


class _Cells:
    """Keys and values of the cells of a column of tiles, as kernels of convolutions.

    A row of cells that follow each other keeps its slot, its number modulo the rows of a tile, until another row
    needs that: the order of cells within a tile is free where no counts are added.

    Attributes:
        used: cells of a tile, kh * kw.
        keys: (T, n, U, d), U at least `used`.
        values: (T, n or 1, e, U).
        absent: bias of the scores that keeps the cells that only fill a block from being used, or None.
    """

    def __init__(self, q: Tensor, v: Tensor, tile: Tile) -> None:
        dtype = torch.bfloat16 if q.dtype == v.dtype == torch.bfloat16 else torch.float32
        self.kernel = len(tile.key_rows), len(tile.key_cols) // tile.tiles
        self.used = self.kernel[0] * self.kernel[1]
        padded = -(-self.used // _BLOCK) * _BLOCK
        self.keys = q.new_zeros(tile.tiles, q.shape[1], padded, q.shape[-1], dtype=torch.float32)
        self.values = v.new_zeros(tile.tiles, v.shape[1], v.shape[-1], padded, dtype=dtype)
        self.absent = None
        if padded != self.used:
            absent = self.keys.new_zeros(self.keys.shape[:3])
            absent[:, :, self.used :] = -math.inf
            self.absent = absent.flatten()
        self.held = [-1] * self.kernel[0]

    def turn_to(self, k: Tensor, v: Tensor, tile: Tile, scale: float) -> None:
        """Hold the cells of a tile: keys of (n, h, w, d), scaled, and values of (n, h, w, e)."""
        rows = tile.key_rows.tolist()
        if tile.log_count is None and rows == list(range(rows[0], rows[0] + len(rows))):
            shift = rows[0] % len(rows)
            rows = rows[len(rows) - shift :] + rows[: len(rows) - shift]
        slots = [slot for slot, row in enumerate(rows) if row != self.held[slot]]
        if not slots:
            return
        self.held = rows
        fresh = torch.tensor([rows[slot] for slot in slots], device=k.device)
        values = v.permute(1, 0, 3, 2).index_select(0, fresh).index_select(3, tile.key_cols)
        values = values.unflatten(3, (tile.tiles, -1)).permute(3, 1, 2, 0, 4)  # (T, n, e, rows, kw)
        keys = k.permute(1, 2, 0, 3).index_select(0, fresh).index_select(1, tile.key_cols)
        keys = keys.unflatten(1, (tile.tiles, -1)).permute(1, 3, 0, 2, 4)  # (T, n, rows, kw, d)
        keys = keys.float() * scale
        value_slots = self.values[..., : self.used].unflatten(3, self.kernel)
        key_slots = self.keys[:, :, : self.used].unflatten(2, self.kernel)
        for number, slot in enumerate(slots):
            value_slots[:, :, :, slot] = values[:, :, :, number]
            key_slots[:, :, slot] = keys[:, :, number]


def _by_group(x: Tensor, kernel: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """A grouped 1x1 convolution of (rows, cols, C) with kernel (D, C / groups): (rows, cols, D)."""
    return F.conv2d(x[None].permute(0, 3, 1, 2), kernel[:, :, None, None], bias, groups=groups).permute(0, 2, 3, 1)[0]


def _pixels(x: Tensor, tile: Tile) -> Tensor:
    """The pixels of (n, Ho, Wo, d), tiles side by side in the channels: (rows, cols, T * n * d)."""
    x = x.permute(1, 2, 0, 3)[tile.top : tile.bottom]
    x = x[:, tile.left : tile.right] if tile.positions is None else x.index_select(1, tile.positions)
    x = x.unflatten(1, (tile.tiles, tile.width)).transpose(1, 2)
    return x.flatten(2)


def _write(out: Tensor, made: Tensor, tile: Tile) -> None:
    """Put (rows, cols, T * c) at the step's pixels of `out`, (Ho, Wo, c)."""
    made = made.unflatten(2, (tile.tiles, -1)).transpose(1, 2)  # (rows, T, cols, c)
    target = out[tile.top : tile.bottom, tile.left : tile.right]
    if tile.padding is None:
        target.unflatten(1, (tile.tiles, tile.width)).copy_(made)
    else:
        target.copy_(made.flatten(1, 2).index_select(1, tile.padding))
