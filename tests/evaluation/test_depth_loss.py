"""Losses of the depth probe: values of the official functions, invariances, gradients, bad input."""

import pytest
import torch

from naf.evaluation.depth_loss import depth_loss, gradient_loss, mask_target, scale_invariant_loss
from naf.evaluation.depth_loss_jafar import WARM_UP, jafar_depth_loss
from tests.evaluation.depth_golden import golden_depths
from tests.helpers import randn

LOSSES = [
    scale_invariant_loss,
    gradient_loss,
    depth_loss,
    pytest.param(lambda p, t: jafar_depth_loss(p, t, 0), id="jafar_warm_up"),
    pytest.param(lambda p, t: jafar_depth_loss(p, t, WARM_UP), id="jafar"),
]


def maps(batch=2, height=9, width=14):
    prediction = randn(batch, 1, height, width, dtype=torch.float64).exp()
    target = randn(batch, 1, height, width, seed=1, dtype=torch.float64).exp()
    target[randn(*target.shape, seed=2) > 0.8] = 0
    return prediction, target


def test_golden_values():
    prediction, target = golden_depths()
    assert (target > 0).sum((1, 2, 3)).tolist() == [274, 275]
    assert scale_invariant_loss(prediction, target).item() == pytest.approx(0.4555615630927414, rel=1e-6)
    assert gradient_loss(prediction, target).item() == pytest.approx(1.712124631566261, rel=1e-6)
    assert depth_loss(prediction, target).item() == pytest.approx(5.411677946710545, rel=1e-6)


def test_golden_values_of_jafar():
    prediction, target = golden_depths()
    assert jafar_depth_loss(prediction, target, WARM_UP - 1).item() == pytest.approx(0.0701779823616859, rel=1e-6)
    assert jafar_depth_loss(prediction, target, WARM_UP).item() == pytest.approx(0.4559671770848656, rel=1e-6)


def test_mask_target_makes_far_values_missing_and_leaves_the_rest_and_the_input():
    depth = torch.tensor([0.0, 5e-4, 9.9, 10.0, 10.1, 65.5])
    before = depth.clone()
    assert mask_target(depth).tolist() == pytest.approx([0, 5e-4, 9.9, 10, 0, 0])
    assert mask_target(depth, 80).tolist() == depth.tolist()
    assert torch.equal(depth, before)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_perfect_prediction_costs_nothing_and_has_no_gradient(loss):
    _, target = maps()
    prediction = target.clamp(min=1).requires_grad_()
    value = loss(prediction, target.clamp(min=1))
    value.backward()
    assert value.item() == 0
    assert torch.equal(prediction.grad, torch.zeros_like(target))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_right_and_none_at_missing_pixels(loss):
    prediction, target = maps(height=6, width=5)
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, target), prediction)
    loss(prediction, target).backward()
    assert prediction.grad[target == 0].eq(0).all()
    assert prediction.grad[target > 0].ne(0).any()


@pytest.mark.parametrize("missing", [0, -1.0, torch.nan])
@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_predicted_at_missing_pixels_does_not_matter(loss, missing):
    prediction, target = maps()
    other = torch.where(target > 0, prediction, 7.0)
    assert loss(other, target.masked_fill(target == 0, missing)).item() == loss(prediction, target).item()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_valid_pixels_costs_nothing(loss):
    prediction = torch.ones(1, 1, 4, 4, requires_grad=True)
    value = loss(prediction, torch.zeros(1, 1, 4, 4))
    value.backward()
    assert value.item() == 0
    assert torch.equal(prediction.grad, torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_is_not_hidden(loss):
    prediction, target = maps()
    prediction[target > 0] = torch.nan
    assert loss(prediction, target).isnan()


def test_a_wrong_scale_costs_little_scale_invariant_and_no_gradient_loss():
    _, target = maps()
    target = target.clamp(min=0.1)
    doubled = 2 * (target + 1e-3) - 1e-3  # g is log 2 everywhere
    assert scale_invariant_loss(doubled, target).item() == pytest.approx(0.15**0.5 * 0.6931471805599453)
    assert gradient_loss(doubled, target).item() == pytest.approx(0, abs=1e-10)


def test_the_gradient_loss_sees_the_pixel_after_the_next():
    """One wrong pixel of an 8 x 8 map: at stride 1 it ends two differences down, two to the right; at stride 2 one
    each; at strides 4 and 6 the map has two pixels a side, no two of them two apart."""
    target = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    prediction = target.clone()
    prediction[..., 4, 4] = 3
    g = torch.log(torch.tensor(3.001 / 1.001, dtype=torch.float64)).item()
    # At stride 2 pixel (2, 2) of 4 x 4 has a neighbour two before it and none after it.
    assert gradient_loss(prediction, target).item() == pytest.approx(g * (4 / 64 + 2 / 16))


def test_differences_across_a_missing_pixel_count_those_with_a_missing_end_do_not():
    target = torch.ones(1, 1, 1, 6, dtype=torch.float64)
    prediction = target.clone()
    prediction[..., 2] = 3
    g = torch.log(torch.tensor(3.001 / 1.001, dtype=torch.float64)).item()
    between, end = target.clone(), target.clone()
    between[..., 1] = 0
    end[..., 0] = 0
    assert gradient_loss(prediction, target).item() == pytest.approx(2 * g / 6)
    assert gradient_loss(prediction, between).item() == pytest.approx(2 * g / 5)
    assert gradient_loss(prediction, end).item() == pytest.approx(g / 5)


def test_maps_smaller_than_a_difference_are_taken():
    assert gradient_loss(torch.full((1, 1, 2, 1), 3.0), torch.ones(1, 1, 2, 1)).item() == 0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("prediction", "target"), [((1, 1, 4, 4), (1, 1, 4, 5)), ((1, 4, 4), (1, 4, 4)), ((1, 3, 4, 4), (1, 3, 4, 4))]
)
def test_other_shapes_are_refused(loss, prediction, target):
    with pytest.raises(ValueError, match=r"prediction is \(.*target \(.*expected \(B, 1, H, W\)"):
        loss(torch.ones(prediction), torch.ones(target))


def test_jafar_takes_no_more_than_two_images():
    with pytest.raises(ValueError, match="batch of 3, expected 1 or 2"):
        jafar_depth_loss(torch.ones(3, 1, 4, 4), torch.ones(3, 1, 4, 4), 0)
