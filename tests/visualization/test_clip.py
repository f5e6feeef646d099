"""Frames of feature videos: what they show, and that both sides are even."""

import numpy as np
import pytest
import torch
from skimage import data

from naf.visualization.clip import ClipFrames

PHOTO = torch.from_numpy(data.astronaut()[:96, 100:229].copy()).permute(2, 0, 1) / 255  # 96x129
COARSE = torch.zeros(3, 6, 8)
RED = torch.tensor([2.0, -1.0, 0.0])[:, None, None].expand(3, 96, 129)  # colours are clamped
GREEN = RED[[1, 0, 2]]


def close_to(frame, color):
    return (np.abs(frame.astype(int) - color) <= 2).all(-1)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 6), (4, 7), (5, 7), (1, 1)])
def test_a_result_is_shown_pixel_for_pixel_on_even_sides(height, width):
    colors = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    frame = ClipFrames("result").make(PHOTO, COARSE, {"naf": colors})
    assert frame.shape == (height + height % 2, width + width % 2, 3)
    expected = (255 * colors).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(frame[:height, :width], expected)
    np.testing.assert_array_equal(frame[-1, :width], expected[-1])
    np.testing.assert_array_equal(frame[:height, -1], expected[:, -1])


def place_of(frame, color):
    """(row, column) of the middle of what has a colour."""
    return [float(place.mean()) for place in np.nonzero(close_to(frame, color))]


def test_three_stand_in_a_row_as_wide_as_full_hd():
    frame = ClipFrames("side", "clip", "about").make(PHOTO, COARSE, {"naf": RED})
    assert frame.dtype == np.uint8
    assert frame.shape[0] % 2 == 0
    assert frame.shape[1] == 1916
    black, red = place_of(frame, (0, 0, 0)), place_of(frame, (255, 0, 0))
    assert frame.shape[1] / 3 < black[1] < red[1]  # at the left stands the photo
    assert black[0] == pytest.approx(red[0], abs=2)


def test_four_stand_two_and_two_unless_they_are_tall():
    results = {"naf": RED, "bilinear": GREEN}
    frame = ClipFrames("side", "clip", "about").make(PHOTO, COARSE, results)
    assert frame.shape[1] == pytest.approx(1916, abs=6)
    red, green = place_of(frame, (255, 0, 0)), place_of(frame, (0, 255, 0))
    assert red[0] == pytest.approx(green[0], abs=2)
    assert place_of(frame, (0, 0, 0))[0] < red[0]
    tall = {name: colors.mT for name, colors in results.items()}
    frame = ClipFrames("side").make(PHOTO.mT, COARSE.mT, tall)
    assert place_of(frame, (0, 0, 0))[0] == pytest.approx(place_of(frame, (255, 0, 0))[0], abs=2)


def test_every_frame_of_a_clip_has_the_same_frame_around_its_pictures():
    frames = ClipFrames("side", "clip", "about")
    one, other = (frames.make(PHOTO, COARSE, {"naf": colors}) for colors in (RED, GREEN))
    changed = (one != other).any(-1)
    assert 0.1 < changed.mean() < 0.4
    assert not changed[:, : one.shape[1] * 2 // 3 - 20].any()


def test_the_dark_theme_is_dark():
    light, dark = (ClipFrames("side", theme=theme).make(PHOTO, COARSE, {"naf": RED}) for theme in ("light", "dark"))
    assert light[2, 2].min() > 200
    assert dark[2, 2].max() < 60
