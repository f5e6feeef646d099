"""Comparison sheets."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from naf.visualization import Panel, comparison_sheet
from naf.visualization.sheet import ColorScale
from naf.visualization.theme import THEMES, find_theme

LONG = "Ågpqy_" * 60


def solid(color, size=(20, 10)):
    return Image.new("RGB", size, color)


def tone(index):
    """Colours that no theme and no mix of one has."""
    return (255, 20 * index, 0)


def panels_of(count, size=(20, 10), **text):
    return [Panel(solid(tone(index), size), **{"title": "", **text}) for index in range(count)]


def boxes(sheet, count):
    """(left, top, right, bottom) of each picture, in order."""
    pixels = np.asarray(sheet)
    out = []
    for index in range(count):
        rows, columns = np.nonzero((pixels == tone(index)).all(2))
        out.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return out


def written(sheet, theme="light"):
    """Where the sheet is not paper."""
    return (np.asarray(sheet) != ImageColor.getrgb(THEMES[theme].paper)).any(2)


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (4, 4, 1), (5, 3, 2), (7, 4, 2), (9, 3, 3), (12, 4, 3)]
)
def test_panels_stand_in_evenly_filled_rows(count, columns, rows):
    places = boxes(comparison_sheet(panels_of(count), width=100), count)
    assert {(right - left, bottom - top) for left, top, right, bottom in places} == {(100, 50)}
    assert len({left for left, *_ in places}) == columns
    assert len({top for _, top, *_ in places}) == rows
    assert places == sorted(places, key=lambda box: (box[1], box[0]))


def test_columns_can_be_asked_for():
    places = boxes(comparison_sheet(panels_of(6), width=100, columns=6), 6)
    assert len({top for _, top, *_ in places}) == 1


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", [(20, 10), (300, 20), (15, 200)])
def test_no_text_however_long_touches_a_picture_another_panel_or_the_margin(theme, size):
    few, many = "x", LONG
    sheets = [
        comparison_sheet(
            panels_of(5, size, title=text, caption=f"{text}\t1 s\t+9 MiB"),
            title=text,
            subtitle=f"x{text[1:]} {text[1:]}",
            width=160,
            theme=theme,
        )
        for text in (few, many)
    ]
    assert sheets[0].width == sheets[1].width
    places = boxes(sheets[1], 5)
    assert len({(right - left, bottom - top) for left, top, right, bottom in places}) == 1
    for index, (left, top, right, bottom) in enumerate(places):
        solid_share = (np.asarray(sheets[1])[top:bottom, left:right] == tone(index)).all(2).mean()
        assert solid_share > 0.99  # all but the rounded corners
    ink = written(sheets[1], theme)
    margin = places[0][0] - 2
    assert margin > 8
    # Rings and descenders reach out: margins are counted from capitals and baselines.
    for edge in (ink[: margin // 2], ink[-margin // 2 :], ink[:, :margin], ink[:, -margin:]):
        assert not edge.any()
    starts = sorted({left for left, *_ in places})
    for start in starts[1:]:  # the gap left of each column is free below the headline
        assert not ink[places[0][1] :, start - 6 : start - 2].any()


def test_margins_are_even():
    sheet = comparison_sheet(panels_of(3, title="T"), width=240)
    ink = written(sheet)
    rows, columns = np.nonzero(ink.any(1))[0], np.nonzero(ink.any(0))[0]
    left, right, top = columns[0], sheet.width - 1 - columns[-1], rows[0]
    assert left == right == top
    assert abs((sheet.height - 1 - rows[-1]) - left) <= 0.3 * left  # descenders take their part


def test_names_outweigh_figures():
    def text_of(**text):
        sheet = comparison_sheet(panels_of(1, **text), width=240)
        below = np.asarray(sheet.convert("L"), dtype=float)[boxes(sheet, 1)[0][3] + 3 :]
        rows = np.nonzero((below < 200).any(1))[0]
        return rows[-1] - rows[0], (255 - below).sum()

    (high, dark), (low, pale) = text_of(title="HHHH"), text_of(caption="HHHH")
    assert high > low
    assert dark > 1.5 * pale


def test_figures_stand_under_each_other():
    figures = ["10×10\t1 ms\t+1 MiB", "100×100\t111 ms\t+1111 MiB"]
    panels = [Panel(solid(tone(i)), "", caption) for i, caption in enumerate(figures)]
    sheet = comparison_sheet(panels, width=480, columns=1)
    ends = []
    for (left, _, right, bottom), below in zip(boxes(sheet, 2), (40, 40), strict=True):
        ink = written(sheet)[bottom + 3 : bottom + below, left:right].any(0)
        gaps = np.nonzero(np.convolve(~ink, np.ones(12), "valid") == 12)[0]  # wider than a space
        words = np.split(np.nonzero(ink)[0], np.nonzero(np.diff(np.nonzero(ink)[0]) > 12)[0] + 1)
        assert len(gaps)
        assert len(words) == 3
        ends.append([word[-1] for word in words[1:]])
        assert words[0][0] <= 3
    assert np.abs(np.subtract(*ends)).max() <= 2
    assert ends[0][1] >= right - left - 4


def test_a_colour_scale_stands_right_of_a_caption_that_is_cut_for_it():
    strip = solid(tone(1), (64, 1))
    panel = Panel(solid(tone(0)), "", LONG, scale=ColorScale(strip, "−0.10", "0.95"))
    sheet = comparison_sheet([panel], width=240)
    (left, _, right, bottom), (start, upper, end, lower) = boxes(sheet, 2)
    ink = written(sheet)
    assert bottom < upper < lower
    assert (right + left) / 2 < start < end < right
    assert ink[bottom + 3 :, end + 3 : right + 1].any()  # the greatest value
    assert not ink[bottom + 3 :, right + 2 :].any()
    assert ink[bottom + 3 :, left:start].any(0)[:20].any()  # the caption
    assert not ink[bottom + 3 :, start - 4 : start - 2].any()


@pytest.mark.parametrize("theme", THEMES)
def test_text_has_contrast_enough_to_be_read(theme):
    """WCAG 2.2: 4.5 for text of any size, 7 for enhanced."""

    def luminance(color):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.divide(color, 255)]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    def contrast(a, b):
        low, high = sorted(luminance(ImageColor.getrgb(color)) for color in (a, b))
        return (high + 0.05) / (low + 0.05)

    colors = find_theme(theme)
    assert contrast(colors.ink, colors.paper) >= 7
    assert contrast(colors.quiet, colors.paper) >= 4.5
    sheet = comparison_sheet(panels_of(1, title="HIH", caption="HIH"), title="HIH", theme=theme)
    seen = {tuple(pixel) for pixel in np.asarray(sheet).reshape(-1, 3)}
    assert {ImageColor.getrgb(color) for color in (colors.ink, colors.quiet, colors.paper)} <= seen


def test_coarse_panels_keep_their_cells_sharp():
    two = Image.fromarray(np.array([[[0, 0, 0], [200, 100, 50]]], dtype=np.uint8))
    pixels = np.asarray(comparison_sheet([Panel(two, "", is_coarse=True)], width=100)).reshape(-1, 3)
    cell = (pixels == (200, 100, 50)).all(1).sum()
    assert 0.99 * 50 * 50 <= cell <= 50 * 50  # less its two rounded corners


def test_pictures_are_reduced_without_new_values():
    """A kernel that rings would draw seams along the edges of features."""
    stripes = np.zeros((300, 300, 3), dtype=np.uint8) + 100
    stripes[:, 120:] = 150
    sheet = comparison_sheet([Panel(Image.fromarray(stripes), "")], width=200)
    inside = np.asarray(sheet)[60:160, 30:200]
    assert inside.min() == 100
    assert inside.max() == 150


@pytest.mark.parametrize("size", [(4000, 100), (100, 4000)])
def test_long_strips_stay_visible_and_the_sheet_bounded(size):
    sheet = comparison_sheet(panels_of(3, size, title="name", caption="1x1"), width=200)
    left, top, right, bottom = boxes(sheet, 3)[0]
    assert min(right - left, bottom - top) >= 7
    assert abs((right - left) / (bottom - top) / (size[0] / size[1]) - 1) < 0.1
    assert max(sheet.size) < 5 * 200


@pytest.mark.parametrize("name", ["two\nlines.jpg", "bad\udcff.jpg", "a\tb", "Ёжик ελληνικά.jpg", "写真.jpg"])
def test_any_file_name_can_be_a_title(name):
    plain = comparison_sheet(panels_of(1, title="x"), title="x")
    sheet = comparison_sheet(panels_of(1, title=name), title=name, subtitle="")
    assert sheet.size == plain.size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"panels": []}, "panels is empty"),
        ({"theme": "sepia"}, "theme is 'sepia', expected one of 'light', 'dark'"),
        ({"width": 0}, "width is 0"),
        ({"columns": 0}, "columns is 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        comparison_sheet(**{"panels": panels_of(1), **arguments})
