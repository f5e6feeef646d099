"""PSNR and SSIM against the released functions, torchmetrics and scikit-image."""

import math
from functools import partial

import pytest
import torch

from naf.restoration.metrics import RestorationMetrics, psnr, psnr_released, ssim, ssim_released
from naf.restoration.similarity import gaussian_mean, similarity_map
from tests.helpers import golden_cases
from tests.restoration.closed_form import PSNR, SSIM, closed_form_pair
from tests.restoration.networks import noisy_image


def pair(batch=3, size=(24, 37)):
    """Restored images, some values of which lie beyond 0 … 1, and clean ones; each image worse than the last."""
    clean = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1))
    weight = torch.arange(1, batch + 1)[:, None, None, None] / batch
    return clean + weight * (noisy_image(batch, 3, *size, seed=2) - 0.5), clean


def test_the_released_definitions_give_the_golden_values():
    noisy, clean = closed_form_pair()
    assert psnr_released(noisy, clean).item() == pytest.approx(PSNR, rel=1e-6)
    assert ssim_released(noisy, clean).item() == pytest.approx(SSIM, rel=1e-5)


@pytest.mark.parametrize("path", golden_cases("metrics"))
def test_the_released_definitions_give_the_golden_values_of_another_pair(fill, path):
    meta, tensors, _ = fill.load_case(path)
    noisy, clean, values = tensors["noisy"], tensors["clean"], meta["values"]
    assert psnr_released(noisy, clean).item() == pytest.approx(values["psnr"], rel=1e-6)
    assert ssim_released(noisy, clean).item() == pytest.approx(values["ssim"], rel=1e-5)
    assert ssim_released(clean, clean).item() == pytest.approx(values["ssim_identical"])


def test_the_standard_definitions_are_those_of_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image")
    restored, clean = (x.double() for x in pair())
    options = {"data_range": (0.0, 1.0), "reduction": "none"}  # which clamps
    expected = functional.peak_signal_noise_ratio(restored, clean, dim=(1, 2, 3), **options)
    torch.testing.assert_close(psnr(restored, clean), expected)
    expected = functional.structural_similarity_index_measure(restored, clean, **options)
    torch.testing.assert_close(ssim(restored, clean), expected)


def test_within_the_border_they_are_those_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    restored, clean = (x.double() for x in pair())
    inner = similarity_map(restored.clamp(0, 1), clean, partial(gaussian_mean, sigma=1.5, padding=0)).mean((1, 2, 3))
    for made, true, decibel, similarity in zip(
        restored.clamp(0, 1).numpy(), clean.numpy(), psnr(restored, clean), inner, strict=True
    ):
        assert decibel.item() == pytest.approx(metrics.peak_signal_noise_ratio(true, made, data_range=1), rel=1e-9)
        expected = metrics.structural_similarity(
            true, made, data_range=1, channel_axis=0, gaussian_weights=True, use_sample_covariance=False
        )
        assert similarity.item() == pytest.approx(expected, rel=1e-9)


def test_the_two_definitions_differ():
    restored, clean = pair()
    assert psnr(restored, clean).mean() > psnr_released(restored, clean) + 0.5  # the worst image weighs most in a batch
    assert abs(ssim(restored, clean).mean() - ssim_released(restored, clean)) > 1e-3


def test_one_image_has_one_psnr():
    restored, clean = pair(1)
    torch.testing.assert_close(psnr(restored, clean)[0], psnr_released(restored, clean))


def test_the_restored_image_is_clamped():
    restored, clean = pair()
    assert restored.min() < 0
    for measure in (psnr, ssim, psnr_released, ssim_released):
        assert torch.equal(measure(restored, clean), measure(restored.clamp(0, 1), clean))


def test_unclamped_noise_of_a_tenth_is_twenty_decibel():
    clean = torch.full((1, 3, 300, 300), 0.5)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    assert psnr(noisy, clean).item() == pytest.approx(20, abs=0.05)


def test_an_image_is_like_itself():
    _, clean = pair()
    assert psnr(clean, clean).eq(math.inf).all()
    assert torch.allclose(ssim(clean, clean), torch.ones(3, dtype=torch.float64))


def test_flat_areas_are_measured_exactly():
    # In float32 the variance of such an image is as large as the constant that it is added to.
    clean = torch.full((1, 1, 16, 16), 0.9)
    assert ssim(clean + 1e-4, clean).item() == pytest.approx(1, abs=1e-6)


def test_means_are_over_images_and_over_batches():
    restored, clean = pair()
    metrics = RestorationMetrics()
    metrics.add(restored[:2], clean[:2])
    metrics.add(restored[2:], clean[2:])
    found = metrics.compute()
    assert found["psnr"] == pytest.approx(psnr(restored, clean).mean().item())
    assert found["ssim"] == pytest.approx(ssim(restored, clean).mean().item())
    for name, measure in (("psnr_released", psnr_released), ("ssim_released", ssim_released)):
        batches = [measure(restored[part], clean[part]) for part in (slice(2), slice(2, 3))]
        assert found[name] == pytest.approx(torch.stack(batches).mean().item())
        assert len(metrics.values[name]) == 2
    assert len(metrics.values["psnr"]) == 3


def test_nothing_measured_has_no_mean():
    with pytest.raises(ValueError, match="no image was measured"):
        RestorationMetrics().compute()


@pytest.mark.parametrize("measure", [psnr, ssim, psnr_released, ssim_released])
def test_other_shapes_are_refused(measure):
    with pytest.raises(ValueError, match=r"restored is \(1, 3, 16, 16\), clean \(3, 16, 16\), expected \(B, C, H, W\)"):
        measure(torch.rand(1, 3, 16, 16), torch.rand(3, 16, 16))


def test_images_that_cannot_be_mirrored_are_refused():
    with pytest.raises(ValueError, match=r"images are \(5, 30\) pixels, expected at least 6"):
        ssim(torch.rand(1, 3, 5, 30), torch.rand(1, 3, 5, 30))
    assert ssim(torch.rand(1, 3, 6, 30), torch.rand(1, 3, 6, 30)) < 1
    assert ssim_released(torch.rand(1, 3, 2, 30), torch.rand(1, 3, 2, 30)) < 1
