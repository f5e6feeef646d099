"""Networks of torch.hub, from small checkouts that the tests write."""

import pickle
from urllib.error import URLError

import pytest
import torch

import naf
from naf.backbones import BackboneError
from naf.backbones.fingerprint import fingerprint_of
from naf.normalization import IMAGENET_MEAN

# Each network embeds patches and puts its other tokens before, as the published ones do.
HUBCONF = """
from collections import namedtuple
from typing import NamedTuple

import torch
from torch import nn

dependencies = ["torch"]


class Patches(nn.Module):
    def __init__(self, patch, others):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 12, patch, stride=patch)
        self.others = nn.Parameter(torch.randn(1, others, 12))

    def map(self, image):
        return self.embed(image).tanh()

    def tokens(self, image):
        return torch.cat([self.others.expand(len(image), -1, -1), self.map(image).flatten(2).transpose(1, 2)], 1)


class Dino(Patches):
    def forward_features(self, x, masks=None):
        tokens = self.tokens(x)
        return {"x_norm_clstoken": tokens[:, 0], "x_norm_patchtokens": tokens[:, 1:], "masks": masks}

    def forward(self, x):
        return self.forward_features(x)["x_norm_clstoken"]


class Franca(Patches):
    def forward_features(self, x, masks=None, use_rasa_head=False):
        patches = self.tokens(x)[:, 1:]
        return {"x_norm_patchtokens": patches, "patch_token_rasa": -patches if use_rasa_head else None}


class RadioOutput(NamedTuple):
    summary: torch.Tensor
    features: torch.Tensor


class Radio(Patches):
    def forward(self, x, feature_fmt="NLC"):
        features = self.map(x).float()
        output = RadioOutput(self.others[:, 0], features if feature_fmt == "NCHW" else features.flatten(2).mT)
        return {"backbone": output, "sam": output._replace(features=-output.features)} if self.adaptors else output


class Capi(Patches):
    def forward_features(self, x, visible_indices, enc_layer):
        raise AssertionError("this is for training")

    def forward(self, x):
        registers = self.others.expand(len(x), -1, -1)
        return registers.mean(1), registers, self.map(x).permute(0, 2, 3, 1)


class Plain(Patches):
    def forward(self, x):
        return self.tokens(x)


class Pooled(Patches):
    def forward(self, x):
        return self.tokens(x).mean(1)


def dinov2_vits14():
    return Dino(14, 1)


def franca_vitb14(use_rasa_head=False):
    return Franca(14, 1)


def radio_model(version, adaptor_names=None):
    assert version == "radio_v2.5-b"
    network = Radio(16, 3)
    network.adaptors = adaptor_names
    return network


def capi_vitl14_lvd():
    return Capi(14, 16)


def plain(others=5):
    return Plain(8, others)


def pooled():
    return Pooled(8, 1)


def tokenizer():
    return str.split


def broken():
    raise ImportError("No module named 'xformers'\\nand more")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hubconf.py").write_text(HUBCONF)
    return tmp_path


@pytest.fixture
def cache(tmp_path):
    """An empty torch hub cache."""
    previous = torch.hub._hub_dir
    torch.hub.set_dir(tmp_path / "cache")
    yield tmp_path / "cache"
    torch.hub._hub_dir = previous


ENTRIES = {
    "dinov2_vits14": (14, {}, 1),
    "franca_vitb14": (14, {}, 1),
    "radio_model": (16, {"version": "radio_v2.5-b"}, 1),
    "capi_vitl14_lvd": (14, {}, 1),
}


@pytest.mark.parametrize("entry", ENTRIES)
@torch.no_grad()
def test_features_are_those_of_the_patches(folder, entry):
    stride, options, _ = ENTRIES[entry]
    backbone = naf.backbones.create(f"hub:{folder}:{entry}", **options)
    result = backbone.extract(torch.rand(2, 3, 4 * stride + 3, 6 * stride - 2))
    assert backbone.name == f"hub:{folder}:{entry}"
    assert (result.stride, backbone.channels, result.grid) == (stride, 12, (4, 6))
    image = torch.rand(2, 3, 3 * stride, 5 * stride)
    seen = image if entry == "radio_model" else naf.normalize(image)  # RADIO normalises inside
    torch.testing.assert_close(backbone(image), backbone.model.map(seen))
    if entry == "radio_model":
        torch.testing.assert_close(backbone(image), backbone.model(image, feature_fmt="NCHW").features)


@torch.no_grad()
def test_radio_with_adaptors_gives_the_backbones_features(folder):
    name, image = f"hub:{folder}:radio_model", torch.rand(1, 3, 32, 48)
    plain, adapted = (naf.backbones.create(name, version="radio_v2.5-b", adaptor_names=each) for each in (None, "sam"))
    torch.testing.assert_close(adapted(image), plain(image))


@torch.no_grad()
def test_franca_without_position(folder):
    name, image = f"hub:{folder}:franca_vitb14", torch.rand(1, 3, 28, 42)
    plain, rasa = naf.backbones.create(name), naf.backbones.create(name, use_rasa_head=True)
    torch.testing.assert_close(rasa(image), -plain(image))
    assert fingerprint_of(rasa) != fingerprint_of(plain)


@torch.no_grad()
def test_other_repositories_say_their_normalisation_and_lose_leading_tokens(folder):
    backbone = naf.backbones.create(f"hub:{folder}:plain", mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1))
    image = torch.rand(1, 3, 24, 40)
    seen = (image - 0.5) / torch.tensor([0.25, 0.5, 1])[:, None, None]
    torch.testing.assert_close(backbone(image), backbone.model.tokens(seen)[:, 5:].mT.unflatten(2, (3, 5)))


@pytest.mark.parametrize("given", [{}, {"mean": (0, 0, 0)}, {"mean": (0, 0, 0), "std": (1, 1, 0)}])
def test_other_repositories_without_normalisation_are_refused_before_anything_runs(folder, given):
    (folder / "hubconf.py").write_text("raise SystemExit('this was run')\n")
    with pytest.raises(ValueError, match="expected 3 values each, for images of 0 … 1"):
        naf.backbones.create(f"hub:{folder}:plain", **given)


def test_dtype_and_max_side(folder):
    backbone = naf.backbones.create(
        f"hub:{folder}:radio_model", version="radio_v2.5-b", dtype=torch.bfloat16, max_side=64
    )
    result = backbone.extract(torch.rand(1, 3, 128, 96))
    assert result.features.dtype == torch.bfloat16  # though RADIO itself gives float32
    assert result.input_size == (64, 48)


def test_fingerprints_are_of_the_weights(folder):
    first, second = (naf.backbones.create(f"hub:{folder}:dinov2_vits14") for _ in range(2))
    assert fingerprint_of(first) == fingerprint_of(second)
    with torch.no_grad():
        second.model.others.add_(1)
    assert fingerprint_of(first) != fingerprint_of(second)


# GitHub --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repository", ["facebookresearch/dinov2", "FacebookResearch/DINOv2:v1.0"])
def test_names_of_github_are_split_and_torch_hub_asks_for_trust(monkeypatch, folder, repository):
    loaded = torch.hub.load(str(folder), "dinov2_vits14", source="local")
    asked = {}

    def load(place, entry, **options):
        asked.update(options, place=place, entry=entry)
        return loaded

    monkeypatch.setattr(torch.hub, "load", load)
    backbone = naf.backbones.create(f"hub:{repository}:dinov2_vits14", size=3)
    assert backbone.mean == IMAGENET_MEAN
    assert asked == {
        "place": repository,
        "entry": "dinov2_vits14",
        "source": "github",
        "verbose": False,
        "trust_repo": "check",
        "size": 3,
    }


def test_a_repository_that_is_not_trusted_is_not_run(monkeypatch, cache):
    questions = []
    monkeypatch.setattr("builtins.input", lambda question: questions.append(question) or "n")
    monkeypatch.setattr(torch.hub, "_validate_not_a_forked_repo", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    with pytest.raises(BackboneError, match=r"cannot be had: Untrusted repository.*torch\.hub asks"):
        naf.backbones.create("hub:NVlabs/RADIO:main:radio_model", version="radio_v2.5-b")
    assert len(questions) == 1
    assert "NVlabs_RADIO" in questions[0]


def test_a_repository_out_of_reach_is_named_in_one_line(monkeypatch, cache):
    def no_network(url, *rest):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    with pytest.raises(BackboneError, match=r"'hub:valeoai/Franca:franca_vitb14' cannot be had: ") as caught:
        naf.backbones.create("hub:valeoai/Franca:franca_vitb14")
    assert "\n" not in str(caught.value)


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["radio_model", "no/folder/here:radio_model", "here:radio_model", ":radio_model"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="expected hub:OWNER/REPOSITORY:ENTRY or hub:FOLDER:ENTRY"):
        naf.backbones.create(f"hub:{name}")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("broken", r"cannot be had: No module named 'xformers' \("),
        ("absent", r"cannot be had: Cannot find callable absent in hubconf"),
        ("tokenizer", r"gives a method_descriptor, expected a network"),
        ("pooled", r"gives no dense features: the output has shapes \(1, 12\) and \(1, 12\)"),
    ],
)
def test_entries_that_give_no_dense_features_are_explained_in_one_line(folder, entry, message):
    with pytest.raises(BackboneError, match=message) as caught:
        naf.backbones.create(f"hub:{folder}:{entry}", mean=(0, 0, 0), std=(1, 1, 1))
    assert "\n" not in str(caught.value)


def test_more_tokens_than_a_class_and_registers_are_refused(folder):
    with pytest.raises(BackboneError, match="after at most 32 others"):
        naf.backbones.create(f"hub:{folder}:plain", others=100, mean=(0, 0, 0), std=(1, 1, 1))


def test_networks_can_be_pickled_for_workers(folder):
    backbone = naf.backbones.create(f"hub:{folder}:dinov2_vits14")
    backbone.model = torch.nn.Identity()  # classes of a hubconf.py cannot be pickled, whoever holds them
    assert pickle.loads(pickle.dumps(backbone)).stride == 14
