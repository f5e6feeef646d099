"""Text on pictures: the font, and text brought to the room there is."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import ImageFont

FONTS = Path(__file__).parents[1] / "assets" / "fonts"
CAPITALS = 0.727
"""Height of Inter's capitals over its size."""


@lru_cache(maxsize=32)
def font(size: int, weight: Literal["Regular", "SemiBold"] = "Regular") -> ImageFont.FreeTypeFont:
    """Inter.

    Args:
        size: of the em, pixels.
        weight: figures of Regular are of even width, so that they stand under each other.
    """
    return ImageFont.truetype(FONTS / f"Inter-{weight}.ttf", size)


def clean(text: str) -> str:
    """Text of one line that can be drawn: single spaces, no undecodable bytes of a file name."""
    return " ".join(text.encode(errors="replace").decode().split())


def fit(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, cut with an ellipsis where it is wider than there is room; empty where not even that fits."""
    if face.getlength(text) <= width:
        return text
    keep = _most(len(text), lambda count: face.getlength(text[:count].rstrip() + "…") <= width)
    return text[:keep].rstrip() + "…" if keep or face.getlength("…") <= width else ""


def wrap(text: str, face: ImageFont.FreeTypeFont, width: float, lines: int) -> list[str]:
    """The text in at most so many lines, broken at spaces; the last is cut with an ellipsis if need be."""
    words = text.split()
    if lines == 1 or face.getlength(text) <= width:
        return [fit(" ".join(words), face, width)] if words else []
    keep = max(1, _most(len(words), lambda count: face.getlength(" ".join(words[:count])) <= width))
    rest = wrap(" ".join(words[keep:]), face, width, lines - 1)
    return [fit(" ".join(words[:keep]), face, width), *rest]


def _most(count: int, fits: Callable[[int], bool]) -> int:
    """The greatest number up to count that fits, where all smaller ones fit too; 0 if none does."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
