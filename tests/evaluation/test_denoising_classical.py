"""Denoisers that learn nothing, at the settings that were fitted."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, median_filter
from skimage import data

from naf.data import read_image
from naf.evaluation.classical_denoisers import FITTED, METHODS, bilateral, denoise, settings_for
from naf.evaluation.denoise_protocol import ImageNoise
from naf.restoration.metrics import psnr
from naf.restoration.noise import NOISES

KODAK = (Path(__file__).parents[2] / "../shared/data/denoise/Kodak24_crop256").resolve()
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5)
FILTERS = [name for name in METHODS if name != "noisy"]


def photo():
    """96 x 96 pixels of scikit-image's cat."""
    return torch.from_numpy(data.chelsea()[100:196, 100:196].copy()).permute(2, 0, 1)[None].float() / 255


def gain(name, clean, kind, level):
    """PSNR above the noisy image's, dB."""
    noisy, _ = ImageNoise(kind, level, 0)(clean, 0)
    restored = denoise(name, noisy, settings_for(name, kind, level))
    assert restored.shape == clean.shape
    assert restored.dtype == torch.float32
    return (psnr(restored, clean) - psnr(noisy, clean)).item()


def test_every_level_of_both_noises_is_fitted():
    assert {key: tuple(levels) for key, levels in FITTED.items()} == {
        (kind, name): LEVELS for kind in NOISES for name in FILTERS
    }


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("kind", NOISES)
def test_every_filter_gains_at_every_fitted_level(kind, name):
    gains = [gain(name, photo(), kind, level) for level in LEVELS]
    assert min(gains) > 0.5
    assert max(gains) > 3


@pytest.mark.skipif(not KODAK.is_dir(), reason="../shared/data/denoise is not there")
@pytest.mark.parametrize("kind", NOISES)
def test_they_gain_on_real_photos_that_they_were_not_fitted_on(kind):
    crops = [read_image(path)[None, :, 64:160, 64:160] for path in sorted(KODAK.glob("*.png"))[::2]]
    for name in FILTERS:
        assert np.mean([gain(name, crop, kind, 0.3) for crop in crops]) > 3, name


def test_the_noisy_image_stays_as_it_is():
    noisy, _ = ImageNoise("gaussian", 0.5, 0)(photo(), 0)
    assert noisy.min() < 0
    assert torch.equal(denoise("noisy", noisy, {}), noisy)
    assert settings_for("noisy", "anything", 0.1) == {}


def test_a_median_is_of_each_channel():
    noisy, _ = ImageNoise("salt-and-pepper", 0.3, 0)(photo(), 0)
    channels = [median_filter(channel.numpy(), 5, mode="mirror") for channel in noisy[0]]
    assert np.array_equal(denoise("median", noisy, {"size": 5})[0].numpy(), np.stack(channels))


def test_the_bilateral_filter_is_its_definition():
    noisy = ImageNoise("gaussian", 0.2, 0)(photo(), 0)[0][0, :, :9, :8].permute(1, 2, 0).double().numpy()
    expected = np.empty_like(noisy)
    for row, column in np.ndindex(9, 8):
        weights, total = 0.0, np.zeros(3)
        for down, across in product(range(-3, 4), repeat=2):
            other = np.pad(noisy, ((3, 3), (3, 3), (0, 0)), "symmetric")[row + 3 + down, column + 3 + across]
            near = math.exp(-(down**2 + across**2) / (2 * 0.8**2))
            weight = near * math.exp(-np.square(other - noisy[row, column]).sum() / (2 * 0.3**2))
            weights, total = weights + weight, total + weight * other
        expected[row, column] = total / weights
    filtered = bilateral(noisy.astype(np.float32), sigma_color=0.3, sigma_spatial=0.8)
    assert filtered == pytest.approx(expected, abs=1e-5)


def test_a_bilateral_filter_that_sees_no_colour_is_a_gaussian():
    noisy = ImageNoise("gaussian", 0.2, 0)(photo(), 0)[0]
    blurred = [gaussian_filter(channel.numpy(), 2, mode="reflect", radius=6) for channel in noisy[0]]
    filtered = denoise("bilateral", noisy, {"sigma_color": 1e3, "sigma_spatial": 2})
    assert filtered[0].numpy() == pytest.approx(np.stack(blurred), abs=0.01)  # its window is a square too


@pytest.mark.parametrize("name", FILTERS)
def test_a_lifted_image_is_lifted_after_as_before(name):
    """Values below 0, which noise has, are as good as others."""
    noisy, _ = ImageNoise("gaussian", 0.2, 0)(photo(), 0)
    settings = settings_for(name, "gaussian", 0.2)
    low, high = (denoise(name, noisy + lift, settings) - lift for lift in (-0.5, 1.0))
    assert (low - high).abs().max() < 1e-3


def test_levels_between_take_the_nearest_settings():
    for name in FILTERS:
        fitted = FITTED["gaussian", name]
        assert settings_for(name, "gaussian", 0.33) == fitted[0.3]
        assert settings_for(name, "gaussian", 0.01) == fitted[0.1]
        assert settings_for(name, "gaussian", 3.0) == fitted[0.5]


def test_noise_that_nothing_was_fitted_for_is_refused():
    with pytest.raises(ValueError, match="noise is 'speckle', expected one that median was fitted for: gaussian, salt"):
        settings_for("median", "speckle", 0.1)
