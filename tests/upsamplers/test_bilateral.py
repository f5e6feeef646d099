"""JBU and JBF against their definitions; the official outputs are compared in test_goldens.py."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

import naf
from naf.upsamplers.jbf import JBF
from naf.upsamplers.jbu import JBU
from tests.helpers import randn, relative_error


def filled(module, seed=0):
    """Parameters that are no longer zeros and ones."""
    for index, parameter in enumerate(module.parameters()):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed + index))
        parameter.data += 0.3 * noise.to(parameter.dtype)
    return module.eval()


def windows_of(x, radius):
    """(B, C, H, W) → (B, C, k * k, H, W): what lies around each pixel, reflected at the border."""
    padded = F.pad(x, (radius,) * 4, mode="reflect") if radius else x
    unfolded = F.unfold(padded, 2 * radius + 1)
    return unfolded.view(*x.shape[:2], -1, *x.shape[2:])


def learned_kernel(kernel, guide):
    """The learned range kernel as FeatUp's paper has it, (B, k * k, H, W)."""
    projected = kernel.range_proj(guide)
    scores = (windows_of(projected, kernel.radius) * projected[:, :, None]).sum(1)
    weights = (kernel.range_temp.exp().clamp(1e-4, 1e4) * scores).softmax(1)
    offset = torch.linspace(-1, 1, 2 * kernel.radius + 1, dtype=guide.dtype)
    distance = (offset[:, None] ** 2 + offset**2).flatten()
    weights = weights * torch.exp(-distance / (2 * kernel.sigma_spatial**2))[:, None, None]
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-7)
    if kernel.corrects:
        weights = weights + 0.1 * kernel.fixup_proj(torch.cat([weights, guide], dim=1))
    return weights


def resize(x, size, mode="bilinear"):
    return F.interpolate(x, size=size, mode=mode, align_corners=False)


def jbu_by_definition(upsampler, image, features, output_size):
    weights = learned_kernel(upsampler.bilateral_filter, resize(image, output_size))
    return (windows_of(resize(features, output_size), upsampler.radius) * weights[:, None]).sum(2)


def jbf_by_definition(upsampler, image, features, output_size):
    size = 4 * features.shape[2], 4 * features.shape[3]
    guide, radius = resize(image, size), upsampler.radius
    color = (windows_of(guide, radius) - guide[:, :, None]).abs().sum(1) / upsampler.sigma_color
    offset = torch.arange(-radius, radius + 1, dtype=guide.dtype) / upsampler.sigma_spatial
    space = (offset[:, None] ** 2 + offset**2).flatten()[:, None, None]
    weights = torch.exp(-0.5 * color**2) * torch.exp(-0.5 * space)
    weights = weights / weights.sum(1, keepdim=True)
    return resize((windows_of(resize(features, size), radius) * weights[:, None]).sum(2), output_size)


METHODS = {
    "jbu": (lambda: filled(JBU(16, 3)), jbu_by_definition),
    "jbu_combine": (lambda: filled(JBU(8, 2, combine=True)), jbu_by_definition),
    "jbf": (lambda: JBF(sigma_color=2.0), jbf_by_definition),
    "jbf_wide": (lambda: JBF(kernel_size=9, sigma_color=3.0, sigma_spatial=4.0), jbf_by_definition),
}
by_method = pytest.mark.parametrize(("make", "definition"), METHODS.values(), ids=METHODS)
SIZES = {
    "up": ((6, 5), (41, 60), (30, 33)),
    "wide": ((4, 40), (16, 150), (20, 90)),
    "down": ((20, 17), (9, 12), (8, 8)),
}


@by_method
@pytest.mark.parametrize(("grid", "output_size", "image_size"), SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("with_autograd", [False, True], ids=["no_grad", "grad"])
def test_the_output_is_that_of_the_definition(make, definition, grid, output_size, image_size, with_autograd):
    upsampler = make().double()
    image, features = randn(2, 3, *image_size, dtype=torch.float64), randn(2, 4, *grid, seed=1, dtype=torch.float64)
    with torch.set_grad_enabled(with_autograd):
        out = upsampler(image, features, output_size)
        assert relative_error(out, definition(upsampler, image, features, output_size)) <= 1e-11


@by_method
def test_gradients_are_those_of_the_definition(make, definition):
    upsampler = make().double()
    image, features = randn(2, 3, 9, 11, dtype=torch.float64), randn(2, 3, 5, 4, seed=1, dtype=torch.float64)
    leaves = [image.requires_grad_(), features.requires_grad_(), *upsampler.parameters()]
    loss = randn(2, 3, 13, 9, seed=2, dtype=torch.float64)
    results = [
        torch.autograd.grad((function(image, features, (13, 9)) * loss).sum(), leaves, allow_unused=True)
        for function in (upsampler, lambda *scene: definition(upsampler, *scene))
    ]
    for actual, expected in zip(*results, strict=True):
        assert (actual is None) == (expected is None)
        assert actual is None or relative_error(actual, expected) <= 1e-9


@by_method
def test_gradients_of_the_image_pass_gradcheck(make, definition):
    upsampler = make().double().requires_grad_(False)
    image = randn(1, 3, 8, 8, dtype=torch.float64).requires_grad_()
    features = randn(1, 2, 3, 3, seed=1, dtype=torch.float64)
    assert gradcheck(lambda x: upsampler(x, features, (8, 7)), image)


def test_a_corrected_kernel_is_no_longer_called_a_mean():
    plain, corrected = JBU(8, 1), JBU(8, 1, combine=True)
    assert plain.is_convex
    assert plain.keeps_constants
    assert not corrected.is_convex
    assert not corrected.keeps_constants
    ones = torch.ones(1, 1, 3, 3)
    assert (filled(corrected)(randn(1, 3, 8, 8), ones, (6, 6)) - 1).abs().max() > 1e-3


def test_a_head_with_bias_may_go_before_a_corrected_kernel():
    guidance = filled(JBU(8, 2, combine=True)).encode(randn(1, 3, 20, 20), (20, 20), (5, 5))
    features, weight, bias = randn(1, 6, 5, 5), randn(2, 6), randn(2, seed=4)
    expected = F.conv2d(guidance.upsample(features), weight[:, :, None, None], bias)
    torch.testing.assert_close(guidance.upsample_linear(features, weight, bias), expected, rtol=1e-5, atol=1e-5)


@by_method
def test_attention_names_few_cells_that_give_the_pixel(make, definition):
    upsampler, features = make(), randn(2, 3, 12, 11)
    guidance = upsampler.encode(randn(2, 3, 60, 60), (90, 96), (12, 11))
    for row, col in ((0, 0), (44, 50), (89, 95), (3, 91)):
        weights, rows, cols = guidance.attention(row, col)
        assert weights.shape == (2, 1, len(rows), len(cols))
        assert max(len(rows), len(cols)) < 8
        pixel = (weights * features[:, :, rows[:, None], cols]).sum((2, 3))
        torch.testing.assert_close(pixel, guidance.upsample(features)[:, :, row, col], rtol=1e-5, atol=1e-5)


def test_dropout_acts_in_training_alone():
    upsampler = filled(JBU(64, 2))
    image, features = randn(1, 3, 12, 12), randn(1, 2, 4, 4)
    expected = upsampler(image, features, (12, 12))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = (upsampler.train()(image, features, (12, 12)) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(upsampler.eval()(image, features, (12, 12)), expected)


def test_jbf_keeps_an_edge_of_the_image_and_smooths_without_one():
    features = torch.zeros(1, 1, 8, 8)
    features[..., 4:] = 1
    image = torch.zeros(1, 3, 32, 32)
    blurred = JBF()(image, features, (32, 32))
    image[..., 16:] = 2
    sharp = JBF()(image, features, (32, 32))
    assert (sharp[..., 16] - sharp[..., 15]).min() > 2 * (blurred[..., 16] - blurred[..., 15]).max()


def test_equal_colors_and_a_wide_gaussian_make_a_box_filter():
    features = randn(1, 2, 5, 5)
    out = JBF(kernel_size=3, sigma_spatial=1e4)(torch.zeros(1, 3, 4, 4), features, (20, 20))
    expected = windows_of(resize(features, (20, 20)), 1).mean(2)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


BAD = {
    "dim": ("jbu", {"dim": 0}, "dim is 0, expected an integer of at least 4"),
    "dim_fraction": ("jbu", {"dim": 30}, "dim is 30, expected a multiple of 4"),
    "radius": ("jbu", {"radius": 0}, "radius is 0, expected an integer of at least 1"),
    "even": ("jbf", {"kernel_size": 4}, "kernel_size is 4, expected an odd integer"),
    "kernel": ("jbf", {"kernel_size": 2.5}, "kernel_size is 2.5, expected an integer"),
    "color": ("jbf", {"sigma_color": 0.0}, "sigma_color is 0.0, expected a positive number"),
    "space": ("jbf", {"sigma_spatial": math.nan}, "sigma_spatial is nan, expected a positive number"),
}


@pytest.mark.parametrize(("name", "config", "message"), BAD.values(), ids=BAD)
def test_a_bad_configuration_is_refused(name, config, message):
    with pytest.raises(ValueError, match=message):
        naf.create(name, weights=None, **config)


def test_sizes_that_reflection_cannot_pad_are_refused():
    image = randn(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"output_size is \(5, 9\), expected at least 6"):
        JBU(8)(image, randn(1, 2, 3, 3), (5, 9))
    with pytest.raises(ValueError, match=r"grid is \(2, 3\), expected at least 3"):
        JBF(kernel_size=17)(image, randn(1, 2, 2, 3), (9, 9))
    assert JBU(8)(image, randn(1, 2, 3, 3), (6, 6)).isfinite().all()
    assert JBF(kernel_size=17)(image, randn(1, 2, 3, 3), (9, 9)).isfinite().all()


@pytest.mark.parametrize("name", ["jbu", "jbf"])
def test_autocast_does_not_lower_the_precision(name):
    upsampler, scene = naf.create(name, weights=None), (randn(1, 3, 20, 20), randn(1, 3, 5, 5), (20, 20))
    expected = upsampler(*scene)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(upsampler(*scene), expected)


def test_a_half_precision_module_works_in_float32_on_the_cpu():
    upsampler = filled(JBU(16, 2)).half()
    scene = randn(1, 3, 14, 14), randn(1, 3, 5, 5), (14, 14)
    out = upsampler(*scene)
    assert out.dtype == torch.float32
    assert relative_error(out, upsampler.float()(*scene)) <= 1e-6
