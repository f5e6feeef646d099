"""Activation checkpointing of NAF's encoder: less memory, the same gradients."""

import copy
from contextlib import nullcontext

import pytest
import torch

import naf
from tests.helpers import randn


@pytest.fixture
def upsampler():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return naf.create("naf", weights=None, dim=32).train()


def step(upsampler, context):
    """Output and gradients of one training step, and the bytes that it keeps for the backward pass."""
    kept = {}
    image, features = randn(2, 3, 20, 24).requires_grad_(), randn(2, 8, 5, 6)
    torch.manual_seed(3)
    pack = torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.setdefault(t.untyped_storage().data_ptr(), t.untyped_storage()) and t, lambda t: t
    )
    with pack, context:
        out = upsampler(image, features, (20, 24))
    held = sum(storage.nbytes() for storage in kept.values())
    if upsampler.image_encoder.encoder.grad_checkpointing:
        held += 2 * 2 * 2 * 16 * 20 * 24 * 4  # the input of each block of both branches, kept where no hook sees it
    out.square().mean().backward()
    return [out, image.grad, *(p.grad for p in upsampler.parameters())], held


@pytest.mark.parametrize("precision", ["float32", "autocast"])
def test_gradients_are_the_same_with_less_kept(upsampler, precision):
    def context():
        return torch.autocast("cpu", torch.bfloat16) if precision == "autocast" else nullcontext()

    expected, all_maps = step(copy.deepcopy(upsampler), context())
    upsampler.set_grad_checkpointing()
    actual, fewer = step(upsampler, context())
    torch.testing.assert_close(actual, expected)
    assert fewer < 0.6 * all_maps


def test_it_can_be_switched_off(upsampler):
    _, all_maps = step(copy.deepcopy(upsampler), nullcontext())
    upsampler.set_grad_checkpointing()
    upsampler.set_grad_checkpointing(enable=False)
    assert step(upsampler, nullcontext())[1] == all_maps


def test_inference_is_untouched(upsampler):
    image, features = randn(1, 3, 20, 24), randn(1, 8, 5, 6)
    upsampler.eval()
    with torch.no_grad():
        expected = upsampler(image, features, (20, 24))
        upsampler.set_grad_checkpointing()
        assert torch.equal(upsampler(image, features, (20, 24)), expected)


def test_copies_and_state_dicts_do_not_carry_more(upsampler):
    names = list(upsampler.state_dict())
    upsampler.set_grad_checkpointing()
    assert list(upsampler.state_dict()) == names
    assert copy.deepcopy(upsampler).image_encoder.encoder.grad_checkpointing
