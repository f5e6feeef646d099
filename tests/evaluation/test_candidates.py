"""Upsamplers and backbones by name."""

import re

import pytest
import torch
from safetensors.torch import save_file

import naf
from naf.evaluation.candidates import Candidate, checkpoint_of, make_backbones, parse_all
from tests.helpers import CHANNELS, SMALL, Tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("naf", Candidate("naf", "naf")),
        ("naf=none", Candidate("naf=none", "naf", "none")),
        ("own=naf=a/b.safetensors", Candidate("own", "naf", "a/b.safetensors")),
        ({"name": "naf", "dim": 16}, Candidate("naf", "naf", "auto", {"dim": 16})),
        ({"name": "naf", "weights": "none"}, Candidate("naf=none", "naf", "none")),
        ({"name": "naf", "weights": None}, Candidate("naf=none", "naf", "none")),
        ({"name": "naf", "label": "own", "weights": "none"}, Candidate("own", "naf", "none")),
    ],
)
def test_an_upsampler_is_written_in_many_ways(value, expected):
    assert Candidate.parse(value) == expected
    assert parse_all([value]) == parse_all(value) == [expected]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("naff", "upsampler 'naff' is unknown, did you mean"),
        ("", "upsampler '' is unknown"),
        ("own=naff=none", "upsampler 'naff' is unknown"),
        (3, "upsampler is 3, expected NAME, NAME=WEIGHTS"),
        ({"dim": 16}, "has no name, expected one of anyup"),
        ({"name": "naf", "dimm": 16}, "'naf' has no argument 'dimm'"),
        ("featup-implicit", "upsampler 'featup-implicit' is fitted to each image anew"),
        ([], "upsampler is [], expected one or more"),
        (["naf", "naf"], "upsampler is ['naf', 'naf'], expected one or more, each of a label of its own"),
    ],
)
def test_errors_of_upsamplers(value, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_all(value)
    assert "\n" not in str(caught.value)


def test_the_untrained_network_is_always_the_same_and_leaves_chance_alone():
    candidate = Candidate("naf=none", "naf", "none", SMALL["naf"])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = candidate.make(Tiny(), "tiny")
    assert torch.rand(3).equal(expected)
    assert checkpoint_of(first) == checkpoint_of(candidate.make(Tiny(), "tiny")) != ""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        other = naf.create("naf", None, **SMALL["naf"])
    assert checkpoint_of(other) != checkpoint_of(first)


def test_networks_are_frozen_and_in_evaluation_mode():
    made = Candidate("naf=none", "naf", "none", SMALL["naf"]).make(Tiny(), "tiny")
    assert not made.training
    assert not any(parameter.requires_grad for parameter in made.parameters())


def test_weights_may_be_of_each_backbone(tmp_path):
    made = {}
    for seed, label in enumerate("ab"):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made[label] = naf.create("naf", None, **SMALL["naf"])
        save_file(made[label].state_dict(), tmp_path / f"{label}.safetensors")
    candidate = Candidate.parse({"name": "naf", "weights": f"{tmp_path}/{{backbone}}.safetensors", **SMALL["naf"]})
    for label, network in made.items():
        loaded = candidate.make(Tiny(), label)
        assert checkpoint_of(loaded) == checkpoint_of(network)
        assert f"{label}.safetensors" in loaded.weights_source
    with pytest.raises(naf.WeightsError, match=r"c\.safetensors"):
        candidate.make(Tiny(), "c")


def test_networks_are_made_for_the_features_that_they_get():
    made = Candidate("jafar=none", "jafar", "none", {"qk_dim": 16}).make(Tiny(), "tiny")
    assert made.feature_channels == CHANNELS
    wrapper = Candidate("large-image", "large-image").make(backbone := Tiny(), "tiny")
    assert wrapper.backbone is backbone


def test_methods_without_weights_have_no_checkpoint():
    assert checkpoint_of(Candidate("bilinear", "bilinear").make(Tiny(), "tiny")) == ""


@pytest.mark.parametrize(
    ("value", "labels", "channels"),
    [
        ("hog", ["hog"], [16]),
        (["hog"], ["hog"], [16]),
        ({"_target_": "tests.helpers.Tiny"}, ["Tiny"], [CHANNELS]),
        ({"a": "hog", "b": {"_target_": "tests.helpers.Tiny"}, "c": None}, ["a", "b"], [16, CHANNELS]),
        ({"name": "hog", "stride": 8}, ["hog"], [16]),
        ([{"name": "hog", "label": "fine", "stride": 8}, "hog"], ["fine", "hog"], [16, 16]),
    ],
)
def test_backbones_are_written_in_many_ways(value, labels, channels):
    made = make_backbones(value, CPU)
    assert list(made) == labels
    assert [backbone.channels for backbone in made.values()] == channels


def test_arguments_of_backbones_reach_them():
    assert make_backbones({"fine": {"name": "hog", "stride": 8}}, CPU)["fine"].stride == 8


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["hog", "hog"], "backbone 'hog' is there twice"),
        ([], "backbone is empty"),
        ({"a": None}, "backbone is empty"),
        (3, "backbone '3' is 3, expected a name or a mapping"),
        ({"name": "hog", "strid": 8}, "backbone 'hog': "),
        ({"name": "hog", "stride": 1}, "stride is 1, expected at least 4"),
        ({"_target_": "builtins.dict"}, "backbone 'dict' is a dict, expected a naf.backbones.Backbone"),
        ({"_target_": "tests.helpers.Tinny"}, "Tinny"),
    ],
)
def test_errors_of_backbones(value, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        make_backbones(value, CPU)
    assert "\n" not in str(caught.value)
