"""Scalar maps as colours, alone or over a photo, and the mark of a chosen pixel."""

from __future__ import annotations

import math

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from naf.visualization.pca import to_image

# Steps of even lightness (CIELAB L* 6 to 96) from night blue through violet and red to cream: bright means much, also
# in grey, and each step is seen as large as the next.
_ANCHORS = (
    *("#0d1225", "#1e2046", "#3d2a66", "#653180", "#9a2f83", "#cb2e74"),
    *("#ea485d", "#f86f4d", "#ff9349", "#feb860", "#fcd88b", "#fcf4d1"),
)
_SAMPLES = 1 << 18  # values that a range is taken from
_LOW, _HIGH = 0.02, 0.998
_SMOOTH = 4  # how much finer a mark is drawn than it is shown


def heat_range(*maps: Tensor) -> tuple[float, float]:
    """One range for several maps, so that their colours compare.

    Args:
        maps: any shapes, finite; similarities of one point, say.

    Returns:
        The least 2nd percentile and the greatest 99.8th of the maps: a few odd pixels do not eat the contrast.

    Raises:
        ValueError: without maps.
    """
    if not maps:
        raise ValueError("maps is empty, expected at least one map")
    ends = []
    for values in maps:
        flat = values.detach().float().flatten()
        flat = flat[:: -(-flat.numel() // _SAMPLES) | 1]  # an odd step meets every column of even widths
        ends.append(torch.quantile(flat, torch.tensor([_LOW, _HIGH], device=flat.device)).tolist())
    return min(low for low, _ in ends), max(high for _, high in ends)


def heat_colors(values: Tensor) -> Tensor:
    """(H, W), values from 0 to 1 (clamped), as colours (3, H, W) from 0 to 1: dark is little (or NaN), bright much."""
    table = torch.tensor([[int(each[i : i + 2], 16) / 255 for i in (1, 3, 5)] for each in _ANCHORS])
    position = values.detach().float().cpu().nan_to_num(0).clamp(0, 1) * (len(_ANCHORS) - 1)
    index = position.long().clamp(max=len(_ANCHORS) - 2)
    share = (position - index)[..., None]
    return (table[index] * (1 - share) + table[index + 1] * share).permute(2, 0, 1)


def heat_image(values: Tensor, low: float, high: float) -> Image.Image:
    """A scalar map as a picture.

    Args:
        values: (H, W).
        low: value of the darkest colour.
        high: value of the brightest; as low, all is dark.
    """
    return to_image(heat_colors((values - low) / max(high - low, 1e-12)))


def overlay(image01: Tensor, picture: Image.Image, opacity: float = 0.6, *, is_coarse: bool = False) -> Image.Image:
    """A picture over the photo, whose colours are taken out so that those of the picture can be read.

    Args:
        image01: photo, (3, H, W), values from 0 to 1.
        picture: of the whole photo, any size; brought to the photo's.
        opacity: of the picture, 0 … 1.
        is_coarse: repeat the picture's pixels, so that cells stay visible.

    Raises:
        ValueError: for another opacity.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity!r}, expected 0 to 1")
    grey = to_image(image01).convert("L").convert("RGB")
    resample = Image.Resampling.NEAREST if is_coarse else Image.Resampling.BICUBIC
    return Image.blend(grey, picture.convert("RGB").resize(grey.size, resample), opacity)


def mark(picture: Image.Image, row: int, col: int, size: tuple[int, int]) -> Image.Image:
    """A ring and cross hairs around a pixel of a grid that the picture shows; the pixel itself stays visible.

    Args:
        picture: of the whole grid, any size; left as it is, a copy comes back.
        row: of the grid.
        col: of the grid.
        size: (rows, columns) of the grid.
    """
    out = picture.convert("RGB")
    radius = max(5.0, 0.018 * max(out.size))
    x, y = (col + 0.5) / size[1] * out.width, (row + 0.5) / size[0] * out.height
    side = 2 * math.ceil(2 * radius) + 2
    left, top = int(x) - side // 2, int(y) - side // 2
    patch = Image.new("RGBA", (side * _SMOOTH, side * _SMOOTH))
    draw = ImageDraw.Draw(patch)
    u, v, r = (x - left) * _SMOOTH, (y - top) * _SMOOTH, radius * _SMOOTH
    for colour, width in (("#101318", 0.34 * r), ("#ffffff", 0.16 * r)):  # white with a dark seam: seen on anything
        seam = (width - 0.16 * r) / 2
        draw.ellipse((u - r - seam, v - r - seam, u + r + seam, v + r + seam), outline=colour, width=round(width))
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            start, end = 0.9 * r, 1.7 * r + seam
            draw.line((u + dx * start, v + dy * start, u + dx * end, v + dy * end), fill=colour, width=round(width))
    patch = patch.resize((side, side), Image.Resampling.LANCZOS)
    out.paste(patch, (left, top), patch)
    return out
