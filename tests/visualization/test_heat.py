"""Colours of scalar maps, and the mark of a pixel."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2lab

from naf.visualization import heat_colors, heat_image, heat_range, mark, overlay


def lab(values):
    return rgb2lab(heat_colors(values).permute(1, 2, 0).numpy())


def test_brightness_rises_evenly_with_the_value():
    steps = lab(torch.linspace(0, 1, 256)[None])[0]
    lightness = np.diff(steps[:, 0])
    assert lightness.min() > 0.25  # 90 over 255 steps would be 0.35
    assert np.linalg.norm(np.diff(steps, axis=0), axis=1).max() < 1.5


def test_values_outside_the_range_take_its_ends():
    picture = np.asarray(heat_image(torch.tensor([[-5.0, 0.2, 0.8, 5.0]]), 0.2, 0.8))
    assert (picture[0, 0] == picture[0, 1]).all()
    assert (picture[0, 2] == picture[0, 3]).all()
    assert picture[0, 0].sum() < picture[0, 3].sum()


def test_a_value_that_is_none_is_dark():
    picture = np.asarray(heat_image(torch.tensor([[float("nan"), 0.0, 1.0]]), 0.0, 1.0))
    assert (picture[0, 0] == picture[0, 1]).all()


def test_a_range_without_width_is_dark_and_finite():
    assert np.asarray(heat_image(torch.full((2, 2), 0.5), 0.5, 0.5)).max() < 64


def test_one_range_holds_all_maps_and_no_outlier():
    one, other = torch.linspace(0, 1, 10_000), torch.linspace(-0.5, 0.5, 10_000)
    one[0] = 1e6
    low, high = heat_range(one, other)
    assert -0.5 < low < -0.47
    assert 0.99 < high < 1
    assert heat_range(one.view(100, 100), other) == (low, high)
    with pytest.raises(ValueError, match="maps is empty"):
        heat_range()


def test_a_range_of_a_large_map_is_close_to_that_of_all_its_values():
    values = torch.randn(1500, 1500, generator=torch.Generator().manual_seed(0))
    expected = np.quantile(values.numpy(), [0.02, 0.998])
    assert heat_range(values) == pytest.approx(expected, abs=0.03)


def test_an_overlay_has_the_photos_size_and_no_colour_of_it():
    photo = torch.zeros(3, 20, 30)
    photo[0] = 1
    bare = np.asarray(overlay(photo, Image.new("RGB", (3, 2)), 0.0))
    assert bare.shape == (20, 30, 3)
    assert (bare[..., 0] == bare[..., 2]).all()
    full = np.asarray(overlay(photo, Image.new("RGB", (3, 2), "#204060"), 1.0))
    assert (full == (0x20, 0x40, 0x60)).all()
    with pytest.raises(ValueError, match="opacity is 2"):
        overlay(photo, Image.new("RGB", (3, 2)), 2)


def test_cells_stay_visible_where_asked():
    cells = Image.fromarray(np.array([[[0] * 3, [255] * 3]], dtype=np.uint8))
    coarse = np.asarray(overlay(torch.zeros(3, 4, 8), cells, 1.0, is_coarse=True))
    assert set(np.unique(coarse)) == {0, 255}
    assert len(np.unique(np.asarray(overlay(torch.zeros(3, 4, 8), cells, 1.0)))) > 2


def test_a_range_sees_every_column_of_a_large_map():
    values = torch.zeros(1024, 1024)
    values[:, 8::16] = 1  # as what repeats from cell to cell does
    assert heat_range(values) == (0, 1)


@pytest.mark.parametrize("colour", ["#000000", "#ffffff", "#808080"])
@pytest.mark.parametrize(("row", "col"), [(10, 15), (0, 0), (19, 29)])
def test_a_mark_is_seen_on_any_ground_and_surrounds_its_pixel(colour, row, col):
    ground = Image.new("RGB", (300, 200), colour)
    before = np.asarray(ground).astype(int)
    marked = np.asarray(mark(ground, row, col, (20, 30))).astype(int)
    changed = np.abs(marked - before).max(2) > 60
    assert changed.any()
    assert (np.asarray(ground) == before).all()
    y, x = round((row + 0.5) * 10), round((col + 0.5) * 10)
    assert not changed[y - 1 : y + 2, x - 1 : x + 2].any()  # the pixel itself
    if (row, col) == (10, 15):
        rows, cols = changed.nonzero()
        assert abs((rows.min() + rows.max()) / 2 - y) <= 1
        assert abs((cols.min() + cols.max()) / 2 - x) <= 1
