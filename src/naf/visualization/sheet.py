"""Comparison sheets: pictures side by side, each with its title and a line of figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_PAPER, _INK, _QUIET = "#ffffff", "#16181d", "#5c6370"
_COLUMNS = 4


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet.

    Attributes:
        image: the picture; scaled to the sheet's panel size.
        title: above it, e.g. the method.
        caption: below it, e.g. size, time, memory.
        is_coarse: scale by repeating pixels, so that cells stay visible.
    """

    image: Image.Image
    title: str
    caption: str = ""
    is_coarse: bool = False


def comparison_sheet(panels: Sequence[Panel], *, title: str = "", width: int = 480) -> Image.Image:
    """Panels in rows of up to four.

    Args:
        panels: at least one; the first sets the aspect ratio of all.
        title: headline of the sheet.
        width: pixels of a panel.

    Raises:
        ValueError: without panels.
    """
    if not panels:
        raise ValueError("panels is empty, expected at least one panel")
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    columns = math.ceil(len(panels) / rows)  # five panels: three and two, not four and one
    height = round(width * panels[0].image.height / panels[0].image.width)
    unit = max(12, width // 26)  # size of the text
    gap, head, foot = unit, round(1.9 * unit), round(1.9 * unit)
    top = gap + (round(2.4 * unit) if title else 0)
    sheet = Image.new("RGB", (gap + columns * (width + gap), top + rows * (head + height + foot) + gap // 2), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((gap, gap), title, fill=_INK, font=_font(1.35 * unit))
    for index, panel in enumerate(panels):
        left = gap + (index % columns) * (width + gap)
        upper = top + (index // columns) * (head + height + foot)
        draw.text((left, upper + head - 0.45 * unit), panel.title, fill=_INK, font=_font(1.15 * unit), anchor="ls")
        resample = Image.Resampling.NEAREST if panel.is_coarse else Image.Resampling.LANCZOS
        sheet.paste(panel.image.convert("RGB").resize((width, height), resample), (left, upper + head))
        caption = _fit(draw, panel.caption, _font(0.9 * unit), width)
        draw.text((left, upper + head + height + 0.45 * unit), caption, fill=_QUIET, font=_font(0.9 * unit))
    return sheet


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(round(size))


def _fit(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, cut with an ellipsis where it is wider than its panel."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text + "…"
