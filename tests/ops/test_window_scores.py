"""Dot products with the window of each pixel."""

import pytest
import torch
from torch.autograd import gradcheck

from naf.ops.window_scores import window_scores
from tests.helpers import randn, relative_error


def by_definition(guide, radius):
    height, width = (side - 2 * radius for side in guide.shape[1:3])
    centre = guide[:, radius : radius + height, radius : radius + width]
    offsets = [(i, j) for i in range(2 * radius + 1) for j in range(2 * radius + 1)]
    return torch.stack([(guide[:, i : i + height, j : j + width] * centre).sum(-1) for i, j in offsets], dim=-1)


@pytest.mark.parametrize("radius", [0, 1, 3, 5])
@pytest.mark.parametrize("size", [(8, 16), (1, 1), (9, 23), (40, 70)], ids=str)
def test_scores_and_gradients_are_those_of_the_definition(size, radius):
    guide = randn(2, *(side + 2 * radius for side in size), 4, dtype=torch.float64).requires_grad_()
    scores, expected = window_scores(guide, radius), by_definition(guide, radius)
    assert relative_error(scores, expected) <= 1e-12
    loss = randn(*scores.shape, dtype=torch.float64)
    actual, wanted = (torch.autograd.grad((x * loss).sum(), guide)[0] for x in (scores, expected))
    assert relative_error(actual, wanted) <= 1e-12


def test_gradients_pass_gradcheck():
    guide = randn(1, 11, 7, 2, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda x: window_scores(x, 1), guide)


def test_strided_guides_make_no_difference():
    guide = randn(1, 4, 20, 14)
    last = guide.permute(0, 2, 3, 1)
    assert torch.equal(window_scores(last, 2), window_scores(last.contiguous(), 2))


def test_autocast_does_not_lower_the_precision():
    guide = randn(1, 20, 14, 4)
    expected = window_scores(guide, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(window_scores(guide, 2), expected)
