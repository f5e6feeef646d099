"""Restorers by name, and the files that fill them."""

import json
import logging
import subprocess
import sys

import pytest
import torch

import naf
import naf.restoration
from naf import weights as weight_files
from naf.restoration.registry import entry
from naf.weight_record import WeightRecord
from naf.weight_writer import write_weights
from tests.helpers import randn
from tests.restoration.networks import NAMES, SMALL, noisy_image, small

by_name = pytest.mark.parametrize("name", NAMES)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def saved(path, restorer, **about):
    record = naf.restoration.record_of(restorer)
    write_weights(path, restorer.state_dict(), WeightRecord(record.upsampler, record.config, about))
    return path


def test_the_names_are_those_of_the_paper():
    assert NAMES == ["dncnn", "ircnn", "naf", "rednet", "restormer"]
    for name in NAMES:
        about = entry(name)
        assert about.paper.startswith("arXiv ")
        assert len(about.summary) < 80
        with pytest.raises(ValueError, match="registered already"):
            naf.restoration.registry.register(name, summary="", paper="")(about.cls)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="restorer 'rednett' is unknown, did you mean 'rednet'") as raised:
        naf.restoration.create("rednett")
    assert all(name in str(raised.value) for name in NAMES)


@by_name
def test_an_unknown_argument_is_answered_with_the_known_ones(name):
    with pytest.raises(TypeError, match=f"'{name}' has no argument 'widht'; it takes ") as raised:
        naf.restoration.create(name, weights=None, widht=3)
    assert all(option in str(raised.value) for option in entry(name).options)


@by_name
def test_a_restorer_knows_what_it_is(name):
    restorer = naf.restoration.create(name, weights=None, **SMALL[name])
    assert isinstance(restorer, naf.restoration.Restorer)
    assert restorer.name == name
    assert not restorer.training
    assert restorer.weights_source == "untrained"
    assert list(restorer.config) == entry(name).options
    assert SMALL[name].items() <= restorer.config.items()
    assert json.loads(json.dumps(restorer.config)) == restorer.config


@by_name
def test_auto_is_always_the_same_network_and_says_that_it_is_untrained(name, caplog):
    before = torch.random.get_rng_state()
    with caplog.at_level(logging.WARNING, "naf"):
        first, second = (naf.restoration.create(name, **SMALL[name]) for _ in range(2))
    assert same(first.state_dict(), second.state_dict())
    assert first.weights_source == "untrained (seed 0)"
    assert f"restorer {name} is untrained" in caplog.text
    assert torch.equal(torch.random.get_rng_state(), before)


def test_no_weights_are_drawn_from_the_global_generator():
    with torch.random.fork_rng(devices=[]):
        states = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            states.append(naf.restoration.create("ircnn", weights=None).state_dict())
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


@by_name
def test_a_file_brings_its_configuration(name, tmp_path):
    restorer = small(name)
    path = saved(tmp_path / "weights.safetensors", restorer, data="ten photos")
    again = naf.restoration.create(name, weights=path)
    assert again.config == restorer.config
    assert again.weights_source == str(path)
    assert again.record.about == {"data": "ten photos"}
    assert naf.restoration.record_of(again).about == {"data": "ten photos"}
    assert same(again.state_dict(), restorer.state_dict())
    noisy = noisy_image(1, 3, 16, 16)
    torch.testing.assert_close(again.requires_grad_(False)(noisy), restorer(noisy))


def test_an_argument_that_contradicts_the_file_is_refused_unless_it_only_says_how_to_compute(tmp_path):
    path = saved(tmp_path / "weights.safetensors", small("naf"))
    with pytest.raises(ValueError, match=r"dim is 64, but checkpoint .* needs 32"):
        naf.restoration.create("naf", weights=path, dim=64)
    assert naf.restoration.create("naf", weights=path, kernel_size=7, dim=32).config["kernel_size"] == 7
    path = saved(tmp_path / "other.safetensors", small("restormer"))
    same_numbers = tuple(SMALL["restormer"]["num_blocks"])  # a tuple, where JSON has a list
    assert naf.restoration.create("restormer", weights=path, num_blocks=same_numbers)


def test_weights_of_upsamplers_and_restorers_are_not_mixed_up(tmp_path):
    path = saved(tmp_path / "restorer.safetensors", small("naf"))
    with pytest.raises(naf.WeightsError, match="holds weights of 'denoise-naf', not of 'naf'"):
        naf.create("naf", weights=path)
    with pytest.raises(naf.WeightsError, match="holds weights of 'denoise-naf', not of 'denoise-ircnn'"):
        naf.restoration.create("ircnn", weights=path)
    upsampler = naf.create("naf", weights=None, dim=32)
    path = tmp_path / "upsampler.safetensors"
    write_weights(path, upsampler.state_dict(), WeightRecord("naf", upsampler.config))
    with pytest.raises(naf.WeightsError, match="holds weights of 'naf', not of 'denoise-naf'"):
        naf.restoration.create("naf", weights=path)


def test_a_file_of_a_later_version_is_refused(tmp_path):
    restorer, path = small("rednet"), tmp_path / "weights.safetensors"
    write_weights(path, restorer.state_dict(), WeightRecord("denoise-rednet", {**restorer.config, "gates": 2}))
    with pytest.raises(naf.WeightsError, match="arguments that 'rednet' does not have here: gates"):
        naf.restoration.create("rednet", weights=path)


def test_what_does_not_fit_is_listed():
    state = small("dncnn").state_dict()
    state["extra"] = torch.zeros(1)
    del state["model.0.bias"]
    with pytest.raises(naf.WeightsError, match=r"does not fit DnCNN") as raised:
        naf.restoration.create("dncnn", weights=state, **SMALL["dncnn"])
    assert "missing: model.0.bias (8,)" in str(raised.value)
    assert "unexpected: extra (1,)" in str(raised.value)


def test_a_state_of_other_periods_is_refused():
    state = small("naf").state_dict()
    state["image_encoder.rope.periods"] = 2 * state["image_encoder.rope.periods"]
    with pytest.raises(naf.WeightsError, match=r"wrong values: image_encoder\.rope\.periods"):
        naf.restoration.create("naf", weights=state, **SMALL["naf"])


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("embedded:snow", "weights is 'embedded:snow', expected embedded:gaussian or embedded:salt-and-pepper"),
        ("official", "'denoise-ircnn-gaussian' has no official weights"),
        ("embedded", "the package carries no weights for 'denoise-ircnn-gaussian'"),
        ("embedded:salt-and-pepper", "the package carries no weights for 'denoise-ircnn-salt-and-pepper'"),
        ("embedded:salt_and_pepper", "the package carries no weights for 'denoise-ircnn-salt-and-pepper'"),
        ("no/such.pth", "checkpoint no/such.pth: no such file"),
        (3, "weights are a int, expected"),
    ],
)
def test_weights_that_are_not_to_be_had_are_named(weights, words):
    with pytest.raises(naf.WeightsError, match=words):
        naf.restoration.create("ircnn", weights=weights)


@pytest.fixture
def embedded(tmp_path, monkeypatch):
    """A package that carries weights of a small NAF for both kinds of noise, each with a bias of its own."""
    restorer = small("naf")
    files = {}
    for value, kind in enumerate(("gaussian", "salt-and-pepper")):
        next(iter(restorer.parameters())).fill_(value)
        files[f"denoise-naf-{kind}"] = saved(tmp_path / f"{kind}.safetensors", restorer)
    monkeypatch.setattr(weight_files, "embedded_path", files.get)


@pytest.mark.usefixtures("embedded")
def test_the_package_may_carry_weights_for_each_kind_of_noise(caplog):
    expected = {"auto": 0, "embedded": 0, "embedded:gaussian": 0, "embedded:salt-and-pepper": 1}
    for word, value in expected.items():
        restorer = naf.restoration.create("naf", weights=word)
        assert next(iter(restorer.parameters())).eq(value).all()
        assert restorer.weights_source == (word if ":" in word else "embedded:gaussian")
        assert restorer.config["dim"] == SMALL["naf"]["dim"]
    assert not caplog.records


@pytest.mark.usefixtures("embedded")
def test_another_configuration_than_the_carried_weights_is_untrained_with_a_warning(caplog):
    restorer = naf.restoration.create("naf", dim=48)
    assert (restorer.weights_source, restorer.record) == ("untrained (seed 0)", None)
    assert "untrained" in caplog.text
    with pytest.raises(ValueError, match=r"dim is 48, but checkpoint embedded:gaussian needs 32"):
        naf.restoration.create("naf", weights="embedded", dim=48)


def test_a_restorer_made_by_hand_has_no_record():
    with pytest.raises(ValueError, match="this IRCNN does not know its configuration"):
        naf.restoration.record_of(naf.restoration.ircnn.IRCNN())


def test_half_precision_files_are_read(tmp_path):
    restorer, path = small("ircnn"), tmp_path / "half.safetensors"
    state = {key: value.half() for key, value in restorer.state_dict().items()}
    write_weights(path, state, naf.restoration.record_of(restorer))
    again = naf.restoration.create("ircnn", weights=path)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    torch.testing.assert_close(again(noisy_image(1, 3, 9, 9)), restorer(noisy_image(1, 3, 9, 9)), rtol=0.01, atol=0.01)


def test_the_package_is_light():
    heavy = ("skimage", "scipy", "matplotlib", "typer", "rich", "lightning", "torchmetrics", "torchvision", "hydra")
    code = "import sys, naf.restoration; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "naf.restoration.restormer" in result.stdout.split()
    assert set(result.stdout.split()).isdisjoint(heavy)


def test_networks_of_the_tests_are_no_identity():
    # What other tests compare would agree by chance where the network did nothing.
    for name in NAMES:
        noisy = 0.5 + 0.2 * randn(1, 3, 16, 16)
        assert (small(name)(noisy) - noisy).abs().mean() > 0.01
