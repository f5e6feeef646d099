"""Attention weights over the photo."""

import numpy as np
import pytest
import torch

import naf
from naf.visualization import attention_image, attention_map
from tests.helpers import randn, small

SIZE, GRID = (48, 64), (12, 16)


def attend(row, col, name="naf", size=SIZE):
    image01 = randn(1, 3, *SIZE).sigmoid()
    guidance = small(name).encode(naf.normalize(image01), size, GRID)
    return image01[0], guidance.attention(row, col)


@pytest.mark.parametrize("head", [None, 0, 3])
@pytest.mark.parametrize("position", [(0, 0), (20, 30), (47, 63)])
def test_weights_lie_on_their_cells(head, position):
    _, attention = attend(*position)
    weights, held = attention_map(attention, GRID, head=head)
    window = attention.weights[0].mean(0) if head is None else attention.weights[0, head]
    assert torch.allclose(weights[attention.rows][:, attention.cols], window)
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)
    assert held.sum() == window.numel()
    assert not weights[~held].any()


def test_a_cell_that_occurs_twice_has_both_weights():
    _, attention = attend(35, 40, size=(70, 80))  # the official rule repeats cells at a ratio of 5.83
    repeats = attention.rows.numel() * attention.cols.numel() - attention_map(attention, GRID)[1].sum()
    assert repeats > 0
    assert attention_map(attention, GRID)[0].sum().item() == pytest.approx(1, abs=1e-5)


def test_the_heaviest_cell_is_the_brightest_and_the_outside_is_dim():
    image01, attention = attend(20, 30)
    picture = np.asarray(attention_image(torch.full_like(image01, 0.5), attention, GRID, (20, 30), SIZE).convert("L"))
    weights, held = attention_map(attention, GRID)
    cells = np.array([[picture[4 * i + 1, 4 * j + 1] for j in range(16)] for i in range(12)]).astype(int)
    inside = held.numpy()
    border = np.zeros_like(inside)  # the frame and the mark are drawn over some cells
    border[attention.rows[0]], border[attention.rows[-1]] = True, True
    border[:, attention.cols[0]], border[:, attention.cols[-1]] = True, True
    border[3:8, 5:11] = True
    free = inside & ~border
    order = np.corrcoef(weights.numpy()[free], cells[free])[0, 1]
    assert order > 0.9
    assert len(np.unique(cells[~inside])) == 1


@pytest.mark.parametrize("position", [(0, 0), (20, 30), (47, 63)])
def test_zoom_shows_the_window_and_keeps_its_proportions(position):
    image01, attention = attend(*position)
    picture = attention_image(image01, attention, GRID, position, SIZE, zoom=True)
    assert max(picture.size) == 640
    rows = min(12, attention.rows.max().item() + 2) - max(0, attention.rows.min().item() - 1)
    cols = min(16, attention.cols.max().item() + 2) - max(0, attention.cols.min().item() - 1)
    assert picture.width / picture.height == pytest.approx(cols / rows, rel=0.01)


@pytest.mark.parametrize("name", ["bilinear", "guided", "jbf", "jafar", "anyup"])
def test_methods_with_other_windows_are_drawn_too(name):
    if not small(name).has_attention:
        pytest.skip(f"{name} has no attention weights")
    image01 = randn(1, 3, *SIZE).sigmoid()
    guidance = small(name).encode(naf.normalize(image01), SIZE, GRID)
    attention = guidance.attention(20, 30, randn(1, 8, *GRID))
    assert attention_image(image01[0], attention, GRID, (20, 30), SIZE).size == (64, 48)


def test_bad_input_is_refused():
    _, attention = attend(20, 30)
    with pytest.raises(ValueError, match="head is 4"):
        attention_map(attention, GRID, head=4)
    photo = torch.zeros(3, *SIZE)
    with pytest.raises(ValueError, match="column of position is 64"):
        attention_image(photo, attention, GRID, (20, 64), SIZE)
    with pytest.raises(ValueError, match=r"shape \(1, 3, 48, 64\), expected \(3, H, W\)"):
        attention_image(photo[None], attention, GRID, (20, 30), SIZE)
    doubled = attention._replace(weights=attention.weights.expand(2, -1, -1, -1))
    with pytest.raises(ValueError, match="attention has batch 2"):
        attention_map(doubled, GRID)
