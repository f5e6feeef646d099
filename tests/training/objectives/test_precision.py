"""All objectives under autocast, with features of half precision."""

import dataclasses

import pytest
import torch

from naf.training import objectives
from tests.training.objectives.examples import extract, in_training, make_example

OBJECTIVES = {
    "jafar": objectives.JAFARObjective,
    "anyup": objectives.AnyUpObjective,
    "lift": lambda: objectives.LiFTObjective("l1"),
    "featup": lambda: objectives.FeatUpObjective(8, stride=4),
    "loftup": lambda: objectives.LoftUpObjective(8, stage=1, stride=4),
    "loftup 2": lambda: objectives.LoftUpObjective(8, stage=2, stride=4),
}


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_half_precision_moves_the_terms_a_little(name):
    torch.manual_seed(0)
    objective = OBJECTIVES[name]().eval()
    config = {"patch_size": 4} if name == "lift" else {}
    upsampler = in_training(name.split()[0], **config).eval()
    exact = objective(upsampler, make_example())
    example = make_example()
    halves = {field: getattr(example, field).bfloat16() for field in ("features", "target")}

    def extract_halves(image01):
        assert image01.dtype == torch.float32
        return extract(image01).bfloat16()

    example = dataclasses.replace(example, **halves, extract=extract_halves)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective(upsampler, example)
    rounded["loss"].backward()
    for term, value in exact.items():
        assert rounded[term].dtype == torch.float32
        torch.testing.assert_close(rounded[term], value, rtol=0.05, atol=0.02)
    assert all(p.grad is None or p.grad.isfinite().all() for p in upsampler.parameters())
