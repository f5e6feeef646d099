"""NAF's encoder on CUDA, by Triton kernels: interpreted on the CPU, where the check of the device is replaced."""

import copy

import pytest
import torch

pytest.importorskip("triton")

import naf
from naf.ops.triton_device import uses_triton
from naf.upsamplers import naf as naf_module
from tests.helpers import randn, relative_error, small

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# The interpreter rounds bfloat16 towards zero, which doubles the error of each layer.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2 if DEVICE == "cuda" else 4e-2}
CONFIGS = {
    "default": {},
    "one_rope_head": {"dim": 48, "heads_rope": 1},
    "no_encoder": {"use_encoder": False},
    "naf_plus": {"coordinates": "cells", "interleave": True},
    "ablations": {"dim": 48, "encoder": "resnet", "interleave": True, "key_pooling": "max", "position": "none"},
}
# Image size, output size, grid.
SIZES = {"integer": ((12, 16), (12, 16), (3, 4)), "pooled": ((17, 12), (9, 12), (4, 5))}


@pytest.fixture
def with_triton(monkeypatch):
    """Runs a function with or without the kernels."""

    def run(function, enabled):
        monkeypatch.setattr(naf_module, "uses_triton", lambda *_: enabled)
        return function()

    return run


def make(config, dtype):
    upsampler = copy.deepcopy(small("naf", **CONFIGS[config])).to(DEVICE)
    return upsampler.requires_grad_().to(dtype)


def scene(upsampler, sizes, dtype):
    image_size, output_size, grid = SIZES[sizes]
    image = randn(2, upsampler.image_channels, *image_size, dtype=dtype).to(DEVICE)
    return image, output_size, grid


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("config", CONFIGS)
def test_encode_gives_the_plain_queries_and_keys(with_triton, config, sizes, dtype):
    upsampler = make(config, dtype)
    image, *size = scene(upsampler, sizes, dtype)
    with torch.no_grad():
        made = with_triton(lambda: upsampler.encode(image, *size), True)
    # With gradients: the CPU's own path may order the channels in another way.
    expected = with_triton(lambda: upsampler.double().encode(image.double(), *size), False)
    for name in ("queries", "keys"):
        actual = getattr(made, name)
        assert actual.dtype == dtype  # half precision too
        assert relative_error(actual, getattr(expected, name)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["all_maps", "checkpoints"])
@pytest.mark.parametrize("sizes", SIZES)
def test_training_gives_the_plain_output_and_gradients(with_triton, sizes, checkpointing):
    def step(upsampler, dtype):
        image, size, grid = scene(upsampler, sizes, dtype)
        image.requires_grad_()
        features = randn(2, 8, *grid, seed=1, dtype=dtype).to(DEVICE)
        torch.manual_seed(3)
        out = upsampler.train()(image, features, size)
        out.square().mean().backward()
        return [out, image.grad, *(p.grad for p in upsampler.parameters())]

    upsampler = make("default", torch.float32)
    upsampler.rope_rescale = 1.0
    exact = copy.deepcopy(upsampler).double()
    upsampler.set_grad_checkpointing(checkpointing)
    made = with_triton(lambda: step(upsampler, torch.float32), True)
    for actual, expected in zip(made, with_triton(lambda: step(exact, torch.float64), False), strict=True):
        assert relative_error(actual, expected) <= 2e-5


def test_training_draws_the_scale_of_the_coordinates(with_triton):
    upsampler = make("no_encoder", torch.float32).train()
    image, *size = scene(upsampler, "integer", torch.float32)
    made = []
    for enabled in (True, False):
        torch.manual_seed(5)
        made.append(with_triton(lambda: upsampler.encode(image, *size), enabled).queries)
    assert relative_error(*made) <= 1e-5
    assert relative_error(upsampler.eval().encode(image, *size).queries, made[1]) > 0.1


def test_autocast_sets_the_dtype_of_queries_and_keys(with_triton):
    upsampler = make("default", torch.float32)
    image, *size = scene(upsampler, "integer", torch.float32)
    with torch.no_grad(), torch.autocast(DEVICE, dtype=torch.bfloat16):
        made = with_triton(lambda: upsampler.encode(image, *size), True)
    expected = with_triton(lambda: upsampler.encode(image, *size), False)
    assert (made.queries.dtype, made.keys.dtype) == (torch.bfloat16, torch.bfloat16)
    assert relative_error(made.queries, expected.queries) <= TOLERANCE[torch.bfloat16]


def test_kernels_are_for_cuda_and_up_to_float32():
    assert not uses_triton(torch.zeros(1))
    assert not uses_triton(torch.zeros(1, dtype=torch.float64))
    if DEVICE == "cuda":
        assert uses_triton(torch.zeros(1, device=DEVICE), torch.zeros(1, device=DEVICE, dtype=torch.bfloat16))
        assert not uses_triton(torch.zeros(1, device=DEVICE), torch.zeros(1, device=DEVICE, dtype=torch.float64))
        assert not uses_triton(torch.zeros(1, device=DEVICE), torch.zeros(1))


@pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
def test_the_default_network_on_cuda_is_that_of_the_cpu():
    upsampler, image, features = naf.create("naf"), randn(1, 3, 224, 224), randn(1, 384, 14, 14)
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected = upsampler(image, features, (224, 224))
        actual = upsampler.to(DEVICE)(image.to(DEVICE), features.to(DEVICE), (224, 224)).cpu()
    assert relative_error(actual, expected) <= 1e-4
