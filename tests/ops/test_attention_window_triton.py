"""The kernels for sliding windows against the reference, in Triton's interpreter or, where there is one, on CUDA."""

import itertools
import math

import pytest
import torch

from naf.ops.attention import neighborhood_attention
from naf.ops.neighborhood import make_neighborhood, make_window
from tests.helpers import TOLERANCE, randn, relative_error

pytest.importorskip("triton")

import triton.language as tl

from naf.ops import attention_window_triton
from naf.ops.attention_window_triton import WindowTritonAttention, serves

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# NumPy, which interprets the kernels, warns where a device says nothing.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")


def windows(size, kernel, band=None):
    """Windows on a grid, of all rows or of a band."""
    neighborhood = make_neighborhood(size, size, kernel)
    return neighborhood if band is None else neighborhood.band(*band)


def tensors(neighborhood, heads=1, dim=8, channels=3, batch=1, dtype=torch.float32, value_heads=None):
    """Queries, keys and values as the upsamplers make them: views of channels-last maps, and of a plain map."""
    (h, w), size = neighborhood.grid, neighborhood.output_size
    q = randn(batch, *size, heads, dim, seed=1).permute(0, 3, 1, 2, 4)
    k = randn(batch, h, w, heads, dim, seed=2).permute(0, 3, 1, 2, 4)
    v = randn(batch, value_heads or heads, channels, h, w, seed=3).permute(0, 1, 3, 4, 2)
    return [x.to(DEVICE, dtype) for x in (q, k, v)]


def value_and_gradients(inputs, neighborhood, scale=0.5, *, is_reference=False, grad_out=None):
    leaves = [x.detach().requires_grad_() for x in inputs]
    if is_reference:
        out = neighborhood_attention(*leaves, neighborhood, scale=scale, backend="reference")
    else:
        assert serves(*leaves, neighborhood)
        out = WindowTritonAttention.apply(*leaves, neighborhood, scale)
    if grad_out is None:
        grad_out = randn(*out.shape, seed=5).to(DEVICE, out.dtype)
    return out.detach(), *torch.autograd.grad(out, leaves, grad_out)


def assert_equal_to_reference(neighborhood, inputs, tolerance=1e-5, scale=0.5):
    found = value_and_gradients(inputs, neighborhood, scale)
    expected = value_and_gradients([x.double() for x in inputs], neighborhood, scale, is_reference=True)
    for name, actual, wanted, like in zip(
        ("out", "grad_q", "grad_k", "grad_v"), found, expected, (inputs[2], *inputs), strict=True
    ):
        assert actual.dtype == like.dtype, name
        assert relative_error(actual, wanted) <= tolerance, name


@pytest.mark.parametrize(
    ("size", "kernel"),
    [
        ((9, 11), 3),
        ((10, 8), 3),  # the last window of all begins where a tile ends
        ((17, 10), 7),  # more than one tile, the last of one row
        ((10, 9), 4),  # even: windows reach further back
        ((11, 9), 8),
        ((8, 8), 2),
        ((16, 9), 15),
        ((6, 5), 15),  # larger than the grid
        ((7, 19), 9),  # larger than the grid along rows
        ((1, 9), 3),
    ],
)
def test_values_and_gradients_equal_the_reference_up_to_the_borders(size, kernel):
    neighborhood = windows(size, kernel)
    assert_equal_to_reference(neighborhood, tensors(neighborhood))


def test_a_kernel_of_one_gives_the_values_back():
    neighborhood = windows((9, 10), 1)
    q, k, v = tensors(neighborhood)
    assert torch.equal(WindowTritonAttention.apply(q, k, v, neighborhood, 0.5), v)


def test_the_cell_rule_equals_the_reference():
    neighborhood = make_neighborhood((9, 10), (9, 10), 5, "cell")
    assert_equal_to_reference(neighborhood, tensors(neighborhood, heads=2))


@pytest.mark.parametrize("band", [(0, 4), (5, 11), (19, 20)])
@pytest.mark.parametrize("kernel", [3, 6])
def test_bands_equal_the_reference(kernel, band):
    neighborhood = windows((20, 9), kernel, band)
    assert_equal_to_reference(neighborhood, tensors(neighborhood))


@pytest.mark.parametrize(("heads", "batch", "value_heads"), [(1, 3, 1), (3, 1, 3), (2, 2, 2), (3, 1, 1), (2, 2, 1)])
def test_heads_and_images_do_not_mix_and_may_share_values(heads, batch, value_heads):
    neighborhood = windows((5, 9), 3)
    assert_equal_to_reference(neighborhood, tensors(neighborhood, heads=heads, batch=batch, value_heads=value_heads))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("dim", "channels"), [(16, 3), (24, 17), (80, 40), (192, 3)], ids=["narrow", "odd", "unrolled", "wide"]
)
def test_widths_of_heads_and_values_are_padded_without_a_trace(dim, channels, dtype):
    neighborhood = windows((6, 6), 3)
    inputs = tensors(neighborhood, dim=dim, channels=channels, dtype=dtype)
    assert_equal_to_reference(neighborhood, inputs, TOLERANCE[dtype], scale=dim**-0.5)


@pytest.mark.parametrize(("dim", "channels"), [(8, 150), (140, 3)])
def test_results_wider_than_registers_hold_are_made_in_chunks(dim, channels):
    neighborhood = windows((4, 5), 3)
    inputs = tensors(neighborhood, heads=2, dim=dim, channels=channels)
    assert_equal_to_reference(neighborhood, inputs, scale=dim**-0.5)
    q, k, v = inputs
    assert_equal_to_reference(neighborhood, (q, k, v[:, :1]), scale=dim**-0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_the_reference(dtype):
    neighborhood = windows((12, 10), 5)
    assert_equal_to_reference(neighborhood, tensors(neighborhood, heads=2, dtype=dtype), 2e-2)


def test_products_of_half_precision_are_close_to_the_reference(monkeypatch):
    # The interpreter multiplies float32 otherwise.
    monkeypatch.setattr(attention_window_triton, "product_dtype", lambda x: tl.float16)
    neighborhood = windows((12, 10), 5)
    inputs = tensors(neighborhood, heads=2, dim=40, channels=20, dtype=torch.float16)
    assert_equal_to_reference(neighborhood, inputs, TOLERANCE[torch.float16], scale=40**-0.5)


def test_values_of_another_precision_are_taken():
    neighborhood = windows((5, 9), 3)
    q, k, v = tensors(neighborhood)
    v = v.half()
    out = WindowTritonAttention.apply(q, k, v, neighborhood, 0.5)
    exact = neighborhood_attention(q.double(), k.double(), v.double(), neighborhood, scale=0.5, backend="reference")
    torch.testing.assert_close(out.double(), exact, rtol=torch.finfo(torch.float16).eps * 0.51, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_constant_values_stay_what_they_are(shared):
    neighborhood = windows((9, 9), 5)
    q, k, v = tensors(neighborhood, heads=2, value_heads=1 if shared else None)
    out = WindowTritonAttention.apply(q, k, torch.full_like(v, 3), neighborhood, 0.5)
    torch.testing.assert_close(out, torch.full_like(out, 3), rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("value_heads", [1, 2])
def test_what_is_not_finite_reaches_only_the_pixels_whose_window_holds_it(value_heads, bad):
    neighborhood = windows((10, 9), 5)
    q, k, v = tensors(neighborhood, heads=2, value_heads=value_heads)
    v[:, :, 7, 1, 1] = bad
    found = value_and_gradients((q, k, v), neighborhood)
    expected = value_and_gradients((q, k, v), neighborhood, is_reference=True)
    assert expected[0][:, :, :, :, 1].isfinite().any()
    assert not expected[0].isfinite().all()
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-5, equal_nan=True)
    for actual, wanted in zip(found[1:], expected[1:], strict=True):
        assert torch.equal(actual.isnan(), wanted.isnan())


def test_scores_far_beyond_the_range_of_exp_stay_finite():
    neighborhood = windows((9, 10), 5)
    q, k, v = tensors(neighborhood)
    found = WindowTritonAttention.apply(1e3 * q, 1e3 * k, v, neighborhood, 1.0)
    expected = neighborhood_attention(1e3 * q, 1e3 * k, v, neighborhood, scale=1.0, backend="reference")
    assert relative_error(found, expected) <= 1e-4  # scores of 1e6 have a float32 spacing of 0.06


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3))[1:-1])
@pytest.mark.parametrize("value_heads", [1, 2])
def test_any_subset_of_gradients_can_be_asked_for(value_heads, wanted):
    neighborhood = windows((5, 9), 3)
    inputs = tensors(neighborhood, heads=2, value_heads=value_heads)
    _, *expected = value_and_gradients(inputs, neighborhood, is_reference=True)
    leaves = [x.detach().requires_grad_(needed) for x, needed in zip(inputs, wanted, strict=True)]
    out = WindowTritonAttention.apply(*leaves, neighborhood, 0.5)
    out.backward(randn(*out.shape, seed=5).to(DEVICE))
    for leaf, needed, grad in zip(leaves, wanted, expected, strict=True):
        assert (leaf.grad is not None) == needed
        assert not needed or relative_error(leaf.grad, grad) <= 1e-5


def test_keys_that_are_the_queries_get_both_gradients():
    neighborhood = windows((9, 9), 5)
    shared, _, v = tensors(neighborhood)
    (found,), (expected,) = (
        torch.autograd.grad(run(leaf, leaf).sum(), leaf)
        for leaf, run in (
            (shared.clone().requires_grad_(), lambda q, k: WindowTritonAttention.apply(q, k, v, neighborhood, 0.5)),
            (
                shared.double().requires_grad_(),
                lambda q, k: neighborhood_attention(q, k, v.double(), neighborhood, scale=0.5, backend="reference"),
            ),
        )
    )
    assert relative_error(found, expected) <= 1e-5


def test_two_runs_give_the_same_bits():
    neighborhood = windows((17, 9), 5)
    inputs = tensors(neighborhood, heads=2, value_heads=1)
    first, second = (value_and_gradients(inputs, neighborhood) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_strides_of_inputs_and_gradient_make_no_difference():
    neighborhood = windows((5, 9), 3)
    inputs = [x.contiguous() for x in tensors(neighborhood, heads=2, batch=2)]
    expected = value_and_gradients(inputs, neighborhood)
    strided = [torch.stack([x, x], dim=-1)[..., 0] for x in inputs]
    assert not any(x.stride(-1) == 1 for x in strided)
    grad_out = randn(*expected[0].shape, seed=5).to(DEVICE).transpose(2, 4).contiguous().transpose(2, 4)
    found = value_and_gradients(strided, neighborhood, grad_out=grad_out)
    for actual, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-6)


def test_the_result_lies_channels_last_in_memory():
    neighborhood = windows((5, 9), 3)
    out = WindowTritonAttention.apply(*tensors(neighborhood, heads=2, batch=2), neighborhood, 1.0)
    assert out.permute(0, 2, 3, 1, 4).is_contiguous()


@pytest.mark.parametrize(
    ("neighborhood", "dtype"),
    [
        (make_neighborhood((5, 5), (10, 10), 3), torch.float32),
        (make_neighborhood((5, 5), (10, 5), 3), torch.float32),
        (make_window((5, 5), (5, 5), 0.2), torch.float32),
        (make_neighborhood((5, 5), (5, 5), 3), torch.float64),
    ],
    ids=["x2", "x2 along rows", "by reach", "float64"],
)
def test_other_neighborhoods_and_float64_are_not_served(neighborhood, dtype):
    assert not serves(*tensors(neighborhood, dtype=dtype), neighborhood)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "dim", "channels"), [(1, 256, 3), (1, 96, 3), (4, 64, 96), (1, 256, 256)])
def test_real_sizes_equal_the_reference_and_fit_the_device(heads, dim, channels, dtype):
    neighborhood = windows((50, 61), 15)
    inputs = tensors(neighborhood, heads=heads, dim=dim, channels=channels, dtype=dtype)
    assert_equal_to_reference(neighborhood, inputs, 1e-4 if dtype == torch.float32 else 2e-2, scale=dim**-0.5)
