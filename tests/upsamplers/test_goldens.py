"""Every peer against the outputs of its official implementation: names, shapes and values."""

import pytest
import torch

import naf
from tests.helpers import golden_cases

PEERS = ("jafar", "anyup", "loftup", "featup", "lift", "jbu", "jbf")
CASES = [case for kind in PEERS for case in golden_cases(kind)]
# Where the JSON's own bar is 1e-4 ours is a tenth of it. LoftUp's phases turn one rounding into about 1e-3.
SHARE = 0.1


def load(fill, path):
    meta, tensors, state = fill.load_case(path)
    upsampler = naf.create(meta["kind"], weights=None, **meta["config"])
    naf.load_checkpoint(upsampler, state)
    return upsampler, meta, tensors


@pytest.mark.parametrize("path", CASES)
def test_the_filled_state_is_loaded_whole(fill, path):
    meta, _, state = fill.load_case(path)
    upsampler = naf.create(meta["kind"], weights=None, **meta["config"])
    own = upsampler.state_dict()
    adapted = upsampler.adapt_state(state)
    assert {name: tensor.shape for name, tensor in adapted.items()} == {name: t.shape for name, t in own.items()}
    assert sorted(map(str, (t.shape for t in own.values()))) == sorted(map(str, (t.shape for t in state.values())))


# With and without autograd some methods take different paths.
@pytest.mark.parametrize("with_autograd", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("path", CASES)
def test_the_output_is_the_official_one(fill, path, with_autograd):
    upsampler, meta, tensors = load(fill, path)
    limit = meta["tolerance"] * (1 if meta["kind"] == "loftup" else SHARE)
    with torch.set_grad_enabled(with_autograd):
        out = upsampler(tensors["image"], tensors["features"], meta["output_size"])
    assert fill.error(meta, tensors, out) <= limit


# Table 1 of the NAF paper, in millions, for 384 feature channels.
COUNTS = {
    "naf": ({}, 662_528, 0.66),
    "jafar": ({"v_dim": 384}, 628_480, 0.63),
    "anyup": ({}, 878_080, 0.88),
    "loftup": ({"dim": 384}, 4_303_894, 4.30),
    "featup": ({"feat_dim": 384}, 173_540, 0.17),
    "lift": ({"in_channels": 384}, 1_187_280, 1.19),
    "jbu": ({}, 34_305, 0.03),
}


@pytest.mark.parametrize(("name", "expected"), COUNTS.items(), ids=COUNTS)
def test_parameters_are_as_many_as_the_paper_says(name, expected):
    config, exact, millions = expected
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in naf.create(name, weights=None, **config).parameters())
    assert count == exact
    assert round(count / 1e6, 2) == millions
