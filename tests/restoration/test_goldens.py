"""Every restorer against the outputs of its official implementation: names, shapes, counts and values."""

import pytest
import torch
import torch.nn.functional as F

import naf.restoration
from naf.restoration.registry import entry
from tests.helpers import golden_cases

PEERS = ("ircnn", "rednet", "restormer")
CASES = [case for kind in PEERS for case in golden_cases(kind)]
LIMIT = 1e-5  # of 1e-4


@pytest.mark.parametrize("path", CASES)
def test_the_output_is_the_official_one(fill, path):
    meta, tensors, state = fill.load_case(path)
    assert {name: list(t.shape) for name, t in state.items()} == meta["manifest"]
    restorer = naf.restoration.create(meta["kind"], weights=state, **meta["config"])  # strictly
    noisy = tensors["image"]
    if tuple(noisy.shape[2:]) != tuple(meta["output_size"]):  # which the official networks begin with
        noisy = F.interpolate(noisy, size=meta["output_size"], mode="bilinear", align_corners=False)
    with torch.no_grad():
        assert fill.error(meta, tensors, restorer(noisy)) <= LIMIT


@pytest.mark.parametrize(
    "path", [*golden_cases("naf", case="restoration"), *golden_cases("naf", case="restoration_256")]
)
@pytest.mark.parametrize("backend", ["blocked", "window"])
def test_naf_takes_the_official_state_and_is_the_official_filter(fill, path, backend):
    meta, tensors, state = fill.load_case(path)
    own = {key: value for key, value in meta["config"].items() if key != "use_encoder"}
    restorer = naf.restoration.create("naf", weights=state, backend=backend, **own)
    assert {name: list(t.shape) for name, t in restorer.state_dict().items()} == meta["manifest"]
    # The golden's guidance is not the normalised form of its features, which `forward` always takes.
    with torch.no_grad():
        out = restorer._naf(tensors["image"], tensors["features"], tuple(meta["output_size"]))
    assert fill.error(meta, tensors, out) <= LIMIT


# Table 8 of the NAF paper, in millions. DnCNN has 0.56 without and with biases before the norms.
COUNTS = {
    "dncnn": (558_403, 0.56),
    "ircnn": (188_163, 0.19),
    "naf": (662_528, 0.66),
    "rednet": (1_037_507, 1.04),
    "restormer": (26_126_644, 26.13),
}


def test_parameters_are_as_many_as_the_paper_says():
    assert naf.restoration.list_restorers() == sorted(COUNTS)
    for name, (exact, millions) in COUNTS.items():
        assert entry(name).parameters == exact
        assert round(exact / 1e6, 2) == millions


def test_dncnn_is_the_network_of_its_paper():
    with torch.device("meta"):
        layers = list(naf.restoration.create("dncnn", weights=None).model)
    kinds = [type(layer).__name__ for layer in layers]
    assert kinds == ["Conv2d", "ReLU", *["Conv2d", "BatchNorm2d", "ReLU"] * 15, "Conv2d"]
    convolutions = [layer for layer in layers if isinstance(layer, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(3, 64), *[(64, 64)] * 15, (64, 3)]
    assert {(c.kernel_size, c.padding, c.padding_mode) for c in convolutions} == {((3, 3), (1, 1), "zeros")}
