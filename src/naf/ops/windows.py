"""Windows of an interpolated map, as seen from its coarse cells.

A pixel's window is the k positions around it along each axis, on a map that was made from coarse cells by
interpolation and padded by reflection. Every position of the window is a weighted sum of a few cells, so a filter over
the window is a filter over the cells: the interpolated map need not exist. Neighbouring pixels share most cells;
tiles of t x t pixels are served by one list of rows and one of columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from naf.ops.interpolation import Mode, axis_taps
from naf.ops.tables import cached_table

_TILES = (4, 8, 16, 32)
_SHORTEST = 6  # tiles of a run, on average, border tiles aside
_COPY_COST = 5.0  # of a cell's copy for a tile, in pixels along one axis that it is multiplied with (measured on CPU)


class Run(NamedTuple):
    """Tiles first … last - 1; the first begins with `cell`, each other `step` cells after the one before."""

    first: int
    last: int
    cell: int
    step: int


@dataclass(frozen=True, eq=False)
class AxisWindows:
    """Windows along one axis.

    Attributes:
        size: positions of the fine axis.
        coarse: cells of the coarse axis.
        tile: t, positions a tile; the last tile may reach beyond the axis.
        cells: cells of each tile in ascending order, (T, u) int64; short lists repeat their last.
        weight: of tile positions, window offsets and listed cells, (T * t, k, u) float64; the k x u weights of a
            position say how its window is made from the tile's cells.
        runs: consecutive tiles whose cells are u neighbours each, a constant step apart; empty where gathering is
            cheaper than many short runs.
    """

    size: int
    coarse: int
    tile: int
    cells: Tensor
    weight: Tensor
    runs: tuple[Run, ...]

    def reach(self, first: int, last: int) -> tuple[int, int]:
        """First and last cell that the windows of two positions read, and all between them."""
        used = [self.cells[p // self.tile][(self.weight[p] != 0).any(0)] for p in (first, last)]
        return int(min(cells.min() for cells in used)), int(max(cells.max() for cells in used))


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows along rows and columns; a tile's cells are counted column by column."""

    rows: AxisWindows
    cols: AxisWindows

    @property
    def grid(self) -> tuple[int, int]:
        return self.rows.coarse, self.cols.coarse

    @property
    def size(self) -> tuple[int, int]:
        return self.rows.size, self.cols.size


def make_windows(mode: Mode, size: tuple[int, int], grid: tuple[int, int], radius: int) -> Windows:
    """Windows of (2 * radius + 1) squared positions on a map of `size`, interpolated from `grid` by `mode`.

    Args:
        mode: of the interpolation; "nearest" on equal sizes stands for the map itself.
        size: of the fine map (H, W), both above radius: reflection does not repeat the border.
        grid: of the coarse cells (h, w).
        radius: of the window, 0 for the interpolated map itself.
    """
    rows, cols = (axis_windows(mode, fine, coarse, radius) for fine, coarse in zip(size, grid, strict=True))
    return Windows(rows, cols)


@cached_table(maxsize=64)
def axis_windows(mode: Mode, fine: int, coarse: int, radius: int) -> AxisWindows:
    """Windows along one axis, in the tiles that need least work; on the CPU, shared between calls."""
    taps = axis_taps(mode, fine, coarse)
    candidates = []
    for tile in _TILES:
        tiles = -(-fine // tile)
        position = torch.arange(tiles * tile).clamp(max=fine - 1)
        window = reflected(position[:, None] + torch.arange(-radius, radius + 1), fine)
        cells, weight = taps.cells[window].flatten(1), taps.weight[window].flatten(1)  # (T * t, k * taps)
        used = torch.zeros(tiles, coarse, dtype=torch.bool)
        used.scatter_(1, cells.unflatten(0, (tiles, tile)).flatten(1), 1)
        longest = int(used.sum(1).max())
        cost = longest * (1 + _COPY_COST / tile) * tiles * tile
        candidates.append((cost, tile, used, longest, cells, weight))
    _, tile, used, longest, cells, weight = min(candidates, key=lambda candidate: candidate[0])
    listed, runs = _list_cells(used, longest)
    slot = torch.searchsorted(listed.repeat_interleave(tile, 0), cells)
    diameter = 2 * radius + 1
    table = torch.zeros(len(cells), diameter, longest, dtype=torch.float64)
    table.scatter_add_(2, slot.unflatten(1, (diameter, -1)), weight.unflatten(1, (diameter, -1)))
    return AxisWindows(fine, coarse, tile, listed, table, runs)


def _list_cells(used: Tensor, longest: int) -> tuple[Tensor, tuple[Run, ...]]:
    """Cells of each tile, (T, longest), that hold those it uses (T, coarse); and the runs of tiles."""
    # A stable sort brings the cells that are used to the front, in ascending order.
    order = torch.argsort(~used, dim=1, stable=True)
    last = order.gather(1, used.sum(1, keepdim=True) - 1)
    slot = torch.arange(longest)
    if (last - order[:, :1]).max() >= longest:  # some tile skips cells
        return torch.minimum(order[:, :longest], last).where(slot < used.sum(1, keepdim=True), last), ()
    start = order[:, 0].clamp(max=used.shape[1] - longest)
    runs: list[Run] = []
    for tile, cell in enumerate(start.tolist()):
        if runs:
            first, _, head, step = runs[-1]
            if tile - first == 1 or cell == head + (tile - first) * step:
                runs[-1] = Run(first, tile + 1, head, step if tile - first > 1 else cell - head)
                continue
        runs.append(Run(tile, tile + 1, cell, 0))
    return start[:, None] + slot, tuple(runs) if _SHORTEST * len(runs) <= len(start) + 2 * _SHORTEST else ()


def reflected(position: Tensor, size: int) -> Tensor:
    """Positions beyond 0 … size - 1 reflected at the border positions, which are not repeated."""
    position = position.abs()
    return torch.minimum(position, 2 * (size - 1) - position)
