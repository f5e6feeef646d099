"""NAF as a denoiser: a filter of the noisy image, and the attention at ratio 1 that it is made of."""

import math

import pytest
import torch

from naf.ops.attention import neighborhood_attention
from naf.ops.neighborhood import make_neighborhood
from naf.upsamplers.naf import NAF
from tests.helpers import golden_cases, randn, relative_error
from tests.restoration.networks import noisy_image, small


def test_the_noisy_image_is_filtered_under_its_own_normalised_form():
    restorer, noisy = small("naf"), noisy_image(2, 3, 14, 11)
    upsampler = NAF(dim=32, heads_attn=1, kernel_size=5, img_layers=1).eval()
    upsampler.load_state_dict(restorer.state_dict())  # the official layout
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = upsampler((noisy - mean) / std, noisy, (14, 11))
    assert relative_error(restorer(noisy), expected) <= 1e-6


def test_each_pixel_is_a_mean_of_the_pixels_in_its_window():
    restorer, noisy = small("naf"), noisy_image(1, 3, 20, 17, dtype=torch.float64)
    restored = restorer.double()(noisy)
    near = torch.nn.functional.pad(noisy, (4, 4, 4, 4), value=math.nan).unfold(2, 9, 1).unfold(3, 9, 1).flatten(4)
    # Windows of 5 are shifted inwards at the border, by up to 2 pixels.
    assert (restored >= near.nan_to_num(nan=math.inf).amin(-1) - 1e-12).all()
    assert (restored <= near.nan_to_num(nan=-math.inf).amax(-1) + 1e-12).all()
    assert restored.std() < noisy.std()


def test_a_flat_image_stays_as_it_is():
    noisy = torch.tensor([0.2, 0.7, 1.3])[None, :, None, None].expand(1, 3, 18, 20)
    torch.testing.assert_close(small("naf")(noisy), noisy)


def test_three_heads_filter_each_channel_by_its_own_weights():
    restorer, noisy = small("naf", dim=48, heads_attn=3), noisy_image(1, 3, 12, 12)
    assert restorer(noisy).shape == noisy.shape
    one_step = torch.zeros_like(noisy)
    one_step[:, :, 6, 6] = 1
    with torch.enable_grad():
        one_step.requires_grad_()
        values = restorer._naf(noisy, one_step, (12, 12))
    weights = values.detach()[0, :, 4:9, 4:9]  # of the pixel (6, 6), in its neighbours
    assert not torch.allclose(weights[0], weights[1], atol=1e-4)


@pytest.mark.parametrize("tells", ["train", "attribute"])
def test_coordinates_are_rescaled_at_random_in_training_alone(tells):
    restorer, noisy = small("naf", rope_base=2.0), noisy_image(1, 3, 16, 16)

    def set_mode(mode):
        if tells == "train":
            restorer.train(mode)
        else:  # as Lightning does after a validation
            for module in restorer.modules():
                module.training = mode

    for mode in (True, False, True):
        set_mode(mode)
        assert torch.equal(restorer(noisy), restorer(noisy)) != mode


def test_coordinates_in_pixels_make_the_filter_the_same_in_an_image_of_any_size():
    # The left half of a larger image with the same statistics: each half is the other's mirror image.
    def change(coordinates):
        restorer = small("naf", coordinates=coordinates, reference_cells=16.0, rope_base=2.0).double()
        noisy = noisy_image(1, 3, 16, 16, dtype=torch.float64)
        doubled = torch.cat([noisy, noisy.flip(3)], 3)
        return relative_error(restorer(doubled)[..., 3:11], restorer(noisy)[..., 3:11])

    # Group norms see the same values twice, but for the padding; with "image" the phases are half as far apart.
    assert change("cells") < 0.5 * change("image")


def test_bands_of_rows_equal_the_whole_image_at_kernel_15():
    restorer, noisy = small("naf", kernel_size=15), noisy_image(1, 3, 150, 33)
    assert relative_error(restorer.restore(noisy, memory_budget=0), restorer(noisy)) <= 1e-5


# Attention at ratio 1 -------------------------------------------------------------------------------------------------


def value_and_gradients(function, *inputs):
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, randn(*out.shape, seed=9, dtype=out.dtype))


def in_the_window(length, kernel):
    """(length, length): whether a position attends to another; windows are shifted inwards at the border."""
    reach = min(kernel, length)
    start = (torch.arange(length) - (reach - 1) // 2).clamp(0, length - reach)[:, None]
    return (torch.arange(length) >= start) & (torch.arange(length) < start + reach)


# Larger and smaller than the window on an axis; the tiles of the blocked backend end within.
@pytest.mark.parametrize("size", [(31, 22), (16, 15), (9, 40), (1, 17)], ids=str)
@pytest.mark.parametrize("backend", ["reference", "blocked"])
def test_a_window_of_15_is_exact_at_borders_forward_and_backward(backend, size):
    x, values = randn(2, 1, *size, 6, dtype=torch.float64), randn(2, 1, *size, 3, seed=1, dtype=torch.float64)
    rows, cols = (in_the_window(length, 15) for length in size)
    inside = (rows[:, None, :, None] & cols[None, :, None, :]).flatten(2).flatten(0, 1)

    def dense(q, k, v):
        scores = (q.flatten(2, 3) @ k.flatten(2, 3).mT * 0.4).masked_fill(~inside, -math.inf)
        return (scores.softmax(-1) @ v.flatten(2, 3)).unflatten(2, size)

    def ours(q, k, v):
        return neighborhood_attention(q, k, v, make_neighborhood(size, size, 15), scale=0.4, backend=backend)

    # Keys equal to queries, as two operands and as one.
    for two, one in ((dense, ours), (lambda x, v: dense(x, x, v), lambda x, v: ours(x, x, v))):
        inputs = (x, x, values) if two is dense else (x, values)
        expected = value_and_gradients(two, *inputs)
        for actual, wanted in zip(value_and_gradients(one, *inputs), expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-10, atol=1e-12)


# The rows at a border, whose windows are shifted, and some more: all rows take Triton's interpreter ten seconds.
@pytest.mark.parametrize("path", golden_cases("naf", case="restoration"))
def test_the_kernels_filter_as_the_official_code_does(fill, path):
    pytest.importorskip("triton")
    device, rows = "cuda" if torch.cuda.is_available() else "cpu", 9
    meta, tensors, state = fill.load_case(path)
    upsampler, size = NAF(**meta["config"]).eval(), tuple(meta["output_size"])
    upsampler.load_state_dict(state)
    with torch.no_grad():
        guidance = upsampler.encode(tensors["image"], size, size)
        q, k, v = guidance.queries[:, :, :rows], guidance.keys, tensors["features"].permute(0, 2, 3, 1)[:, None]
        top, scale = guidance.neighborhood.band(0, rows), 1 / math.sqrt(q.shape[-1])
        out = neighborhood_attention(*(x.to(device) for x in (q, k, v)), top, scale=scale, backend="triton")
    expected = tensors["output"][:, :, :rows]
    assert relative_error(out[:, 0].permute(0, 3, 1, 2).cpu(), expected) <= 1e-5
