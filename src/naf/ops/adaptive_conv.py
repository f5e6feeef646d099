"""Filters that differ from pixel to pixel and are the same for all channels (adaptive convolution).

The map that is filtered is interpolated from coarse cells, and only the cells are given: first the k x k kernel of
each pixel becomes weights of the cells that its window reads (:func:`cell_weights`), which costs the same for any
number of channels; then tiles of pixels take their weighted sums of shared cells as dense products
(:func:`adaptive_conv`). Neither the interpolated map nor k x k values a channel exist at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.autograd import backward_pass, savable
from naf.ops.rows import band_rows, bands, join
from naf.ops.windows import Run, Windows

_CPU_ELEMENTS = 1 << 18  # gathered cells a step on the CPU: 1 MiB, so that a step stays in cache
_DEVICE_ELEMENTS = 1 << 26  # elsewhere: 256 MiB, to fill the device
_POINT_ELEMENTS = 1 << 22  # gathered cells of single pixels a step


def cell_weights(kernels: Tensor, windows: Windows, start: int = 0) -> Tensor:
    """Kernels over windows as weights of the cells that the windows are interpolated from.

    Args:
        kernels: of output rows start, start + 1, …, (B, R, W, k * k), row-major; k that of the windows. R is a
            multiple of the row tile unless these are the last rows.
        windows: of the output.
        start: a multiple of the row tile.

    Returns:
        (B, tile rows, tile columns, pixels of a tile, cells of a tile): pixels row by row, cells column by column.
    """
    rows, cols = windows.rows, windows.cols
    padding = -kernels.shape[2] % cols.tile, -kernels.shape[1] % rows.tile
    if any(padding):
        kernels = F.pad(kernels, (0, 0, 0, padding[0], 0, padding[1]))
    over_rows = rows.weight[start : start + kernels.shape[1]].to(kernels.dtype).to(kernels.device)
    over_cols = cols.weight.to(kernels.dtype).to(kernels.device)
    square = kernels.unflatten(3, (over_rows.shape[1], -1))
    with torch.autocast(kernels.device.type, enabled=False):
        along_cols = torch.einsum("byxij,xju->byxiu", square, over_cols)
        weights = torch.einsum("byxiu,yiv->byxuv", along_cols, over_rows)
    tiled = weights.flatten(3).unflatten(2, (-1, cols.tile)).unflatten(1, (-1, rows.tile))  # (B, ty, y, tx, x, cells)
    by_tile: Tensor = tiled.transpose(2, 3).flatten(3, 4)
    return by_tile


def cell_weights_in_bands(make: Callable[[int, int], Tensor], windows: Windows, like: Tensor) -> Tensor:
    """:func:`cell_weights` of a whole map whose kernels are made in bands of rows, so that they never exist together.

    Args:
        make: gives the kernels of rows start … stop - 1, (B, stop - start, W, k * k).
        windows: of the output.
        like: tells dtype and device.
    """
    (height, width), tile = windows.size, windows.rows.tile
    step = -(-band_rows(width, like.device) // tile) * tile
    pieces = (cell_weights(make(*band), windows, band[0]) for band in bands(0, height, step))
    return join(pieces, -(-height // tile), like.dtype)


def adaptive_conv(
    source: Tensor,
    weights: Tensor,
    windows: Windows,
    *,
    start: int = 0,
    stop: int | None = None,
    bias: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Each pixel's weighted sum of cells, the same weights for all channels.

    Args:
        source: cells (B, h, w, C), or (B, h, w, n, C) where each cell holds n values a channel with weights of their
            own. NaN and infinity give NaN at the pixels that have weight on them, and nowhere else.
        weights: of all tiles, as :func:`cell_weights` gives them; n times as many, fastest, where cells hold n.
        windows: the same as for the weights.
        start: first output row.
        stop: last output row + 1; all rows unless given.
        bias: added to every pixel, (C,).
        dtype: of the result, that of the source unless given; sums are taken in that of the source.

    Returns:
        Output rows start … stop - 1, (B, rows, W, C), contiguous.
    """
    source = source if source.ndim == 5 else source[:, :, :, None]
    stop = windows.rows.size if stop is None else stop
    if bias is not None and bias.requires_grad and torch.is_grad_enabled():
        out = adaptive_conv(source, weights, windows, start=start, stop=stop) + bias
        return out.to(dtype or source.dtype)
    call = _Call(windows, start, stop, bias, dtype or source.dtype)
    with torch.autocast(source.device.type, enabled=False):
        source, weights = savable(source, weights)
        return _AdaptiveConv.apply(source, weights.to(source.dtype), call)  # type: ignore[no-any-return]


def adaptive_conv_points(source: Tensor, weights: Tensor, windows: Windows, rows: Tensor, cols: Tensor) -> Tensor:
    """Single pixels of :func:`adaptive_conv`, differentiable by plain operations.

    Args:
        source: as there.
        weights: as there.
        windows: as there.
        rows: output rows of N pixels, (N,) int64 on the CPU.
        cols: output columns, likewise.

    Returns:
        (B, N, C).
    """
    source = source if source.ndim == 5 else source[:, :, :, None]
    weights = weights.to(source.dtype)
    step = max(1, _POINT_ELEMENTS // (len(source) * weights.shape[-1] * source.shape[-1]))
    parts = [source.new_empty(len(source), 0, source.shape[-1])]
    for row, col in zip(rows.split(step), cols.split(step), strict=True):
        used = pixel_weights(weights, windows, row, col)  # (B, N, cells * n)
        row_cells = windows.rows.cells[row // windows.rows.tile].to(source.device)
        col_cells = windows.cols.cells[col // windows.cols.tile].to(source.device)
        cells = source[:, row_cells[:, None, :], col_cells[:, :, None]].flatten(2, 4)  # (B, N, cells * n, C)
        if not (torch.compiler.is_compiling() or _is_finite(source)):
            cells = cells.masked_fill((used == 0)[..., None], 0)  # 0 * NaN is NaN
        with torch.autocast(source.device.type, enabled=False):
            parts.append((used[:, :, None] @ cells)[:, :, 0])
    return torch.cat(parts, dim=1)


def pixel_weights(weights: Tensor, windows: Windows, rows: Tensor, cols: Tensor) -> Tensor:
    """Weights of single pixels, (B, N, cells * n), of tiles' weights as :func:`cell_weights` gives them."""
    height, width = windows.rows.tile, windows.cols.tile
    index = (rows // height, cols // width, rows % height * width + cols % width)
    picked: Tensor = weights[:, index[0].to(weights.device), index[1].to(weights.device), index[2].to(weights.device)]
    return picked


class _Call(NamedTuple):
    windows: Windows
    start: int
    stop: int
    bias: Tensor | None
    dtype: torch.dtype


class _AdaptiveConv(torch.autograd.Function):
    """Tile by tile; the backward pass gathers the cells again instead of keeping them."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, weights: Tensor, call: _Call) -> Tensor:
        ctx.save_for_backward(source, weights)
        ctx.call = call
        width = call.windows.cols.size
        out = source.new_empty(len(source), call.stop - call.start, width, source.shape[-1], dtype=call.dtype)
        is_finite = torch.compiler.is_compiling() or _is_finite(source)
        for tiles in _tiles(source, call):
            cells, used = tiles.cells(), tiles.weights(weights)
            if is_finite:
                product = torch.bmm(used, cells)
            else:  # 0 * NaN is NaN: only what has weight may be multiplied
                bad = ~cells.isfinite()
                reached = torch.bmm((used != 0).to(cells.dtype), bad.to(cells.dtype)) > 0
                product = torch.bmm(used, cells.masked_fill(bad, 0)).masked_fill_(reached, torch.nan)
            tiles.write(out, product if call.bias is None else product.add_(call.bias))
        return out

    @staticmethod
    @backward_pass
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        source, weights = ctx.saved_tensors
        need_source, need_weights = ctx.needs_input_grad[:2]
        # Column-major like the tiles' cells.
        grad_source = torch.zeros_like(source.transpose(1, 2)) if need_source else None
        grad_weights = torch.zeros_like(weights) if need_weights else None
        for tiles in _tiles(source, ctx.call):
            grad = tiles.pixels(grad_out).to(source.dtype)
            if grad_weights is not None:
                tiles.weights(grad_weights).copy_(torch.bmm(grad, tiles.cells().mT))
            if grad_source is not None:
                tiles.accumulate(grad_source, torch.bmm(tiles.weights(weights).mT, grad))
        return None if grad_source is None else grad_source.transpose(1, 2), grad_weights, None


def _is_finite(x: Tensor) -> bool:
    """Whether all values are finite; overflow of the sum says no too, which costs time only."""
    return bool(x.sum().isfinite())


def _tiles(source: Tensor, call: _Call) -> Iterator[_Tiles]:
    """One image, one row of tiles and as many of its tiles as fit the limit, in raster order."""
    rows, cols = call.windows.rows, call.windows.cols
    limit = _CPU_ELEMENTS if source.device.type == "cpu" else _DEVICE_ELEMENTS
    step = max(1, limit // (rows.cells.shape[1] * cols.cells.shape[1] * source.shape[3] * source.shape[4]))
    row_cells, col_cells = (axis.cells.to(source.device) for axis in (rows, cols))
    pieces = []
    for run in cols.runs or [None]:
        start, end = (0, len(col_cells)) if run is None else (run.first, run.last)
        pieces += [(run, slice(first, min(first + step, end))) for first in range(start, end, step)]
    for image in range(len(source)):
        for row in range(call.start // rows.tile, -(-call.stop // rows.tile)):
            band = source[image].index_select(0, row_cells[row]).transpose(0, 1).contiguous()
            for run, tiles in pieces:
                yield _Tiles(call, image, row, tiles, band, row_cells[row], col_cells[tiles], run)


class _Tiles:
    """T tiles side by side: T dense products of P x U weights with U x C cells.

    `band` is their rows of cells, column by column: (w, u, n, C).
    """

    def __init__(
        self,
        call: _Call,
        image: int,
        row: int,
        cols: slice,
        band: Tensor,
        row_cells: Tensor,
        col_cells: Tensor,
        run: Run | None,
    ) -> None:
        self.image, self.row, self.cols, self.band, self.run = image, row, cols, band, run
        self.row_cells, self.col_cells = row_cells, col_cells.flatten()
        self.height, self.width = call.windows.rows.tile, call.windows.cols.tile
        self.count = cols.stop - cols.start
        # Output rows and columns, and where they lie in the tiles: bands and borders cut tiles.
        top, left = row * self.height, cols.start * self.width
        first, last = max(top, call.start), min(top + self.height, call.stop)
        self.out_rows, self.tile_rows = slice(first - call.start, last - call.start), slice(first - top, last - top)
        right = min(cols.stop * self.width, call.windows.cols.size)
        self.out_cols, self.tile_cols = slice(left, right), slice(0, right - left)

    def weights(self, x: Tensor) -> Tensor:
        """The tiles' part of (B, Ty, Tx, P, U): a view (T, P, U)."""
        return x[self.image, self.row, self.cols]

    def cells(self) -> Tensor:
        """The tiles' cells, (T, U * n, C); a view where they follow each other evenly."""
        channels, column = self.band.shape[-1], self.band[0].numel()
        if self.run is None:
            return self.band.index_select(0, self.col_cells).view(self.count, -1, channels)
        first = self.run.cell + (self.cols.start - self.run.first) * self.run.step
        size = len(self.col_cells) // self.count * column // channels
        shape, stride = (self.count, size, channels), (self.run.step * column, channels, 1)
        return self.band.as_strided(shape, stride, first * column)

    def accumulate(self, x: Tensor, grad: Tensor) -> None:
        """Add (T, U * n, C) to the tiles' cells of (B, w, h, n, C)."""
        rows = x.new_zeros(x.shape[1], len(self.row_cells), *x.shape[3:])
        rows.index_add_(0, self.col_cells, grad.reshape(len(self.col_cells), *rows.shape[1:]))
        x[self.image].index_add_(1, self.row_cells, rows)

    def pixels(self, x: Tensor) -> Tensor:
        """The tiles' pixels of (B, rows, W, C), zeros beyond its borders, (T, P, C)."""
        full = x.new_zeros(self.height, self.count * self.width, x.shape[-1])
        full[self.tile_rows, self.tile_cols] = x[self.image, self.out_rows, self.out_cols]
        by_tile: Tensor = full.unflatten(1, (self.count, -1)).transpose(0, 1).reshape(self.count, -1, x.shape[-1])
        return by_tile

    def write(self, out: Tensor, product: Tensor) -> None:
        """Put (T, P, C) at the tiles' pixels of (B, rows, W, C)."""
        pixels = product.view(self.count, self.height, self.width, -1).transpose(0, 1)  # (y, T, x, C)
        target = out[self.image, self.out_rows, self.out_cols]
        if self.tile_cols.stop == self.count * self.width:
            target.unflatten(1, (self.count, -1)).copy_(pixels[self.tile_rows])
        else:
            target.copy_(pixels[self.tile_rows].flatten(1, 2)[:, self.tile_cols])
