"""Losses against values of the released functions, and their own definition."""

import pytest
import torch

from naf.restoration.losses import RestorationLoss, similarity_loss
from tests.helpers import golden_cases, randn
from tests.restoration.closed_form import LOSS, closed_form_pair


def test_the_terms_are_those_of_the_released_loss():
    terms = RestorationLoss()(*closed_form_pair())
    assert terms.keys() == LOSS.keys()
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(LOSS, rel=2e-5)


@pytest.mark.parametrize("path", golden_cases("metrics"))
def test_the_terms_are_those_of_the_released_loss_on_another_pair(fill, path):
    meta, tensors, _ = fill.load_case(path)
    values = meta["values"]
    terms = RestorationLoss()(tensors["noisy"], tensors["clean"])
    for name in ("l1", "l2", "ssim"):
        assert terms[name].item() == pytest.approx(values[f"loss_{name}"], rel=1e-5)
    assert terms["loss"].item() == pytest.approx(values["loss_total"], rel=1e-5)
    unweighted = similarity_loss(tensors["noisy"], tensors["clean"])
    assert unweighted.item() == pytest.approx(values["ssim_loss_unweighted"], rel=1e-5)


def test_each_term_is_times_its_weight():
    pair = closed_form_pair()
    full = RestorationLoss(l1=1, l2=1, ssim=1)(*pair)
    for name in ("l1", "l2", "ssim"):
        terms = RestorationLoss(**{"l1": 0, "l2": 0, "ssim": 0, name: 3})(*pair)
        assert terms.keys() == {"loss", name}
        torch.testing.assert_close(terms["loss"], 3 * full[name])
    torch.testing.assert_close(full["loss"], full["l1"] + full["l2"] + full["ssim"])


def test_equal_images_have_no_loss():
    _, clean = closed_form_pair()
    assert RestorationLoss()(clean, clean)["loss"].item() == pytest.approx(0, abs=1e-6)


def test_similarity_counts_the_zeros_beyond_the_border():
    # One pixel: its 3x3 mean is a ninth of it, and so is that of its square.
    a, b = torch.full((1, 1, 1, 1), 0.9), torch.full((1, 1, 1, 1), 0.3)
    mean_a, mean_b, cross = 0.1, 0.3 / 9, 0.27 / 9 - 0.1 * 0.3 / 9
    spread = 0.81 / 9 - mean_a**2 + 0.09 / 9 - mean_b**2
    expected = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4) * (2 * cross + 9e-4) / (spread + 9e-4)
    assert similarity_loss(a, b).item() == pytest.approx(1 - expected, rel=1e-5)


def test_gradients_are_those_of_differences():
    noisy, clean = (x[..., :6, :5].double() for x in closed_form_pair())
    noisy = noisy + 0.01 * randn(*noisy.shape, dtype=torch.float64)
    noisy.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: RestorationLoss()(x, clean)["loss"], noisy)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_are_summed_in_float32(dtype):
    noisy, clean = (x.to(dtype) for x in closed_form_pair())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = RestorationLoss()(noisy, clean)
    expected = RestorationLoss()(noisy.float(), clean.float())
    for name, value in terms.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name])


def test_the_prediction_is_not_clamped():
    noisy, clean = closed_form_pair()
    assert RestorationLoss()(noisy + 2, clean)["l1"] > 1.5


@pytest.mark.parametrize("weights", [{"l1": -1}, {"ssim": float("nan")}])
def test_bad_weights_are_refused(weights):
    (name,) = weights
    with pytest.raises(ValueError, match=f"{name} is .*, expected a weight of at least 0"):
        RestorationLoss(**weights)


def test_no_loss_at_all_is_refused():
    with pytest.raises(ValueError, match="expected at least one weight above"):
        RestorationLoss(0, 0, 0)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"restored is \(1, 3, 4, 4\), clean \(1, 3, 4, 5\)"):
        RestorationLoss()(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 5))
