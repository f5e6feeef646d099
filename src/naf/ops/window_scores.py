"""Dot products of each pixel with the pixels of its window, as dense products over tiles of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.autograd import backward_pass, savable

_TILE = 8  # pixels along a side: the products that no window needs cost less than smaller tiles would
_CPU_ELEMENTS = 1 << 18  # products a step on the CPU: 1 MiB, so that a step stays in cache
_DEVICE_ELEMENTS = 1 << 26  # elsewhere: 256 MiB, to fill the device


def window_scores(guide: Tensor, radius: int) -> Tensor:
    """Dot product of each pixel with each pixel of its window.

    Args:
        guide: padded by radius on all sides, (B, H + 2 * radius, W + 2 * radius, D).
        radius: of the window; k = 2 * radius + 1.

    Returns:
        (B, H, W, k * k), window offsets row by row, dtype of the guide.
    """
    with torch.autocast(guide.device.type, enabled=False):
        return _WindowScores.apply(*savable(guide), radius)  # type: ignore[no-any-return]


class _WindowScores(torch.autograd.Function):
    """A tile's pixels times the pixels around it; the windows are a strided view of the products."""

    @staticmethod
    def forward(ctx: Any, guide: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(guide)
        ctx.radius = radius
        height, width = (side - 2 * radius for side in guide.shape[1:3])
        guide = _whole_tiles(guide, height, width)
        size, diameter = [side - 2 * radius for side in guide.shape[1:3]], 2 * radius + 1
        out = guide.new_empty(len(guide), *size, diameter, diameter)
        for tiles in _tiles(guide, radius):
            tiles.pixels(out, 0).copy_(tiles.windows(torch.bmm(tiles.centres(guide), tiles.halos(guide).mT)))
        return out.flatten(3)[:, :height, :width]

    @staticmethod
    @backward_pass
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, None]:
        (guide,), radius = ctx.saved_tensors, ctx.radius
        shape, (height, width) = guide.shape, grad_out.shape[1:3]
        guide, grad_out = (_whole_tiles(x, height, width) for x in (guide, grad_out))
        grad_out = grad_out.unflatten(3, (2 * radius + 1, -1))
        grad = torch.zeros_like(guide)
        for tiles in _tiles(guide, radius):
            halos = tiles.halos(guide)
            products = guide.new_zeros(len(halos), _TILE * _TILE, halos.shape[1])
            tiles.windows(products).copy_(tiles.pixels(grad_out, 0))
            of_centres = torch.bmm(products, halos).unflatten(1, (_TILE, _TILE))
            tiles.pixels(grad, radius).add_(of_centres)
            tiles.accumulate(grad, torch.bmm(products.mT, tiles.centres(guide)))
        return grad[:, : shape[1], : shape[2]], None


def _whole_tiles(x: Tensor, height: int, width: int) -> Tensor:
    """(B, rows, columns, …) with zeros appended as for height and width that are multiples of the tile."""
    missing = -height % _TILE, -width % _TILE
    return F.pad(x, (0, 0, 0, missing[1], 0, missing[0])) if any(missing) else x


def _tiles(guide: Tensor, radius: int) -> Iterator[_Tiles]:
    """One image, one row of tiles and as many of its tiles as fit the limit, in raster order."""
    height, width = (side - 2 * radius for side in guide.shape[1:3])
    limit = _CPU_ELEMENTS if guide.device.type == "cpu" else _DEVICE_ELEMENTS
    step = max(1, limit // (_TILE * (_TILE + 2 * radius)) ** 2) * _TILE
    for image in range(len(guide)):
        for top in range(0, height, _TILE):
            for left in range(0, width, step):
                yield _Tiles(image, top, left, min(left + step, width), radius)


class _Tiles:
    """T tiles side by side, each with its halo of radius pixels."""

    def __init__(self, image: int, top: int, left: int, right: int, radius: int) -> None:
        self.image, self.top, self.left, self.right, self.radius = image, top, left, right, radius
        self.count, self.side = (right - left) // _TILE, _TILE + 2 * radius

    def pixels(self, x: Tensor, margin: int) -> Tensor:
        """The tiles' pixels of (B, rows, columns, …) with a margin around: a view (T, y, x, …)."""
        rows = slice(self.top + margin, self.top + margin + _TILE)
        cols = slice(self.left + margin, self.right + margin)
        by_tile: Tensor = x[self.image, rows, cols].unflatten(1, (self.count, _TILE)).transpose(0, 1)
        return by_tile

    def centres(self, guide: Tensor) -> Tensor:
        """(T, P, D)."""
        return self.pixels(guide, self.radius).flatten(1, 2)

    def halos(self, guide: Tensor) -> Tensor:
        """(T, side * side, D)."""
        return self._band(guide).unfold(1, self.side, _TILE).permute(1, 0, 3, 2).flatten(1, 2)

    def accumulate(self, grad: Tensor, halos: Tensor) -> None:
        """Add (T, side * side, D) to the tiles' pixels and their halos."""
        first = torch.arange(self.count, device=grad.device) * _TILE
        columns = (first[:, None] + torch.arange(self.side, device=grad.device)).flatten()
        by_row = halos.unflatten(1, (self.side, self.side)).transpose(0, 1).flatten(1, 2)
        self._band(grad).index_add_(1, columns, by_row)

    def windows(self, products: Tensor) -> Tensor:
        """Of contiguous (T, P, side * side) the k x k values of each pixel's window: a view (T, y, x, k, k)."""
        pixels, halo = products.shape[1:]
        diameter = 2 * self.radius + 1
        # Offset (i, j) of pixel (y, x) is position (y + i, x + j) of the halo.
        stride = (pixels * halo, _TILE * halo + self.side, halo + 1, self.side, 1)
        return products.as_strided((self.count, _TILE, _TILE, diameter, diameter), stride)

    def _band(self, x: Tensor) -> Tensor:
        rows = slice(self.top, self.top + self.side)
        return x[self.image, rows, self.left : self.right + 2 * self.radius]
