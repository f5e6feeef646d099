"""Triton's group norm, SiLU and convolution against PyTorch's layers in float64; interpreted where there is no GPU."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton")

from naf.ops.norm_act import NormActConv
from naf.ops.norm_act_triton import _moments, _statistics, norm_act_convs
from tests.helpers import TOLERANCE, randn, relative_error

GROUPS, EPS = 8, 1e-5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Batch, channels, height, width: one tile and several, channels that fill no power of two, the least map for 3x3.
SHAPES = [(1, 32, 13, 27), (2, 48, 9, 15), (3, 128, 3, 7), (1, 384, 4, 5), (1, 16, 2, 2)]
CASES = [(shape, dtype) for shape in SHAPES for dtype in DTYPES[:2]] + [((1, 32, 13, 27), torch.float16)]


@pytest.fixture(autouse=True)
def no_tf32():
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def plain(x, steps):
    for step in steps:
        padding = step.conv_weight.shape[-1] // 2
        x = F.silu(F.group_norm(x, GROUPS, step.norm_weight, step.norm_bias, EPS))
        x = F.conv2d(F.pad(x, (padding,) * 4, mode="reflect") if padding else x, step.conv_weight, step.conv_bias)
    return x


def fused(x, steps):
    return norm_act_convs(x, steps, groups=GROUPS, eps=EPS)


def make_steps(channels, kernel, count, dtype):
    def step(seed):
        weight = randn(channels, channels, kernel, kernel, seed=seed) / (channels * kernel**2) ** 0.5
        norm = 1 + 0.3 * randn(channels, seed=seed + 1), 0.3 * randn(channels, seed=seed + 2)
        return NormActConv(*(p.to(DEVICE, dtype) for p in (*norm, weight, randn(channels, seed=seed + 3))))

    return [step(10 * index) for index in range(count)]


def scene(shape, kernel, dtype, steps=2):
    # Off centre, so that statistics count.
    return (2 + randn(*shape, seed=7)).to(DEVICE, dtype), make_steps(shape[1], kernel, steps, dtype)


def leaves(x, steps, dtype):
    """Copies that collect gradients."""
    own = [NormActConv(*(p.to(dtype, copy=True).requires_grad_() for p in step)) for step in steps]
    return x.to(dtype, copy=True).requires_grad_(), own


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("shape", "dtype"), CASES, ids=str)
def test_values_and_gradients_equal_the_plain_layers(shape, kernel, dtype):
    x, steps = scene(shape, kernel, dtype)
    results = []
    for function, precision in ((fused, dtype), (plain, torch.float64)):
        image, own = leaves(x, steps, precision)
        out = function(image, own)
        out.backward(randn(*shape, seed=9).to(DEVICE, dtype).to(precision))
        results.append([out, image.grad, *(p.grad for step in own for p in step)])
    assert results[0][0].is_contiguous(memory_format=torch.channels_last)
    for actual, expected in zip(*results, strict=True):
        assert actual.dtype == dtype
        assert relative_error(actual, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel", [1, 3])
def test_inference_carries_statistics_from_layer_to_layer(kernel, dtype):
    x, steps = scene((2, 48, 9, 15), kernel, dtype, steps=3)
    expected = plain(x.double(), [NormActConv(*(p.double() for p in step)) for step in steps])
    assert relative_error(fused(x, steps), expected) <= TOLERANCE[dtype]


def test_statistics_keep_their_digits_where_the_mean_is_large():
    x = (1000 + randn(2, 32, 17, 31, seed=3)).to(DEVICE)
    x[1, :, 3:] += 50  # tiles that differ much more than their pixels
    x = x.contiguous(memory_format=torch.channels_last)
    mean, rate = _statistics(_moments(x, GROUPS), x, EPS).unbind(1)
    groups = x.double().unflatten(1, (GROUPS, -1)).flatten(2)
    assert relative_error(mean, groups.mean(2)) <= 1e-6
    assert relative_error(rate, 1 / (groups.var(2, correction=0) + EPS).sqrt()) <= 1e-5


def test_norms_may_have_another_dtype_than_the_map():
    x, steps = scene((1, 32, 9, 8), 3, torch.float32)
    mixed = [NormActConv(step.norm_weight, step.norm_bias, *(p.double() for p in step[2:])) for step in steps]
    torch.testing.assert_close(fused(x, mixed), fused(x, steps))


@pytest.mark.parametrize("kernel", [1, 3])
def test_training_keeps_one_map_a_layer(kernel):
    x, steps = scene((1, 32, 9, 8), kernel, torch.float32, steps=3)
    image, own = leaves(x, steps, torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        fused(image, own)
    assert len({t.data_ptr() for t in kept if t.shape[2:] >= x.shape[2:]}) == len(steps)


def test_only_the_gradients_that_are_asked_for_are_made():
    x, steps = scene((1, 32, 9, 8), 3, torch.float32, steps=1)
    weight = steps[0].conv_weight.clone().requires_grad_()
    exact = steps[0].conv_weight.double().requires_grad_()
    fused(x, [steps[0]._replace(conv_weight=weight)]).square().sum().backward()
    step = NormActConv(*(p.double() for p in steps[0]))._replace(conv_weight=exact)
    plain(x.double(), [step]).square().sum().backward()
    assert relative_error(weight.grad, exact.grad) <= 1e-5
