"""Colours of features."""

import pytest
import torch
import torch.nn.functional as F

import naf
from naf.data.samples import SAMPLES
from naf.visualization import PCAColors, Segments


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(3, 12, generator=generator) * torch.tensor([[5.0], [2.0], [1.0]])
    latent = torch.randn(200, 3, generator=generator)
    return (latent @ mixing + 3).T.reshape(1, 12, 10, 20)


def test_directions_are_the_leading_eigenvectors_of_the_covariance(features):
    vectors = features[0].flatten(1).T
    eigenvectors = torch.linalg.eigh(torch.cov(vectors.T)).eigenvectors.flip(1)[:, :3]
    directions = F.normalize(PCAColors.fit(features).weight, dim=1)
    torch.testing.assert_close((directions @ eigenvectors).abs(), torch.eye(3), atol=1e-4, rtol=0)


def test_the_middle_98_percent_of_each_component_cover_0_to_1(features):
    components = PCAColors.fit(features).project(features)[0].flatten(1)
    torch.testing.assert_close(torch.quantile(components, 0.01, dim=1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.quantile(components, 0.99, dim=1), torch.ones(3), atol=1e-4, rtol=0)


def test_the_basis_does_not_depend_on_signs_of_the_decomposition(features):
    torch.testing.assert_close(
        PCAColors.fit(features).weight, PCAColors.fit(features.flip(3)).weight, atol=1e-4, rtol=1e-4
    )


def test_a_constant_map_is_no_reason_to_fail():
    assert PCAColors.fit(torch.ones(1, 4, 5, 5)).project(torch.ones(1, 4, 5, 5)).isfinite().all()


@pytest.mark.parametrize("shape", [(1, 2, 5, 5), (1, 16, 1, 1), (1, 16, 1, 2), (1, 1, 1, 1)])
def test_few_channels_or_positions_leave_the_last_colours_constant(shape):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    colors = PCAColors.fit(features).project(features)
    assert colors.isfinite().all()
    assert (colors[0, -1] == colors[0, -1, 0, 0]).all()


def test_colours_are_the_same_from_run_to_run():
    # Other thread counts, devices and dtypes round otherwise: neither signs nor order of the components may change.
    backbone = naf.backbones.create("embedded")
    for sample in SAMPLES[:3]:
        with torch.inference_mode():
            features = backbone(naf.data.read_image(sample.path)[None, :, ::2, ::2])
        colors = PCAColors.fit(features)
        rounded = PCAColors.fit(features.bfloat16())
        assert (colors.weight * rounded.weight).sum(1).gt(0).all()
        assert (colors.project(features) - rounded.project(features)).abs().max() < 0.05
        flipped = PCAColors.fit(features.flip(-1))  # the order of the positions does not matter either
        assert torch.allclose(colors.project(features), flipped.project(features), atol=1e-3)


@pytest.mark.parametrize(
    "fit", [PCAColors.fit, lambda features: Segments.fit(features, 2)], ids=["colours", "segments"]
)
@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.rand(3, 4, 4), r"features has shape \(3, 4, 4\), expected four dimensions"),
        (torch.tensor([1.0, torch.nan]).view(1, 1, 1, 2), "features hold NaN or infinite values"),
        (torch.tensor([1.0, torch.inf]).view(1, 1, 1, 2), "features hold NaN or infinite values"),
    ],
)
def test_what_nothing_can_be_fitted_to_is_refused(fit, features, message):
    with pytest.raises(ValueError, match=message):
        fit(features)
