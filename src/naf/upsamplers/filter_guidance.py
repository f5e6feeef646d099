"""Guidance of methods that filter: every output pixel is a sum of cells with weights that all channels share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.adaptive_conv import adaptive_conv, adaptive_conv_points
from naf.ops.windows import Windows
from naf.upsamplers.base import Attention, Guidance


class Filter(NamedTuple):
    """Weights of cells.

    Attributes:
        weights: of all tiles, see :func:`naf.ops.adaptive_conv.cell_weights`; they tell the working dtype.
        windows: which cells they belong to.
    """

    weights: Tensor
    windows: Windows


class FilterGuidance(Guidance):
    """Filters that are applied one after another, each to the map that the one before made.

    Attributes:
        filters: at least one.
        sums_to_one: whether the weights of each output pixel do.
        margin: how far beyond the cells that the first filter reads features have weight.
    """

    def __init__(self, filters: Sequence[Filter], *, sums_to_one: bool, margin: int = 0) -> None:
        first, last = filters[0], filters[-1]
        super().__init__(len(first.weights), first.windows.grid, last.windows.size)
        self.filters, self.sums_to_one, self.margin = filters, sums_to_one, margin

    def _cells(self, features: Tensor) -> Tensor:
        """What the first filter reads, (B, h, w, C) or (B, h, w, n, C)."""
        return features.permute(0, 2, 3, 1).to(self.filters[0].weights.dtype).contiguous()

    def _source(self, cells: Tensor) -> Tensor:
        """What the last filter reads."""
        for weights, windows in self.filters[:-1]:
            cells = adaptive_conv(cells, weights, windows)
        return cells

    def _upsample(self, features: Tensor) -> Tensor:
        return self._bands(features)(0, self.output_size[0])

    def _upsample_linear(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # All channels have the same weights: the head goes first.
        first = bias if self.sums_to_one else None
        out = self._upsample(F.conv2d(features, weight[:, :, None, None], first))
        return out if bias is None or self.sums_to_one else out + bias[:, None, None]

    def _bands(self, features: Tensor) -> Callable[[int, int], Tensor]:
        source, last = self._source(self._cells(features)), self.filters[-1]

        def make(start: int, stop: int) -> Tensor:
            band = adaptive_conv(source, *last, start=start, stop=stop, dtype=features.dtype)
            return band.permute(0, 3, 1, 2)

        return make

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        points = adaptive_conv_points(self._source(self._cells(features)), *self.filters[-1], rows, cols)
        return points.transpose(1, 2).to(features.dtype)

    def _attention(self, row: int, col: int, features: Tensor | None) -> Attention:
        """What the pixel becomes where one cell is 1 and all others are 0, for each cell that it may read."""
        del features  # the weights come from the image alone
        weights = self.filters[0].weights
        first, last = [row, col], [row, col]
        for _, windows in reversed(self.filters):
            spans = [axis.reach(*span) for axis, *span in zip((windows.rows, windows.cols), first, last, strict=True)]
            first, last = [span[0] for span in spans], [span[1] for span in spans]
        rows, cols = (
            torch.arange(max(low - self.margin, 0), min(high + self.margin, size - 1) + 1, device=weights.device)
            for low, high, size in zip(first, last, self.grid, strict=True)
        )
        cells = torch.cartesian_prod(rows, cols)
        impulses = weights.new_zeros(len(cells), *self.grid)
        impulses[torch.arange(len(cells), device=weights.device), cells[:, 0], cells[:, 1]] = 1
        pixel = self._at_pixels(impulses.expand(len(weights), -1, -1, -1), torch.tensor([row]), torch.tensor([col]))
        return Attention(pixel.unflatten(1, (1, len(rows), len(cols)))[..., 0], rows, cols)
