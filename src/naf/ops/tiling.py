"""Tiles of output pixels that share one set of keys, so that attention becomes dense matrix products.

Consecutive output positions with equal table rows form a group (with an integer ratio, a group is a coarse
cell). A tile is one or more consecutive groups; its keys are the union of their cells. Where a position does
not use a cell of the union, or uses it twice, the logarithm of the count is added to the score: minus infinity
or ln 2. One tile a cell needs no such term; merging cells trades products for fewer copies of keys and values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from naf.ops.neighborhood import Neighborhood
from naf.ops.tables import cached_table

_MERGES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
_LONGEST = 32  # positions along one axis of a merged tile
_COPY_COST = 24.0  # copying a key costs about as much as multiplying it with this many queries (measured on CPU)

Work = Callable[[int, int], float]  # of a tile of so many positions and keys


def dense_work(positions: int, keys: int) -> float:
    """Work of one tile in plain matrix products: its products and the copies of its keys."""
    return keys * (positions + _COPY_COST)


@dataclass(frozen=True, eq=False)
class AxisTiles:
    """Tiles along one axis.

    Attributes:
        bounds: first output position of each tile and, last, the number of positions: T + 1 integers.
        queries: output positions of each tile, (T, t); short tiles repeat their last position.
        keys: coarse positions of each tile, (T, u); short unions repeat their last cell.
        log_count: ln of how often a position uses a cell, (T, t, u) float64, or None where it is 0 throughout.
    """

    bounds: tuple[int, ...]
    queries: Tensor
    keys: Tensor
    log_count: Tensor | None

    def position_index(self, first: int, last: int) -> Tensor:
        """Where the positions of tiles first … last - 1 lie in their flattened `queries`."""
        start = torch.tensor(self.bounds[first : last + 1])
        position = torch.arange(self.bounds[first], self.bounds[last])
        tile = torch.searchsorted(start, position, right=True) - 1
        return tile * self.queries.shape[1] + position - start[tile]


def plan_tiles(
    neighborhood: Neighborhood, *, may_merge: bool = True, work: Work = dense_work
) -> tuple[AxisTiles, AxisTiles]:
    """The row and column tiles with the least estimated work.

    Args:
        neighborhood: what to cut.
        may_merge: False keeps groups apart: each position then uses every cell of its tile, none with weight 0.
        work: estimate for one tile from its positions and keys, padding included.
    """
    return plan_tables(neighborhood.rows, neighborhood.cols, may_merge, work)


@cached_table(maxsize=8)  # by identity: column tables are shared by all bands of an output
def plan_tables(
    row_table: Tensor, col_table: Tensor, may_merge: bool = True, work: Work = dense_work
) -> tuple[AxisTiles, AxisTiles]:
    """The same for the tables of a neighborhood."""
    rows, cols = _candidates(row_table), _candidates(col_table)
    if not may_merge:
        return rows[0].build(), cols[0].build()

    def cost(pair: tuple[_Candidate, _Candidate]) -> float:
        row, col = pair
        masked = 1.0 if row.is_exact and col.is_exact else 1.2
        return masked * len(row.union) * len(col.union) * work(row.length * col.length, row.width * col.width)

    row, col = min(((r, c) for r in rows for c in cols), key=cost)
    return row.build(), col.build()


@dataclass(frozen=True, eq=False)
class _Candidate:
    """One way to tile an axis: cut at `bounds`; `count` is (positions, coarse) how often a position uses a cell."""

    bounds: Tensor
    count: Tensor
    union: Tensor

    @cached_property
    def length(self) -> int:
        return int(self.bounds.diff().max())

    @cached_property
    def width(self) -> int:
        return int(self.union.sum(1).max())

    @cached_property
    def is_exact(self) -> bool:
        """Whether every position of every tile uses each cell of its tile's union exactly once, without padding."""
        tile = torch.repeat_interleave(self.bounds.diff())
        return bool((self.union.sum(1) == self.width).all() and (self.count == self.union[tile]).all())

    def build(self) -> AxisTiles:
        first, last = self.bounds[:-1, None], self.bounds[1:, None]
        queries = torch.minimum(first + torch.arange(self.length), last - 1)
        used = self.union.sum(1, keepdim=True)
        # A stable sort brings the cells of the union to the front, in ascending order.
        cells = torch.argsort(~self.union, dim=1, stable=True)
        slot = torch.arange(self.width)[None]
        keys = cells.gather(1, torch.minimum(slot, used - 1))
        log_count = None
        if not self.is_exact:
            count = self.count[queries].gather(2, keys[:, None].expand(-1, self.length, -1))
            log_count = count.double().masked_fill((slot >= used)[:, None], 0).log()
        return AxisTiles(tuple(self.bounds.tolist()), queries, keys, log_count)


@cached_table(maxsize=8)  # by identity, likewise
def _candidates(table: Tensor) -> list[_Candidate]:
    positions = len(table)
    coarse = int(table.max()) + 1
    # The first column collects what stands for no cell.
    count = torch.zeros(positions, coarse + 1, dtype=torch.int16)
    count = count.scatter_add_(1, table + 1, torch.ones_like(table, dtype=torch.int16))[:, 1:]
    new_group = torch.ones(positions, dtype=torch.bool)
    new_group[1:] = (table[1:] != table[:-1]).any(1)
    starts = _split_long(new_group.nonzero()[:, 0], positions)
    # `used` once a group, padded so that it can be folded by any number of groups
    used = count[starts] > 0
    candidates: list[_Candidate] = []
    for merge in _MERGES:
        tiles = math.ceil(len(starts) / merge)
        bounds = torch.cat([starts[::merge], torch.tensor([positions])])
        padded = torch.zeros(tiles * merge, coarse, dtype=torch.bool)
        padded[: len(used)] = used
        candidate = _Candidate(bounds, count, padded.view(tiles, merge, coarse).any(1))
        if candidates and candidate.length > _LONGEST:
            break
        candidates.append(candidate)
        if tiles == 1:
            break
    return candidates


def _split_long(starts: Tensor, positions: int) -> Tensor:
    """Cut the long groups (cells near a border share one window, or all pixels the whole grid) into usual pieces."""
    ends = torch.cat([starts[1:], torch.tensor([positions])])
    lengths = ends - starts
    usual = min(int(lengths.median()), _LONGEST)
    pieces = [torch.arange(int(a), int(b), usual) for a, b in zip(starts, ends, strict=True)]
    return torch.cat(pieces)
