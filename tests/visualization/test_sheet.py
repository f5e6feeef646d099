"""Comparison sheets."""

import numpy as np
import pytest
from PIL import Image

from naf.visualization import Panel, comparison_sheet


def solid(color, size=(20, 10)):
    return Image.new("RGB", size, color)


@pytest.mark.parametrize(("panels", "rows"), [(1, 1), (4, 1), (5, 2), (9, 3)])
def test_every_panel_appears_once(panels, rows):
    colors = [(10 + 20 * index, 0, 250 - 20 * index) for index in range(panels)]
    sheet = comparison_sheet([Panel(solid(color), "title") for color in colors], width=100)
    pixels = np.asarray(sheet).reshape(-1, 3)
    for color in colors:
        assert (pixels == color).all(1).sum() == 100 * 50
    assert sheet.height < rows * 120


def test_coarse_panels_keep_their_cells_sharp():
    two = Image.fromarray(np.array([[[0, 0, 0], [200, 100, 50]]], dtype=np.uint8))
    sheet = np.asarray(comparison_sheet([Panel(two, "", is_coarse=True)], width=100)).reshape(-1, 3)
    assert (sheet == (200, 100, 50)).all(1).sum() == 50 * 50


def test_long_captions_are_cut_to_the_panel():
    narrow = comparison_sheet([Panel(solid("red"), "", "a" * 500)], width=100)
    assert narrow.size == comparison_sheet([Panel(solid("red"), "", "a")], width=100).size
    right = np.asarray(narrow)[:, -12:]
    assert (right == 255).all()


def test_no_panel_is_refused():
    with pytest.raises(ValueError, match="panels is empty"):
        comparison_sheet([])
