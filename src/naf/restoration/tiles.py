"""Large images in overlapping tiles, and sides that a network takes."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def padded(image: Tensor, multiple: int, smallest: int = 1) -> Tensor:
    """The image with rows below and columns to the right added, as few as possible.

    Args:
        image: (B, C, H, W).
        multiple: of both sides of the result.
        smallest: least side of the result.

    Returns:
        (B, C, H', W'): reflected about the last row and column, or these repeated where the image has too few.
    """
    height, width = image.shape[2:]
    down, across = (max(-(-side // multiple), -(-smallest // multiple)) * multiple - side for side in (height, width))
    for pad, side in (((0, 0, 0, down), height), ((0, across, 0, 0), width)):
        if any(pad):
            image = F.pad(image, pad, mode="reflect" if max(pad) < side else "replicate")
    return image


def restore_in_tiles(
    restore: Callable[[Tensor], Tensor],
    image: Tensor,
    side: int,
    overlap: int,
    multiple: int,
    smallest: int,
    on_progress: Callable[[float], object],
) -> Tensor:
    """A map of the image made tile by tile.

    With an overlap of at least the reach of `restore`, the result is that of the whole image: tiles begin at
    multiples of `multiple`, so that strides meet the same pixels, and those at the border end with the image.

    Args:
        restore: (B, C, h, w) → (B, C', h, w), for sides as given by `multiple` and `smallest`.
        image: (B, C, H, W).
        side: of a tile with its overlaps, pixels; at least four overlaps are taken.
        overlap: pixels that a tile reads beyond each of its sides.
        multiple: of the sides of the tiles.
        smallest: least side of a tile.
        on_progress: called with the share of the tiles done.

    Returns:
        (B, C', H, W).
    """
    height, width = image.shape[2:]
    image = padded(image, multiple, smallest)
    halo = -(-overlap // multiple) * multiple
    core = max(side // multiple * multiple - 2 * halo, 2 * halo, multiple)
    rows, cols = (_spans(length, core, halo, multiple) for length in image.shape[2:])
    out: Tensor | None = None
    for index, ((top, bottom, above, below), (left, right, before, after)) in enumerate(
        (row, col) for row in rows for col in cols
    ):
        tile = restore(image[:, :, above:below, before:after])
        if out is None:
            out = tile.new_empty(*tile.shape[:2], *image.shape[2:])
        out[:, :, top:bottom, left:right] = tile[:, :, top - above : bottom - above, left - before : right - before]
        on_progress((index + 1) / (len(rows) * len(cols)))
    assert out is not None
    return out[:, :, :height, :width]


def _spans(length: int, core: int, halo: int, multiple: int) -> list[tuple[int, int, int, int]]:
    """(start, stop, first read, last read + 1) of each tile along an axis; as few as can be, of about equal size."""
    share = -(-length // -(-length // core))
    core = -(-share // multiple) * multiple
    return [
        (start, min(start + core, length), max(0, start - halo), min(length, start + core + halo))
        for start in range(0, length, core)
    ]
