"""What a denoising command may say: noise, levels, protocols, restorers."""

import re
from copy import deepcopy
from functools import lru_cache

import pytest
import torch

from naf.evaluation import config, denoisers
from naf.evaluation.denoise_protocol import DenoiseProtocol, ImageNoise, noises
from naf.evaluation.denoisers import DenoiserCandidate, parse_all
from naf.evaluation.protocol import protocol_from
from naf.restoration import create, list_restorers
from naf.restoration.noise import NOISES
from naf.weights import WeightsError
from tests.evaluation.tiny_photos import SMALL, write_network

PLAIN = ["dataset.root=/data", "restorer=noisy"]


def load(*changes, dataset="cbsd68", noise="gaussian"):
    return deepcopy(_load(dataset, noise, changes))


@lru_cache
def _load(dataset, noise, changes):
    return config.load("denoise", [f"dataset={dataset}", f"noise={noise}", *PLAIN, "noise.level=0.1", *changes])


def test_imagenet_is_cut_to_448_and_the_others_are_as_they_are():
    paper, released = load(dataset="imagenet"), load("protocol=released", dataset="imagenet")
    assert protocol_from(DenoiseProtocol, paper["protocol"]) == DenoiseProtocol("paper", 448, 448)
    assert protocol_from(DenoiseProtocol, released["protocol"]) == DenoiseProtocol("released", 448, 448, 2, True)
    assert paper["plain_protocol"] == paper["protocol"]
    assert (paper["limit"], load("limit=null", dataset="imagenet")["limit"], load()["limit"]) == (5000, None, None)
    for dataset in ("cbsd68", "kodak24", "folder"):
        assert protocol_from(DenoiseProtocol, load(dataset=dataset)["protocol"]) == DenoiseProtocol()
    assert load()["folder"] == "out/eval/denoise"


@pytest.mark.parametrize(
    ("word", "levels"),
    [
        ("0.1", [0.1]),
        ("0.1,0.5", [0.1, 0.5]),
        ("[0.1,0.5]", [(0.1, 0.5)]),
        ("0.1,[0.1,0.5],0.5", [0.1, (0.1, 0.5), 0.5]),
        ("[[0.1,0.1],[0.5,0.5]]", [0.1, 0.5]),
        ("1", [1.0]),
    ],
)
def test_levels_are_numbers_ranges_or_several(word, levels):
    values = load(f"noise.level={word}", "seed=3")
    assert noises(values["noise"], values["seed"]) == [ImageNoise("gaussian", level, 3) for level in levels]


@pytest.mark.parametrize("kind", NOISES)
def test_every_kind_of_noise_has_a_file(kind):
    values = load(noise=kind.replace("-", "_"))
    assert noises(values["noise"], 0) == [ImageNoise(kind, 0.1, 0)]


def test_noises_have_names():
    assert [str(ImageNoise("gaussian", level, 0)) for level in (0.1, (0.1, 0.5))] == [
        "gaussian 0.1",
        "gaussian from 0.1 to 0.5",
    ]


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (1.5, "noise.level is 1.5, expected a number from 0 to 1"),
        (-0.1, "noise.level is -0.1, expected a number"),
        ([0.5, 0.1], "noise.level is [0.5, 0.1], expected a number"),
        ([0.1, 1.5], "noise.level is [0.1, 1.5], expected a number"),
        (0, "noise.level is 0, expected a number above 0"),
        ([0.1, [0.2, 0.3], 0.1], "noise.level is [0.1, [0.2, 0.3], 0.1], expected one or more, each once"),
        ("much", "noise.level is 'much', expected a number"),
        ([["a", "a"]], "noise.level is 'a', expected a number"),
        ([0.1, 0.2, 0.1], "noise.level is [0.1, 0.2, 0.1], expected one or more, each once"),
        ([], "noise.level is [], expected one or more"),
        (None, "noise.level is None, expected a number"),
    ],
)
def test_levels_that_are_none_are_refused(level, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        noises({"kind": "salt-and-pepper", "level": level}, 0)


@pytest.mark.parametrize("level", [25, [0.1, 25], [0.5, [15, 25]]])
def test_levels_for_8_bit_values_are_refused_with_the_right_one(level):
    with pytest.raises(ValueError, match=r"from 0 to 1, .* of 8-bit values by 255"):
        noises({"kind": "gaussian", "level": level}, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["noise=salt-and-pepper"], "noise=salt-and-pepper is unknown, did you mean salt_and_pepper?"),
        (["noise=gaussian,salt_and_pepper"], "noise takes one value; several are taken by restorer, noise.level"),
        (["backbone=hog"], "key 'backbone' is unknown"),
        (["noise.level=range(1,3)"], "noise.level=range(1,3): expected numbers or [LOW,HIGH], several with commas"),
        (["limit=0"], "limit is 0, expected a whole number from 1 up"),
        (["seed=-1"], "seed is -1, expected a whole number from 0 up"),
        (["pictures=few"], "pictures: Value 'few'"),
        (["task=video"], "task is 'video', expected denoise"),
    ],
)
def test_errors_are_one_line_that_says_what_to_write(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(*changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("noise=", "noise is missing, expected noise=NAME. Known: gaussian, salt_and_pepper"),
        ("noise.level", "noise.level is missing, expected noise.level="),
        ("restorer", "restorer is missing, expected restorer="),
    ],
)
def test_what_nobody_gave_is_named(left_out, message):
    words = ["dataset=cbsd68", *PLAIN, "noise=gaussian", "noise.level=0.1"]
    given = [word for word in words if not word.startswith(left_out)]
    if left_out == "noise=":
        given.remove("noise.level=0.1")
    with pytest.raises(ValueError, match=re.escape(message)):
        config.load("denoise", given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 4}, "protocol.crop is 4, expected at least 6"),
        ({"batch_size": 0}, "protocol.batch_size is 0, expected at least 1"),
        ({"size": 32, "crop": 64}, "protocol.crop is 64, expected at most protocol.size, 32"),
        ({"autocast": "float16"}, "protocol.autocast is 'float16', expected true or false"),
    ],
)
def test_protocols_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        protocol_from(DenoiseProtocol, change)


# Noise ---------------------------------------------------------------------------------------------------------------


def test_an_image_has_its_own_noise_whatever_came_before():
    clean = torch.full((1, 3, 9, 7), 0.5)
    noise = ImageNoise("gaussian", 0.2, seed=1)
    first, level = noise(clean, 4)
    noise(clean, 5)
    assert level == 0.2
    assert torch.equal(noise(clean, 4)[0], first)
    others = [noise(clean, 5)[0], ImageNoise("gaussian", 0.2, seed=2)(clean, 4)[0]]
    assert not any(torch.equal(other, first) for other in others)
    assert first.min() < 0.5 < first.max()


def test_a_range_draws_a_level_for_each_image():
    clean = torch.full((1, 3, 64, 64), 0.5)
    drawn = [ImageNoise("gaussian", (0.1, 0.5), 0)(clean, index) for index in range(20)]
    levels = [level for _, level in drawn]
    assert len(set(levels)) == 20
    assert 0.1 <= min(levels) < 0.2
    assert 0.4 < max(levels) <= 0.5
    for noisy, level in drawn:
        assert (noisy - clean).std().item() == pytest.approx(level, rel=0.05)


# Restorers -----------------------------------------------------------------------------------------------------------


def test_restorers_are_written_as_upsamplers_are():
    words = ["noisy", "naf", "naf=none", "mine=dncnn=a=b.safetensors", {"name": "naf", "label": "small", "dim": 32}]
    assert parse_all(words) == [
        DenoiserCandidate("noisy", "noisy"),
        DenoiserCandidate("naf", "naf"),
        DenoiserCandidate("naf=none", "naf", "none"),
        DenoiserCandidate("mine", "dncnn", "a=b.safetensors"),
        DenoiserCandidate("small", "naf", "auto", {"dim": 32}),
    ]
    assert [one.name for one in parse_all(list_restorers())] == list_restorers()
    assert load("restorer=noisy,naf=a.safetensors,median")["restorer"] == ["noisy", "naf=a.safetensors", "median"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("naff", "restorer 'naff' is unknown, did you mean 'naf'? Known: bilateral, dncnn"),
        ("median=file", "restorer 'median=file': 'median' learns nothing, expected no weights"),
        ({"name": "median", "size": 3}, "restorer 'median': 'median' has no argument 'size'"),
        ({"name": "naf", "size": 3}, "restorer 'naf': 'naf' has no argument 'size'"),
        (3, "restorer is 3, expected NAME"),
        (["naf", "naf"], "restorer is ['naf', 'naf'], expected one or more, each of a label of its own"),
        ([], "restorer is [], expected one or more"),
    ],
)
def test_what_is_no_restorer_is_refused(value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_all(value)


@pytest.mark.parametrize("kind", NOISES)
def test_the_packages_weights_are_those_of_the_kind_of_noise(monkeypatch, kind):
    asked = []

    def spy(name, weights, **config):
        asked.append((name, weights))
        return create(name, None, **SMALL[name])

    monkeypatch.setattr(denoisers, "create", spy)
    DenoiserCandidate("naf", "naf").make(kind, torch.device("cpu"))
    assert asked == [("naf", f"embedded:{kind}")]


def test_a_network_is_untrained_only_if_that_was_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr("naf.weights.embedded_path", lambda name: None)
    with pytest.raises(WeightsError, match=r"carries no weights of 'dncnn' for gaussian noise.*restorer=dncnn=FILE"):
        DenoiserCandidate("dncnn", "dncnn").make("gaussian", torch.device("cpu"))
    before = torch.random.get_rng_state()
    made = [DenoiserCandidate("x", "dncnn", "none", SMALL["dncnn"]).make("gaussian", torch.device("cpu")) for _ in "ab"]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert made[0].source == "untrained"
    assert made[0].checkpoint == made[1].checkpoint
    path = write_network(tmp_path / "a.safetensors", seed=1)
    trained = DenoiserCandidate("x", "dncnn", str(path)).make("gaussian", torch.device("cpu"))
    assert trained.source == str(path)
    assert trained.checkpoint != made[0].checkpoint
    assert trained.parameters == sum(one.numel() for one in trained.restorer.parameters()) > 0
