"""What one call leaves behind must not change the next."""

import pytest
import torch

import naf
from naf.ops.interpolation import axis_taps
from naf.ops.neighborhood import axis_table
from naf.ops.tiling import _candidates
from tests.helpers import NAMES, randn, small


@pytest.fixture
def no_tables():
    for cached in (axis_table, axis_taps, _candidates):
        cached.cache_clear()


@pytest.mark.parametrize("name", [n for n in NAMES if small(n).uses_features])
def test_training_works_after_inference_at_the_same_size(no_tables, name):
    upsampler, image, features = small(name), randn(1, 3, 23, 29), randn(1, 8, 5, 7)
    with torch.inference_mode():
        expected = upsampler(image, features, (23, 29))
        list(upsampler.encode(image, (23, 29), (5, 7)).iter_rows(features, rows=9))
    features.requires_grad_()
    guidance = upsampler.encode(image, (23, 29), (5, 7))
    bands = torch.cat([band for _, band in guidance.iter_rows(features, rows=9)], dim=2)
    (guidance.upsample(features).sum() + bands.sum()).backward()
    torch.testing.assert_close(bands, expected, rtol=1e-5, atol=1e-5)
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_tables_made_under_another_default_device_are_real(no_tables, name):
    upsampler, image, features = small(name), randn(1, 3, 23, 29), randn(1, 8, 5, 7)
    with torch.device("meta"):
        axis_table(23, 5, 9), axis_table(29, 7, 9)
        for mode in ("nearest", "bilinear", "bicubic", "lanczos"):
            axis_taps(mode, 23, 5), axis_taps(mode, 29, 7)
    assert upsampler(image, features, (23, 29)).isfinite().all()


def test_features_of_an_inference_block_may_be_used_outside_it():
    upsampler = naf.create("naf", weights=None, dim=32)
    image = randn(1, 3, 20, 24)
    with torch.inference_mode():
        features = randn(1, 8, 5, 6) + 0
        expected = upsampler(image, features, (20, 24))
    torch.testing.assert_close(upsampler(image, features, (20, 24)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in NAMES if small(n).is_linear])
def test_a_head_on_large_half_precision_features_does_not_overflow(name):
    features = (60000 * randn(1, 512, 5, 7).sign()).half()
    weight = randn(3, 512) / 200
    guidance = small(name).encode(randn(1, 3, 20, 21), (20, 21), (5, 7))
    expected = guidance.upsample_linear(features.double(), weight.double())
    actual = guidance.upsample_linear(features, weight)
    assert actual.dtype == torch.float16
    assert expected.abs().max() < 65504
    torch.testing.assert_close(actual.double(), expected, rtol=2e-3, atol=1.0)
