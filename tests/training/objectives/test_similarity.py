"""The distances of JAFAR and AnyUp: closed forms, invariances, and where targets lie."""

import pytest
import torch

from naf.training.objectives.similarity import cosine_distance, in_output_space, min_max_error, similarity_loss
from tests.helpers import randn, small


def at_one_position(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


@pytest.mark.parametrize(
    ("prediction", "distance"), [((2, 0), 0), ((0, 3), 1), ((-1, 0), 2), ((1, 1), 1 - 0.5**0.5)], ids=str
)
def test_the_cosine_distance_is_one_minus_the_cosine(prediction, distance):
    assert cosine_distance(at_one_position(*prediction), at_one_position(5, 0)).item() == pytest.approx(distance)


def test_the_cosine_distance_does_not_see_the_scale_of_a_position():
    prediction, target = randn(2, 5, 3, 4, seed=1), randn(2, 5, 3, 4, seed=2)
    scale = randn(2, 1, 3, 4, seed=3).exp()
    expected = cosine_distance(prediction, target)
    torch.testing.assert_close(cosine_distance(scale * prediction, target), expected)
    torch.testing.assert_close(cosine_distance(prediction, scale * target), expected)


def test_the_min_max_error_is_relative_to_the_span_of_the_target():
    target, prediction = at_one_position(1, 3, 5), at_one_position(1, 4, 7)
    assert min_max_error(prediction, target).item() == pytest.approx((1 + 4) / 3 / 16, rel=1e-6)


def test_the_min_max_error_does_not_see_a_scale_and_shift_of_both():
    prediction, target = randn(2, 5, 3, 4, seed=1), randn(2, 5, 3, 4, seed=2)
    scale = 100 + randn(2, 1, 1, 1, seed=3)
    shift = randn(2, 1, 3, 4, seed=4)
    expected = min_max_error(prediction, target)
    torch.testing.assert_close(
        min_max_error(scale * prediction + shift, scale * target + shift), expected, rtol=1e-3, atol=0
    )


def test_a_constant_position_does_not_outweigh_the_others():
    target = randn(1, 3, 4, 4, dtype=torch.float64)
    target[:, :, 0, 0] = 0.5
    span = (target.amax(1) - target.amin(1)).mean()
    error = min_max_error(torch.where(target == 0.5, 0.6, target), target)
    assert error.item() == pytest.approx((0.1 / (0.1 * span.item() + 1e-6)) ** 2 / 16)


def test_half_precision_is_compared_in_float32():
    prediction, target = randn(1, 64, 4, 4, seed=1), randn(1, 64, 4, 4, seed=2)
    halves = prediction.bfloat16(), target.bfloat16()
    assert similarity_loss(*halves).dtype == torch.float32
    torch.testing.assert_close(similarity_loss(*halves), similarity_loss(halves[0].float(), halves[1].float()))


@pytest.mark.parametrize(
    ("name", "config", "is_normed"),
    [("loftup", {}, True), ("featup", {}, True), ("featup", {"use_norm": False}, False), ("jafar", {}, False)],
)
def test_targets_are_normed_where_the_upsampler_predicts_normed_features(name, config, is_normed):
    features = 3 + 5 * randn(2, 8, 4, 4)
    target = in_output_space(small(name, **config), features)
    if is_normed:
        centred = features - features.mean(1, keepdim=True)
        expected = centred / (features.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(target, expected)
    else:
        assert target is features
