"""PHI-S and the Hadamard matrices behind it."""

import pytest
import torch

from naf.upsamplers.phi_s import PhiS, hadamard
from tests.helpers import randn

# Channels of usual backbones among them: 384, 768, 1024, 1152, 1280, 1408, 1536, 1664.
SIZES = [1, 2, 4, 8, 12, 16, 20, 28, 36, 44, 76, 104, 384, 768, 1024, 1152, 1280, 1408, 1536, 1664]


@pytest.mark.parametrize("size", SIZES)
def test_hadamard_matrices_hold_ones_and_have_orthogonal_rows(size):
    matrix = hadamard(size)
    assert matrix.abs().eq(1).all()
    assert torch.equal(matrix @ matrix.mT, size * torch.eye(size, dtype=torch.float64))


@pytest.mark.parametrize("size", [3, 6, 7, 10, 52, 92])
def test_sizes_without_a_known_construction_are_refused(size):
    with pytest.raises(ValueError, match="no Hadamard matrix is known here"):
        hadamard(size)


@pytest.fixture
def fitted():
    samples = randn(500, 12, dtype=torch.float64) @ randn(12, 12, seed=1, dtype=torch.float64) + 5
    phi = PhiS(12).double()
    phi.fit(samples.mean(0), samples.T.cov())
    return phi, samples.T[None, :, :, None]


def test_fitted_channels_have_mean_zero_and_variance_one(fitted):
    phi, samples = fitted
    y = phi(samples)[0, :, :, 0]
    torch.testing.assert_close(y.mean(1), torch.zeros(12, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var(1), torch.ones(12, dtype=torch.float64), rtol=1e-5, atol=0)


def test_the_standardisation_is_a_rotation_and_one_scale(fitted):
    phi, samples = fitted
    torch.testing.assert_close(phi.rotation @ phi.rotation.mT, torch.eye(12, dtype=torch.float64))
    x = samples[0, :, :, 0].T
    y = phi(samples)[0, :, :, 0].T
    distances = [torch.cdist(z[:1], z, compute_mode="donot_use_mm_for_euclid_dist") for z in (x, y)]
    torch.testing.assert_close(phi.alpha * distances[0], distances[1])


def test_the_inverse_gives_the_features_back(fitted):
    phi, samples = fitted
    torch.testing.assert_close(phi.inverse(phi(samples)), samples)
    half = phi.inverse(phi(samples.float())).float()
    torch.testing.assert_close(half, samples.float(), rtol=1e-4, atol=1e-4)


def test_before_fitting_it_is_the_identity():
    x = randn(2, 6, 3, 4)
    assert torch.equal(PhiS(6)(x), x)
    assert torch.equal(PhiS(6).inverse(x), x)


def test_state_is_four_buffers():
    assert {name: tuple(value.shape) for name, value in PhiS(4).state_dict().items()} == {
        "mean": (4,),
        "alpha": (),
        "rotation": (4, 4),
        "inv_rotation": (4, 4),
    }


def test_moments_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"have shapes \(3,\) and \(4, 4\), expected \(4,\) and \(4, 4\)"):
        PhiS(4).fit(torch.zeros(3), torch.eye(4))
    with pytest.raises(ValueError, match="covariance has no positive trace"):
        PhiS(4).fit(torch.zeros(4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="no Hadamard matrix"):
        PhiS(6).fit(torch.zeros(6), torch.eye(6))
