"""FeatUp's jittered views: an image flipped, zoomed, padded and cropped back to its size.

Each step of a view works along one axis and is linear. A view of a map is therefore rows @ map @ columns^T with two
small matrices, which can be composed with a blur or cut to patches before anything of the map's width is touched.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Jitter(NamedTuple):
    """How far views may differ from the image; the defaults are those of FeatUp's implicit upsampler.

    Attributes:
        zoom: least and greatest zoom.
        zoomed: share of the views that are zoomed.
        flipped: share of the views whose left and right are exchanged.
        padding: pixels of reflection on each side; more where a zoom below 1 would leave too little for the crop.
    """

    zoom: tuple[float, float] = (1.0, 1.8)
    zoomed: float = 0.5
    flipped: float = 0.5
    padding: int = 30


class Views(NamedTuple):
    """What was drawn for n views.

    Attributes:
        flip: (n,) bool, left and right exchanged.
        zoom: (n,) float64, 1 for no zoom.
        corner: (n, 2) float64, 0 … 1: where the crop starts among the places that it can.
        padding: as :class:`Jitter` has it.
    """

    flip: Tensor
    zoom: Tensor
    corner: Tensor
    padding: int = Jitter().padding

    def select(self, index: Tensor | slice) -> Views:
        """Some of the views."""
        return Views(self.flip[index], self.zoom[index], self.corner[index], self.padding)

    def matrices(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Matrices of the views of a map, (n, H, H) and (n, W, W), float64; each row sums to one."""
        height, width = size
        rows = _axis_matrices(height, self.zoom, self.corner[:, 0], self.padding)
        cols = _axis_matrices(width, self.zoom, self.corner[:, 1], self.padding)
        return rows, torch.where(self.flip[:, None, None], cols.flip(2), cols)  # flipped first, then zoomed


def draw_views(count: int, generator: torch.Generator, jitter: Jitter | None = None) -> Views:
    """`count` views at random."""
    (least, greatest), zoomed, flipped, padding = jitter or Jitter()
    uniform = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    zoom = torch.where(uniform[:, 1] < zoomed, least + (greatest - least) * uniform[:, 2], 1.0)
    return Views(uniform[:, 0] < flipped, zoom, uniform[:, 3:], padding)


def see(image: Tensor, views: Views) -> Tensor:
    """Views of an image (C, H, W) as images, (n, C, H, W), dtype of the image."""
    rows, cols = (
        matrix.to(image.dtype).to(image.device) for matrix in views.matrices((image.shape[1], image.shape[2]))
    )
    return rows[:, None] @ image @ cols[:, None].mT


def blur_matrix(size: int) -> Tensor:
    """The Gaussian of 5 pixels and sigma 1 along an axis with reflected border, (size, size), float64."""
    offset = torch.arange(-2, 3)
    weight = (-offset.double().square() / 2).exp()
    cell = _reflect(torch.arange(size)[:, None] + offset, torch.tensor(size))
    return torch.zeros(size, size, dtype=torch.float64).scatter_add_(1, cell, (weight / weight.sum()).expand(size, 5))


def _axis_matrices(size: int, zoom: Tensor, corner: Tensor, padding: int) -> Tensor:
    """Bilinear zoom, reflect padding and crop along one axis, (n, size, size)."""
    zoomed = (zoom * size).round().long()[:, None]  # (n, 1)
    enough = ((size - zoomed + 1) // 2).clamp(min=min(padding, size - 1))
    start = (corner[:, None] * (zoomed + 2 * enough - size + 1)).long() - enough
    position = _reflect(start + torch.arange(size), zoomed)  # (n, size), pixels of the zoomed map
    source = ((position.double() + 0.5) * size / zoomed - 0.5).clamp(0, size - 1)
    low = source.long()
    share = source - low
    matrix = torch.zeros(len(zoom), size, size, dtype=torch.float64)
    matrix.scatter_add_(2, low[..., None], (1 - share)[..., None])
    return matrix.scatter_add_(2, (low + 1).clamp(max=size - 1)[..., None], share[..., None])


def _reflect(position: Tensor, size: Tensor) -> Tensor:
    """Positions mirrored once at the centres of the first and the last pixel, as reflect padding does."""
    last = size - 1
    return (last - (last - position.abs()).abs()).clamp(min=0)
