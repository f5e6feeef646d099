"""Making what the options ask for."""

import pytest
import torch

import naf
from naf.cli.console import progress
from naf.cli.load import fit_to_photo, load_upsampler
from naf.loading import weights_for
from tests.helpers import CHANNELS, Tiny, randn


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("auto", "auto"),
        ("official:dinov2", "official:dinov2"),
        ("a=b.pth", "a=b.pth"),  # a file whose name has an equals sign
        ("naf=n.pth", "auto"),
        ("naf=n.pth, featup=official:dinov2", "official:dinov2"),
    ],
)
def test_weights_are_given_for_all_methods_or_by_name(weights, expected):
    assert weights_for("featup", weights) == expected


def test_names_with_a_plus_are_told_apart():
    given = "naf=n.pth,naf+=plus.safetensors,naf++=embedded"
    assert [weights_for(name, given) for name in ("naf", "naf+", "naf++")] == ["n.pth", "plus.safetensors", "embedded"]


@pytest.mark.parametrize(("name", "own"), [("naf", "official"), ("naf+", "cell")])
def test_the_neighborhood_is_the_methods_own_unless_given(capsys, name, own):
    for given, expected in ((None, own), ("official", "official"), ("cell", "cell")):
        upsampler = load_upsampler(name, "none", given, torch.device("cpu"), Tiny())
        assert upsampler.neighborhood == expected
        assert f"upsampler  {name}, weights: untrained, neighborhood: {expected}" in capsys.readouterr().out


def test_an_upsampler_is_as_wide_as_the_features_of_the_backbone():
    for name in ("jafar", "loftup", "featup", "lift", "featup-implicit"):
        upsampler = load_upsampler(name, "none", "official", torch.device("cpu"), Tiny())
        assert upsampler.feature_channels == CHANNELS
    assert load_upsampler("large-image", "auto", "official", torch.device("cpu"), Tiny()).feature_channels == CHANNELS


def test_only_a_method_for_one_image_is_fitted_to_the_photo(tmp_path, monkeypatch):
    calls = []
    kind = type(naf.create("featup-implicit", weights=None))
    monkeypatch.setattr(kind, "fit", lambda self, image, backbone, **options: calls.append((image, options)))
    image01, backbone, path = randn(3, 8, 8).sigmoid(), Tiny(), tmp_path / "a.fit"
    with progress() as bar:
        for name in ("bilinear", "featup-implicit"):
            method = load_upsampler(name, "auto", "official", torch.device("cpu"), backbone)
            fit_to_photo(method, image01, backbone, 7, path, bar)
    ((image, options),) = calls
    torch.testing.assert_close(image, naf.normalize(image01)[None])
    assert (options["steps"], options["checkpoint"]) == (7, path)
