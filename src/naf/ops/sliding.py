"""Neighborhoods at ratio 1: each position attends to the window around itself, on its own grid.

The window has k positions along an axis and is shifted inwards at the borders: position p begins at
min(max(p - (k - 1) // 2, 0), size - k).
"""

from __future__ import annotations

from typing import NamedTuple

from naf.ops.neighborhood import Axis, Neighborhood

_RULES = ("official", "cell")  # one and the same at ratio 1


class SlidingAxis(NamedTuple):
    """Windows along one axis.

    Attributes:
        size: positions of the grid.
        kernel: positions of a window, at most `size`.
        start: first position that attends, 0 but in a band of rows.
        stop: end of those that attend.
    """

    size: int
    kernel: int
    start: int
    stop: int

    def window(self, position: int) -> int:
        """First position of the window of a position."""
        return min(max(position - (self.kernel - 1) // 2, 0), self.size - self.kernel)


class SlidingWindow(NamedTuple):
    """Windows along rows and columns."""

    rows: SlidingAxis
    cols: SlidingAxis


def sliding_window(neighborhood: Neighborhood) -> SlidingWindow | None:
    """The windows of a neighborhood whose output grid is its coarse grid, None for every other."""
    axes = neighborhood.axes
    if axes is None or any(axis.fine != axis.coarse or axis.rule not in _RULES for axis in axes):
        return None
    return SlidingWindow(*map(_sliding, axes))


def _sliding(axis: Axis) -> SlidingAxis:
    return SlidingAxis(axis.fine, min(int(axis.extent), axis.fine), axis.start, axis.stop)
