"""What several test files need: random tensors, small upsamplers, golden cases."""

import json
from functools import lru_cache
from pathlib import Path

import pytest
import torch

import naf
from naf.backbones import Backbone
from naf.registry import entry

GOLDENS = (Path(__file__).parents[1] / ".." / "shared" / "goldens").resolve()
NO_GOLDENS = "../shared/goldens is not there"

CHANNELS = 8

# Configurations that make a network small and take features of CHANNELS channels; names not listed take none.
SMALL = {
    "naf": {"dim": 32, "img_layers": 1},
    "naf+": {"dim": 32, "img_layers": 1},
    "naf++": {"dim": 48, "img_layers": 2},
    "jafar": {"qk_dim": 16, "v_dim": CHANNELS},
    "anyup": {"qk_dim": 16},
    "loftup": {"dim": CHANNELS},
    "lift": {"in_channels": CHANNELS, "patch_size": 8},
    "featup": {"feat_dim": CHANNELS, "key_dim": 4, "radius": 1, "ratio": 4},
    "featup-implicit": {"channels": CHANNELS, "n_freqs": 3, "hidden": 16},
    "jbu": {"dim": 16, "radius": 2},
}

# A method that is fitted to one image cannot be called with others; it has tests of its own.
NAMES = [name for name in naf.list_upsamplers() if not entry(name).cls.fits_one_image]

# Relative, against float32.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def randn(*shape, seed=0, dtype=torch.float32):
    """The same standard normal numbers for the same shape and seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class Tiny(Backbone):
    """A backbone of CHANNELS channels and stride 4: colours and their gradients, averaged."""

    name, stride, channels = "tiny", 4, CHANNELS

    def _features(self, image01):
        padded = torch.nn.functional.pad(image01, (1, 1, 1, 1), mode="replicate")
        maps = [image01, padded[:, :, 2:, 1:-1] - image01, padded[:, :2, 1:-1, 2:] - image01[:, :2]]
        return torch.nn.functional.avg_pool2d(torch.cat(maps, dim=1), self.stride)


def config_of(name, **config):
    """The small configuration of an upsampler."""
    backbone = {"backbone": Tiny()} if entry(name).needs_backbone else {}
    return {**SMALL.get(name, {}), **backbone, **config}


@lru_cache
def small(name, **config):
    """A small upsampler, one for each name and configuration, always with the same parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        upsampler = naf.create(name, weights=None, **config_of(name, **config))
    # Zero biases and unit norm weights would hide an exchange of parameters.
    for index, parameter in enumerate(upsampler.parameters()):
        parameter.data += 0.1 * randn(*parameter.shape, seed=index)
    return upsampler.requires_grad_(False)


def relative_error(actual, expected):
    """Greatest difference over the greatest magnitude expected."""
    actual, expected = actual.double(), expected.double()
    assert actual.shape == expected.shape
    if not expected.numel():
        return 0.0
    return ((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()


def golden_cases(kind, **filters):
    """Parameters for pytest: the golden cases of a kind whose JSON has the given values, by name."""
    if not GOLDENS.is_dir():
        return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=NO_GOLDENS))]
    paths = [p for p in sorted(GOLDENS.rglob("*.json")) if p.with_suffix(".safetensors").exists()]
    metas = {p: json.loads(p.read_text()) for p in paths}
    return [
        pytest.param(path, id=f"{meta['kind']}-{path.stem}")
        for path, meta in metas.items()
        if meta["kind"] == kind and all(meta.get(key) == value for key, value in filters.items())
    ]
