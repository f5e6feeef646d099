"""Which coarse cells each output pixel attends to.

The neighborhood of a pixel is separable: the coarse rows follow from its row, the coarse columns from its
column. Two integer tables describe it, and everything else (attention, bands, single points) reads them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor

from naf.ops.interpolation import nearest_cells
from naf.ops.tables import cached_table

Rule = Literal["official", "cell"]

_RULES = get_args(Rule)


class Axis(NamedTuple):
    """How the table of one axis is made; a table is made when it is first read.

    Attributes:
        fine: number of output positions of the whole output.
        coarse: number of coarse positions.
        rule: "official" or "cell" (:func:`axis_table`), or "window" (:func:`window_table`).
        extent: kernel size, or for a window its reach.
        start: first output position of a band.
        stop: end of the band.
    """

    fine: int
    coarse: int
    rule: str
    extent: float
    start: int
    stop: int

    @property
    def table(self) -> Tensor:
        """(stop - start, k) int64 on the CPU, the same tensor each time: plans are cached by it."""
        return _band_table(self)


class Neighborhood:
    """Separable neighborhoods of an output grid on a coarse grid.

    Args:
        grid: coarse grid (h, w).
        rows: coarse rows of each output row, (Ho, kh) int64 on the CPU, or how they are made. A row that occurs twice
            counts twice, -1 stands for none; each output row has at least one.
        cols: coarse columns of each output column, (Wo, kw) int64 on the CPU, likewise.
    """

    def __init__(self, grid: tuple[int, int], rows: Tensor | Axis, cols: Tensor | Axis) -> None:
        self.grid = grid
        self._rows, self._cols = rows, cols

    @property
    def rows(self) -> Tensor:
        """Coarse rows of each output row, (Ho, kh) int64 on the CPU."""
        return self._rows.table if isinstance(self._rows, Axis) else self._rows

    @property
    def cols(self) -> Tensor:
        """Coarse columns of each output column, (Wo, kw) int64 on the CPU."""
        return self._cols.table if isinstance(self._cols, Axis) else self._cols

    @property
    def axes(self) -> tuple[Axis, Axis] | None:
        """How the rows and the columns are made, None where tables were given."""
        if isinstance(self._rows, Axis) and isinstance(self._cols, Axis):
            return self._rows, self._cols
        return None

    @property
    def output_size(self) -> tuple[int, int]:
        """Output grid (Ho, Wo)."""
        return _length(self._rows), _length(self._cols)

    @property
    def kernel(self) -> tuple[int, int]:
        """Cells attended to along each axis, (kh, kw)."""
        return self.rows.shape[1], self.cols.shape[1]

    def band(self, start: int, stop: int) -> Neighborhood:
        """The same neighborhoods for output rows start … stop - 1 only."""
        rows = self._rows
        if isinstance(rows, Axis):
            band = Axis(rows.fine, rows.coarse, rows.rule, rows.extent, rows.start + start, rows.start + stop)
            return Neighborhood(self.grid, band, self._cols)
        return Neighborhood(self.grid, rows[start:stop], self._cols)


def _length(axis: Tensor | Axis) -> int:
    return axis.stop - axis.start if isinstance(axis, Axis) else len(axis)


def make_neighborhood(
    grid: tuple[int, int], output_size: tuple[int, int], kernel_size: int, rule: Rule = "official"
) -> Neighborhood:
    """Neighborhoods of kernel_size x kernel_size cells, shifted inwards at the borders, never padded.

    Args:
        grid: coarse grid (h, w).
        output_size: output grid (Ho, Wo), at least the coarse grid on each axis.
        kernel_size: k, at least 1. An axis with fewer than k cells uses all that it can.
        rule: see :func:`axis_table`.

    Raises:
        ValueError: if output_size is below the grid on an axis, or the rule is unknown.
    """
    for fine, coarse in zip(output_size, grid, strict=True):
        _check_axis(fine, coarse, kernel_size, rule)
    return _neighborhood(grid, output_size, rule, kernel_size)


def make_window(grid: tuple[int, int], output_size: tuple[int, int], reach: float) -> Neighborhood:
    """Neighborhoods that hold the cells within `reach` of each pixel's centre, fewer at the borders (AnyUp).

    Args:
        grid: coarse grid (h, w).
        output_size: output grid (Ho, Wo), any.
        reach: half a window's side as a share of the grid's; 0 or less stands for the whole grid (JAFAR).
    """
    return _neighborhood(grid, output_size, "window", reach)


def _neighborhood(grid: tuple[int, int], output_size: tuple[int, int], rule: str, extent: float) -> Neighborhood:
    rows, cols = (Axis(fine, coarse, rule, extent, 0, fine) for fine, coarse in zip(output_size, grid, strict=True))
    return Neighborhood(grid, rows, cols)


@cached_table(maxsize=64)
def _band_table(axis: Axis) -> Tensor:
    fine, coarse, rule, extent, start, stop = axis
    if rule == "window":
        table = window_table(fine, coarse, extent)
    else:
        table = axis_table(fine, coarse, int(extent), cast("Rule", rule))
    return table if (start, stop) == (0, fine) else table[start:stop]


@cached_table(maxsize=64)
def window_table(fine: int, coarse: int, reach: float) -> Tensor:
    """Coarse positions from floor(coarse (x - reach)) to ceil(coarse (x + reach)) exclusive, x the centre in 0 … 1.

    In float32 throughout, as the authors' code: floor and ceil of exact multiples depend on it.

    Args:
        fine: number of output positions.
        coarse: number of coarse positions.
        reach: as a share of the axis; 0 or less stands for all coarse positions.

    Returns:
        (fine, k) int64 on the CPU, -1 where a window holds fewer than k; shared between calls.
    """
    if reach <= 0:
        return torch.arange(coarse).repeat(fine, 1)
    centre = (torch.arange(fine, dtype=torch.float32) + 0.5) / fine
    start = ((centre - reach).clamp(0, 1) * coarse).floor().long()[:, None]
    stop = ((centre + reach).clamp(0, 1) * coarse).ceil().long()[:, None]
    cells = start + torch.arange(int((stop - start).max()))
    return cells.masked_fill(cells >= stop, -1)


@cached_table(maxsize=64)
def axis_table(fine: int, coarse: int, kernel_size: int, rule: Rule = "official") -> Tensor:
    """Coarse positions that each fine position attends to, along one axis.

    Args:
        fine: number of output positions.
        coarse: number of coarse positions, at most `fine`.
        kernel_size: k.
        rule: "official" gives the table of the authors' code (nearest-exact upsampling, then NATTEN's
            dilated neighborhoods with dilation fine // coarse); "cell" centres the window on the coarse cell
            that holds the fine position. Equal when `fine` is a multiple of `coarse`.

    Returns:
        (fine, k') int64 on the CPU, shared between calls: do not write to it. k' = min(k, fine // dilation) for
        "official" and min(k, coarse) for "cell".

    Raises:
        ValueError: for sizes or a rule outside the above.
    """
    _check_axis(fine, coarse, kernel_size, rule)
    return _cell_table(fine, coarse, kernel_size) if rule == "cell" else _official_table(fine, coarse, kernel_size)


def _check_axis(fine: int, coarse: int, kernel_size: int, rule: str) -> None:
    if rule not in _RULES:
        raise ValueError(f"neighborhood is {rule!r}, expected one of {', '.join(map(repr, _RULES))}")
    if not 1 <= coarse <= fine or kernel_size < 1:
        raise ValueError(
            f"a neighborhood needs 1 <= coarse positions <= output positions and a kernel >= 1, "
            f"got {coarse} coarse, {fine} output, kernel {kernel_size}"
        )


def _cell_table(fine: int, coarse: int, kernel_size: int) -> Tensor:
    k = min(kernel_size, coarse)
    cell = (2 * torch.arange(fine) + 1) * coarse // (2 * fine)  # the cell that holds the pixel's centre
    start = (cell - (k - 1) // 2).clamp(0, coarse - k)
    return start[:, None] + torch.arange(k)


def _official_table(fine: int, coarse: int, kernel_size: int) -> Tensor:
    dilation = fine // coarse
    k = min(kernel_size, fine // dilation)  # every residue class has at least fine // dilation members
    position = torch.arange(fine)
    residue, turn = position % dilation, position // dilation
    members = (fine - residue + dilation - 1) // dilation
    start = torch.minimum((turn - (k - 1) // 2).clamp(min=0), members - k)
    upsampled = residue[:, None] + dilation * (start[:, None] + torch.arange(k))
    return nearest_cells(fine, coarse)[upsampled]
