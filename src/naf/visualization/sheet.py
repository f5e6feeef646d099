"""Comparison sheets: pictures side by side, each with its name and a line of figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from naf.visualization.theme import Theme, find_theme
from naf.visualization.typography import CAPITALS, clean, fit, font, wrap

_COLUMNS = 4
_WIDEST, _TALLEST = 0.5, 1.5  # height over width of pictures that take a panel's width; others take more or less
_NARROWEST = 0.65  # of the width: room for a name and figures
_SMOOTH = 4  # how much finer rounded corners are drawn than they are shown


@dataclass(frozen=True)
class ColorScale:
    """What the colours of a panel's row mean: drawn at the right of its caption.

    Attributes:
        colors: a strip from the least value at its left to the greatest.
        low: the least value.
        high: the greatest.
    """

    colors: Image.Image
    low: str
    high: str


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet.

    Attributes:
        image: the picture; scaled to the sheet's panel size.
        title: its name, e.g. the method.
        caption: figures, e.g. size, time, memory. Tabs part them into columns that are even over the whole sheet: the
            first at the left, the others at the right.
        is_coarse: enlarge by repeating pixels, so that cells stay visible.
        scale: stands at the right of the caption, which then has no tabs.
    """

    image: Image.Image
    title: str
    caption: str = ""
    is_coarse: bool = False
    scale: ColorScale | None = None


def comparison_sheet(
    panels: Sequence[Panel],
    *,
    title: str = "",
    subtitle: str = "",
    width: int = 480,
    theme: str = "light",
    columns: int | None = None,
) -> Image.Image:
    """Panels in rows, below a headline.

    Text that is too long is cut with an ellipsis; the subtitle is first broken into two lines.

    Args:
        panels: at least one. All show the same view, so the first sets the aspect ratio of all.
        title: headline of the sheet.
        subtitle: below it, quieter, e.g. what was measured where.
        width: pixels of a panel's picture. Pictures wider than 2:1 take more and stand in fewer columns, those taller
            than 2:3 take less and stand in more.
        theme: "light" or "dark".
        columns: panels in a row. Default: as many as are as wide as four of `width`, evenly filled.

    Raises:
        ValueError: without panels, for an unknown theme, or for columns or width below 1.
    """
    if not panels:
        raise ValueError("panels is empty, expected at least one panel")
    if width < 1 or (columns is not None and columns < 1):
        raise ValueError(f"width is {width} and columns is {columns}, expected at least 1")
    colors, grid = find_theme(theme), _Grid(panels, width, columns)
    head = _Head(clean(title), clean(subtitle), grid)
    sheet = Image.new("RGB", (grid.width + 2 * grid.margin, head.height + grid.height + 2 * grid.margin), colors.paper)
    head.draw(sheet, colors)
    stops = _tab_stops(panels, grid)
    for index, panel in enumerate(panels):
        left = grid.margin + (index % grid.columns) * (grid.cell + grid.gap)
        top = grid.margin + head.height + (index // grid.columns) * (grid.row + grid.row_gap)
        _paste(sheet, _scaled(panel, grid.picture), (left, top), 0.3 * grid.unit, grid, colors)
        _label(sheet, panel, (left, top + grid.picture[1]), grid, colors, stops)
    return sheet


class _Grid:
    """Where panels stand. Lengths are pixels; texts are sized by `unit`.

    Attributes:
        picture: (width, height) of each picture.
        cell: width of a panel, of its picture or of what its text needs.
        row: height of a panel with its text.
        columns: panels in a row.
        name, caption: distance from the picture's lower edge to the baseline of the name and of the figures.
    """

    def __init__(self, panels: Sequence[Panel], width: int, columns: int | None) -> None:
        aspect = panels[0].image.height / panels[0].image.width
        across = min(_COLUMNS * width, width * max(1.0, _WIDEST / aspect)) * min(1.0, _TALLEST / aspect)
        self.picture = (max(1, round(across)), max(1, round(across * aspect)))
        self.cell = max(self.picture[0], round(_NARROWEST * width))
        self.unit = unit = max(9, round(width / 24))
        self.margin, self.gap, self.row_gap = 2 * unit, round(1.4 * unit), 2 * unit
        self.name_font, self.caption_font = font(round(1.25 * unit), "SemiBold"), font(round(0.95 * unit))
        bottom = 0.0
        self.name = self.caption = 0
        if any(panel.title for panel in panels):
            self.name = round(0.7 * unit + CAPITALS * self.name_font.size)
            bottom = self.name + 0.25 * self.name_font.size
        if any(panel.caption or panel.scale for panel in panels):
            self.caption = round((self.name or 0.1 * unit) + 1.55 * self.caption_font.size)
            bottom = self.caption + 0.25 * self.caption_font.size
        self.row = self.picture[1] + math.ceil(bottom)
        if columns is None:
            most = max(1, _COLUMNS * width // self.cell)
            rows = math.ceil(len(panels) / most)
            columns = math.ceil(len(panels) / rows)  # five panels: three and two, not four and one
        self.columns = min(columns, len(panels))
        self.rows = math.ceil(len(panels) / self.columns)
        self.width = self.columns * (self.cell + self.gap) - self.gap
        self.height = self.rows * (self.row + self.row_gap) - self.row_gap


class _Head:
    """Title, subtitle, and a thin rule below them; nothing where both are empty."""

    def __init__(self, title: str, subtitle: str, grid: _Grid) -> None:
        unit, self.grid = grid.unit, grid
        self.fonts = font(round(1.8 * unit), "SemiBold"), font(unit)
        self.title = fit(title, self.fonts[0], grid.width)
        self.lines = wrap(subtitle, self.fonts[1], grid.width, 2)
        base = CAPITALS * self.fonts[0].size if self.title else 0.0
        self.baselines = []
        for number, _ in enumerate(self.lines):
            base += (1.5 if number else 1.75 if self.title else CAPITALS) * unit
            self.baselines.append(round(base))
        self.rule = round(base + 1.1 * unit)
        self.height = self.rule + round(1.4 * unit) if base else 0

    def draw(self, sheet: Image.Image, colors: Theme) -> None:
        """Draw on the sheet."""
        if not self.height:
            return
        draw, margin = ImageDraw.Draw(sheet), self.grid.margin
        base = margin + round(CAPITALS * self.fonts[0].size)
        draw.text((margin, base), self.title, fill=colors.ink, font=self.fonts[0], anchor="ls")
        for line, below in zip(self.lines, self.baselines, strict=True):
            draw.text((margin, margin + below), line, fill=colors.quiet, font=self.fonts[1], anchor="ls")
        thick = max(1, self.grid.unit // 14)
        upper = margin + self.rule
        draw.rectangle((margin, upper, margin + self.grid.width - 1, upper + thick - 1), fill=colors.rule)


def _paste(
    sheet: Image.Image, picture: Image.Image, corner: tuple[int, int], radius: float, grid: _Grid, colors: Theme
) -> None:
    """A picture with rounded corners, in a hairline frame outside of it."""
    (left, top), (width, height), line = corner, picture.size, max(1, grid.unit // 14)
    radius = min(radius, width / 4, height / 4)
    outer = (width + 2 * line, height + 2 * line)
    sheet.paste(colors.rule, (left - line, top - line), _rounded(outer, radius + line))
    sheet.paste(picture, corner, _rounded(picture.size, radius))


def _scaled(panel: Panel, size: tuple[int, int]) -> Image.Image:
    """The picture at its size on the sheet. No kernel that rings: a sheet must not add edges to features."""
    image = panel.image.convert("RGB")
    if image.width >= size[0] and image.height >= size[1]:
        return image.resize(size, Image.Resampling.HAMMING)
    return image.resize(size, Image.Resampling.NEAREST if panel.is_coarse else Image.Resampling.BICUBIC)


def _rounded(size: tuple[int, int], radius: float) -> Image.Image:
    mask = Image.new("L", (size[0] * _SMOOTH, size[1] * _SMOOTH))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), radius * _SMOOTH, fill=255)
    return mask.resize(size, Image.Resampling.BOX)


def _fields(panel: Panel) -> list[str]:
    return [clean(field) for field in panel.caption.split("\t")]


def _tab_stops(panels: Sequence[Panel], grid: _Grid) -> list[float]:
    """Right ends of the second field and those after it, from a panel's left; the last is the panel's right."""
    fields = [_fields(panel)[1:] for panel in panels]
    count = max(map(len, fields))
    widths = [max(grid.caption_font.getlength(row[i]) for row in fields if len(row) > i) for i in range(count)]
    return [grid.cell - sum(each + 1.3 * grid.unit for each in widths[i + 1 :]) for i in range(count)]


def _label(
    sheet: Image.Image,
    panel: Panel,
    corner: tuple[int, int],
    grid: _Grid,
    colors: Theme,
    stops: Sequence[float],
) -> None:
    """Name and figures below a picture whose lower left corner is given."""
    draw, (left, top) = ImageDraw.Draw(sheet), corner
    name = fit(clean(panel.title), grid.name_font, grid.cell)
    draw.text((left, top + grid.name), name, fill=colors.ink, font=grid.name_font, anchor="ls")
    face, base = grid.caption_font, top + grid.caption
    fields = _fields(panel)
    if panel.scale is not None:
        room = _draw_scale(sheet, panel.scale, (left + grid.cell, base), grid, colors)
        draw.text((left, base), fit(", ".join(fields), face, room), fill=colors.quiet, font=face, anchor="ls")
        return
    starts = [stop - face.getlength(field) for stop, field in zip(stops, fields[1:], strict=False)]
    if starts and face.getlength(fields[0]) + 0.5 * grid.unit > starts[0]:  # no room for columns
        fields, starts = [", ".join(fields)], []
    draw.text((left, base), fit(fields[0], face, grid.cell), fill=colors.quiet, font=face, anchor="ls")
    for start, field in zip(starts, fields[1:], strict=True):
        draw.text((left + start, base), field, fill=colors.quiet, font=face, anchor="ls")


def _draw_scale(sheet: Image.Image, scale: ColorScale, end: tuple[int, int], grid: _Grid, colors: Theme) -> float:
    """A strip of colours between its two values, ending at the right; gives the room left of it."""
    draw, face, (right, base) = ImageDraw.Draw(sheet), grid.caption_font, end
    gap, high = round(0.4 * grid.unit), round(face.getlength(scale.high))
    strip = (round(4.5 * grid.unit), round(0.6 * grid.unit))
    left = right - high - gap - strip[0]
    draw.text((right, base), scale.high, fill=colors.quiet, font=face, anchor="rs")
    upper = base - round((CAPITALS * face.size + strip[1]) / 2)
    colors_strip = scale.colors.convert("RGB").resize(strip, Image.Resampling.BILINEAR)
    _paste(sheet, colors_strip, (left, upper), 0.15 * grid.unit, grid, colors)
    draw.text((left - gap, base), scale.low, fill=colors.quiet, font=face, anchor="rs")
    return grid.cell - (right - left) - gap - face.getlength(scale.low) - 0.5 * grid.unit
