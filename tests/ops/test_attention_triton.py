"""The Triton backend against the reference, in Triton's interpreter or, where there is one, on a CUDA device."""

import itertools
import math
import subprocess
import sys

import pytest
import torch

from naf.ops import attention_op
from naf.ops.attention import neighborhood_attention
from naf.ops.neighborhood import Neighborhood, make_neighborhood, make_window
from tests.helpers import TOLERANCE, randn, relative_error

pytest.importorskip("triton")

from naf.ops import attention_triton

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# NumPy, which interprets the kernels, warns where a device says nothing.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")


def tensors(neighborhood, heads=2, dim=8, channels=4, batch=1, dtype=torch.float32, value_heads=None):
    """Queries, keys and values as the upsamplers make them: views of channels-last maps, and of a plain map."""
    (h, w), size = neighborhood.grid, neighborhood.output_size
    q = randn(batch, *size, heads, dim, seed=1).permute(0, 3, 1, 2, 4)
    k = randn(batch, h, w, heads, dim, seed=2).permute(0, 3, 1, 2, 4)
    v = randn(batch, value_heads or heads, channels, h, w, seed=3).permute(0, 1, 3, 4, 2)
    return [x.to(DEVICE, dtype) for x in (q, k, v)]


def value_and_gradients(inputs, neighborhood, scale, backend, grad_out=None):
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = neighborhood_attention(*leaves, neighborhood, scale=scale, backend=backend)
    if grad_out is None:
        grad_out = randn(*out.shape, seed=5).to(DEVICE, out.dtype)
    return out.detach(), *torch.autograd.grad(out, leaves, grad_out)


def assert_equal_to_reference(neighborhood, inputs, tolerance, scale=0.5):
    found = value_and_gradients(inputs, neighborhood, scale, "triton")
    expected = value_and_gradients([x.double() for x in inputs], neighborhood, scale, "reference")
    for name, actual, wanted, like in zip(
        ("out", "grad_q", "grad_k", "grad_v"), found, expected, (inputs[2], *inputs), strict=True
    ):
        assert actual.dtype == like.dtype, name
        assert relative_error(actual, wanted) <= tolerance, name


@pytest.fixture
def launches(monkeypatch):
    """Counts the calls that reach the kernels."""
    calls = []
    for name in ("attend", "attend_backward"):
        kernel_call = getattr(attention_triton, name)

        def counted(*args, name=name, kernel_call=kernel_call):
            calls.append(name)
            return kernel_call(*args)

        monkeypatch.setattr(attention_triton, name, counted)
    return calls


SIZES = {
    "integer": ((3, 4), (12, 16)),
    "anisotropic": ((4, 3), (8, 15)),
    "pixels in several blocks": ((1, 2), (16, 32)),
    "fractional": ((4, 5), (9, 13)),
    "fractional rows": ((4, 5), (9, 10)),
    "fractional columns": ((5, 3), (10, 10)),
    "one cell": ((1, 1), (3, 2)),
    "below two": ((8, 8), (15, 11)),
}


@pytest.mark.parametrize(("grid", "size"), SIZES.values(), ids=SIZES)
def test_values_and_gradients_equal_the_reference_at_any_ratio(grid, size, launches):
    neighborhood = make_neighborhood(grid, size, 3)
    assert_equal_to_reference(neighborhood, tensors(neighborhood), 1e-5)
    assert launches == ["attend", "attend_backward"]


@pytest.mark.parametrize("name", ["fractional", "below two"])
def test_the_cell_rule_equals_the_reference(name):
    neighborhood = make_neighborhood(*SIZES[name], 3, "cell")
    assert_equal_to_reference(neighborhood, tensors(neighborhood, batch=2), 1e-5)


@pytest.mark.parametrize("size", [(18, 18), (13, 11)])
@pytest.mark.parametrize("kernel", [5, 7, 9])
def test_kernels_of_any_size_equal_the_reference(kernel, size):
    neighborhood = make_neighborhood((9, 9), size, kernel)
    assert_equal_to_reference(neighborhood, tensors(neighborhood), 1e-5)


@pytest.mark.parametrize(("heads", "batch"), [(1, 3), (3, 1), (4, 2), (8, 1)])
def test_heads_and_images_do_not_mix(heads, batch):
    neighborhood = make_neighborhood((4, 3), (9, 9), 3)
    assert_equal_to_reference(neighborhood, tensors(neighborhood, heads=heads, batch=batch), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("dim", "channels"), [(8, 1), (16, 3), (24, 16), (64, 96), (80, 40), (192, 65)])
def test_widths_of_heads_and_values_are_padded_without_a_trace(dim, channels, dtype):
    neighborhood = make_neighborhood((3, 3), (6, 6), 3)
    inputs = tensors(neighborhood, heads=1, dim=dim, channels=channels, dtype=dtype)
    assert_equal_to_reference(neighborhood, inputs, TOLERANCE[dtype], scale=dim**-0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("grid", "size"), [SIZES["integer"], SIZES["fractional"]], ids=["integer", "fractional"])
def test_half_precision_is_close_to_the_reference(grid, size, dtype):
    neighborhood = make_neighborhood(grid, size, 3)
    assert_equal_to_reference(neighborhood, tensors(neighborhood, dtype=dtype), 2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_values_under_float32_weights_are_rounded_once(dtype):
    neighborhood = make_neighborhood((4, 5), (9, 10), 3)
    q, k, v = tensors(neighborhood)
    v = v.to(dtype)
    out = neighborhood_attention(q, k, v, neighborhood, scale=0.5, backend="triton")
    exact = neighborhood_attention(q.double(), k.double(), v.double(), neighborhood, scale=0.5, backend="reference")
    assert out.dtype == dtype
    # The interpreter cuts bfloat16 off instead of rounding.
    steps = 1.01 if attention_triton.is_interpreted() and dtype == torch.bfloat16 else 0.51
    torch.testing.assert_close(out.double(), exact, rtol=torch.finfo(dtype).eps * steps, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shared", [False, True])
def test_constant_values_stay_what_they_are(shared, dtype):
    neighborhood = make_neighborhood((5, 5), (10, 10), 3)
    q, k, v = tensors(neighborhood, dtype=dtype, value_heads=1 if shared else None)
    out = neighborhood_attention(q, k, torch.full_like(v, 3), neighborhood, scale=0.5, backend="triton")
    torch.testing.assert_close(out, torch.full_like(out, 3), rtol=1e-6, atol=0)


def from_tables(neighborhood):
    """The same without saying that windows slide, for which there are other kernels."""
    return Neighborhood(neighborhood.grid, neighborhood.rows, neighborhood.cols)


MANY = {
    "windows of their own": lambda: from_tables(make_neighborhood((17, 17), (17, 17), 15)),
    "one window for all": lambda: make_window((17, 19), (9, 6), 0.0),
}


@pytest.mark.parametrize("make", MANY.values(), ids=MANY)
def test_tiles_with_more_cells_than_registers_hold_equal_the_reference(make, launches):
    neighborhood = make()
    assert attention_triton.device_tiles(neighborhood, DEVICE).keys > 256
    assert_equal_to_reference(neighborhood, tensors(neighborhood, heads=1, channels=17), 1e-5)
    assert launches == ["attend", "attend_backward"]


@pytest.mark.parametrize("reach", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("value_heads", [1, 3])
def test_windows_and_shared_values_equal_the_reference(value_heads, reach, launches):
    neighborhood = make_window((6, 7), (11, 9), reach)
    assert_equal_to_reference(neighborhood, tensors(neighborhood, heads=3, value_heads=value_heads), 1e-5)
    assert launches == ["attend", "attend_backward"]


def test_any_separable_table_is_served():
    rows = torch.tensor([[3, 0, 3], [3, 0, 3], [1, 1, 1], [2, -1, 1]])
    cols = torch.tensor([[1], [0], [0], [1], [1]])
    neighborhood = Neighborhood((4, 2), rows, cols)
    assert_equal_to_reference(neighborhood, tensors(neighborhood), 1e-5)


BAD = [
    (math.nan, (8, 9), (16, 18), 3),
    (math.nan, (8, 9), (19, 13), 3),
    (math.inf, (8, 9), (19, 13), 3),
    (-math.inf, (8, 9), (19, 13), 3),
    (math.nan, (17, 17), (17, 17), 15),
]


@pytest.mark.parametrize(("bad", "grid", "size", "kernel"), BAD)
def test_what_is_not_finite_reaches_only_the_pixels_whose_neighborhood_holds_it(bad, grid, size, kernel):
    neighborhood = make_neighborhood(grid, size, kernel)
    q, k, v = tensors(neighborhood, heads=1, channels=2)
    v[:, :, 1, 1, 1] = bad
    found = value_and_gradients((q, k, v), neighborhood, 0.5, "triton")
    expected = value_and_gradients((q, k, v), neighborhood, 0.5, "reference")
    assert expected[0].isfinite().any()
    assert not expected[0].isfinite().all()
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-5, equal_nan=True)
    for actual, wanted in zip(found[1:], expected[1:], strict=True):
        assert torch.equal(actual.isnan(), wanted.isnan())


def test_scores_far_beyond_the_range_of_exp_stay_finite():
    neighborhood = make_neighborhood((5, 5), (12, 10), 3)
    q, k, v = tensors(neighborhood)
    found, expected = (
        neighborhood_attention(1e3 * q, 1e3 * k, v, neighborhood, scale=1.0, backend=backend)
        for backend in ("triton", "reference")
    )
    assert relative_error(found, expected) <= 1e-4  # scores of 1e6 have a float32 spacing of 0.06


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3))[1:-1])
def test_any_subset_of_gradients_can_be_asked_for(wanted):
    neighborhood = make_neighborhood((4, 5), (9, 13), 3)
    inputs = tensors(neighborhood)
    _, *expected = value_and_gradients(inputs, neighborhood, 0.5, "reference")
    leaves = [x.detach().requires_grad_(needed) for x, needed in zip(inputs, wanted, strict=True)]
    out = neighborhood_attention(*leaves, neighborhood, scale=0.5, backend="triton")
    out.backward(randn(*out.shape, seed=5).to(DEVICE))
    for leaf, needed, grad in zip(leaves, wanted, expected, strict=True):
        assert (leaf.grad is not None) == needed
        assert not needed or relative_error(leaf.grad, grad) <= 1e-5


@pytest.mark.parametrize("size", [(10, 8), (13, 11)])
def test_strides_of_inputs_and_gradient_make_no_difference(size):
    neighborhood = make_neighborhood((5, 4), size, 3)
    inputs = [x.contiguous() for x in tensors(neighborhood, batch=2)]
    expected = value_and_gradients(inputs, neighborhood, 0.5, "triton")
    strided = [torch.stack([x, x], dim=-1)[..., 0] for x in inputs]
    assert not any(x.stride(-1) == 1 for x in strided)
    grad_out = randn(*expected[0].shape, seed=5).to(DEVICE).transpose(2, 4).contiguous().transpose(2, 4)
    for actual, wanted in zip(
        value_and_gradients(strided, neighborhood, 0.5, "triton", grad_out), expected, strict=True
    ):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-6)


def test_the_result_lies_channels_last_in_memory():
    neighborhood = make_neighborhood((3, 4), (6, 9), 3)
    out = neighborhood_attention(*tensors(neighborhood, batch=2), neighborhood, scale=1.0, backend="triton")
    assert out.permute(0, 2, 3, 1, 4).is_contiguous()


def test_bands_equal_the_rows_of_the_whole_and_share_its_tables():
    neighborhood = make_neighborhood((4, 3), (13, 6), 3)
    q, k, v = tensors(neighborhood)
    whole = neighborhood_attention(q, k, v, neighborhood, scale=0.5, backend="triton")
    band = neighborhood.band(5, 9)
    out = neighborhood_attention(q[:, :, 5:9], k, v, band, scale=0.5, backend="triton")
    torch.testing.assert_close(out, whole[:, :, 5:9], rtol=1e-5, atol=1e-6)
    again = make_neighborhood((4, 3), (13, 6), 3).band(5, 9)
    assert attention_triton.device_tiles(band, DEVICE) is attention_triton.device_tiles(again, DEVICE)


@pytest.mark.parametrize(
    ("dtype", "value_heads", "grid"), [(torch.float64, 2, (4, 5)), (torch.float32, 1, (17, 17))], ids=["f64", "shared"]
)
def test_what_the_kernels_do_not_serve_is_left_to_the_blocked_backend(dtype, value_heads, grid, launches):
    neighborhood = make_window(grid, (6, 5), 0.0)
    inputs = tensors(neighborhood, dtype=dtype, value_heads=value_heads)
    assert_equal_to_reference(neighborhood, inputs, 1e-5)
    assert not launches


def test_deterministic_training_is_left_to_the_blocked_backend(launches):
    neighborhood = make_neighborhood((4, 5), (9, 13), 3)
    inputs = tensors(neighborhood)
    torch.use_deterministic_algorithms(True)
    try:
        value_and_gradients(inputs, neighborhood, 0.5, "triton")
        assert not launches
        neighborhood_attention(*inputs, neighborhood, scale=0.5, backend="triton")
    finally:
        torch.use_deterministic_algorithms(False)
    assert launches == ["attend"]


def test_auto_takes_the_kernels_on_a_cuda_device_alone(launches):
    neighborhood = make_neighborhood((4, 5), (9, 13), 3)
    neighborhood_attention(*tensors(neighborhood), neighborhood, scale=0.5)
    assert launches == (["attend"] if DEVICE.type == "cuda" else [])


def test_without_triton_auto_works_and_asking_for_it_is_refused(monkeypatch):
    monkeypatch.setattr(attention_op, "has_triton", lambda device: False)
    monkeypatch.setattr(attention_op, "find_spec", lambda name: None)
    neighborhood = make_neighborhood((4, 5), (9, 13), 3)
    inputs = tensors(neighborhood)
    assert neighborhood_attention(*inputs, neighborhood, scale=0.5).isfinite().all()
    with pytest.raises(ValueError, match=r"backend is 'triton', .* triton is not installed"):
        neighborhood_attention(*inputs, neighborhood, scale=0.5, backend="triton")


def test_tensors_on_the_cpu_are_refused_where_nothing_interprets(monkeypatch):
    monkeypatch.setattr(attention_triton, "is_interpreted", lambda: False)
    neighborhood = make_neighborhood((4, 5), (9, 13), 3)
    inputs = [x.cpu() for x in tensors(neighborhood)]
    with pytest.raises(ValueError, match="backend is 'triton' and the tensors are on cpu, expected a CUDA device"):
        neighborhood_attention(*inputs, neighborhood, scale=0.5, backend="triton")


def test_attention_on_the_cpu_does_not_import_triton():
    program = (
        "import sys, torch, naf\n"
        "out = naf.create('naf', weights=None, dim=32)(torch.rand(1, 3, 8, 8), torch.rand(1, 8, 2, 2), (8, 8))\n"
        "assert out.shape == (1, 8, 8, 8)\n"
        "assert 'triton' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
