"""Cross-scale neighborhood attention: backends against each other and against dense attention over all cells."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from naf.ops import attention
from naf.ops.attention import attend_points, neighborhood_attention, neighborhood_scores
from naf.ops.neighborhood import Neighborhood, make_neighborhood, make_window
from naf.ops.points import average_at, scores_at
from naf.ops.tiling import plan_tiles
from tests.helpers import randn, relative_error

BACKENDS = ("reference", "blocked")
HALF = (torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True, params=[None, 1], ids=["products_by_size", "convolutions"])
def least_pixels(request, monkeypatch):
    """Small tiles take batched products; each test runs with convolutions throughout as well."""
    if request.param is not None:
        monkeypatch.setattr("naf.ops.attention_blocked._LEAST_PIXELS", request.param)


@st.composite
def problems(draw, max_coarse=9, max_extra=20):
    """(neighborhood, q, k, v, scale): fractional, integer and equal sizes, grids down to one cell."""
    grid, size = [], []
    for _ in range(2):
        coarse = draw(st.integers(1, max_coarse))
        kind = draw(st.sampled_from(["fractional", "integer", "equal"]))
        grid.append(coarse)
        if kind == "fractional":
            size.append(coarse + draw(st.integers(0, max_extra)))
        else:
            size.append(coarse * (draw(st.integers(2, 5)) if kind == "integer" else 1))
    kernel, rule = draw(st.sampled_from([1, 2, 3, 5, 9])), draw(st.sampled_from(["official", "cell", "window"]))
    if rule == "window" and draw(st.booleans()):  # the output may be the smaller one
        size = [draw(st.integers(1, 12)), draw(st.integers(1, 12))]
    batch, heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    dim, width, seed = draw(st.integers(1, 9)), draw(st.integers(1, 7)), draw(st.integers(0, 99))
    if rule == "window":
        neighborhood = make_window(tuple(grid), tuple(size), draw(st.sampled_from([0.0, 0.05, 0.1, 0.34])))
    else:
        neighborhood = make_neighborhood(tuple(grid), tuple(size), kernel, rule)
    shared = draw(st.booleans())
    inputs = tensors(batch, heads, grid, size, dim, width, seed, value_heads=1 if shared else heads)
    return neighborhood, *inputs, 1 / math.sqrt(dim)


def tensors(batch, heads, grid, size, dim, width, seed=0, dtype=torch.float32, value_heads=None):
    q = randn(batch, heads, *size, dim, seed=seed, dtype=dtype)
    k = randn(batch, heads, *grid, dim, seed=seed + 1, dtype=dtype)
    v = randn(batch, value_heads or heads, *grid, width, seed=seed + 2, dtype=dtype)
    return q, k, v


def use_counts(table, coarse):
    """How often each position uses each cell; -1 in a table stands for none."""
    return torch.stack([torch.bincount(row[row >= 0], minlength=coarse) for row in table]).double()


def dense_weights(neighborhood, q, k, scale):
    """Softmax over all coarse cells, (B, n, Ho*Wo, h*w): a cell used m times has ln m added to its score."""
    (h, w), (ho, wo) = neighborhood.grid, neighborhood.output_size
    rows, cols = use_counts(neighborhood.rows, h), use_counts(neighborhood.cols, w)
    count = (rows[:, None, :, None] * cols[None, :, None, :]).reshape(ho * wo, h * w)
    scores = q.double().flatten(2, 3) @ k.double().flatten(2, 3).mT * scale
    return (scores + count.log()).softmax(-1)


def dense(neighborhood, q, k, v, scale):
    weights = dense_weights(neighborhood, q, k, scale)
    if v.shape[1] != q.shape[1]:
        weights = weights.mean(1, keepdim=True)  # values shared by the heads
    out = weights @ v.double().flatten(2, 3)
    return out.unflatten(2, neighborhood.output_size)


def value_and_gradients(q, k, v, neighborhood, scale, backend):
    leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    out = neighborhood_attention(*leaves, neighborhood, scale=scale, backend=backend)
    grads = torch.autograd.grad(out, leaves, randn(*out.shape, seed=5, dtype=out.dtype))
    return out.detach(), *grads


@given(problem=problems())
def test_backends_agree_on_values_and_gradients(problem):
    neighborhood, q, k, v, scale = problem
    pairs = zip(*(value_and_gradients(q, k, v, neighborhood, scale, backend) for backend in BACKENDS), strict=True)
    for reference, blocked in pairs:
        torch.testing.assert_close(blocked, reference, rtol=1e-5, atol=1e-5)


@given(problem=problems())
def test_backends_agree_more_tightly_in_float64(problem):
    neighborhood, q, k, v, scale = problem
    q, k, v = q.double(), k.double(), v.double()
    pairs = zip(*(value_and_gradients(q, k, v, neighborhood, scale, backend) for backend in BACKENDS), strict=True)
    for reference, blocked in pairs:
        torch.testing.assert_close(blocked, reference, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
@given(problem=problems())
def test_attention_is_dense_attention_with_repeats_as_a_bias(backend, problem):
    neighborhood, q, k, v, scale = problem
    out = neighborhood_attention(q, k, v, neighborhood, scale=scale, backend=backend)
    torch.testing.assert_close(out.double(), dense(neighborhood, q, k, v, scale), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ratio", [(1, 1), (2, 2), (3, 5), (4, 1)])
@pytest.mark.parametrize(("grid", "kernel"), [((6, 7), 3), ((9, 10), 9), ((3, 8), 5)])
def test_an_integer_ratio_masks_all_but_the_shifted_window_of_the_own_cell(grid, kernel, ratio, backend):
    size = tuple(g * s for g, s in zip(grid, ratio, strict=True))
    q, k, v = tensors(2, 2, grid, size, 6, 5, dtype=torch.float64)
    masks = []
    for g, s in zip(grid, ratio, strict=True):
        reach = min(kernel, g)
        start = (torch.arange(g * s) // s - (reach - 1) // 2).clamp(0, g - reach)[:, None]
        masks.append((torch.arange(g) >= start) & (torch.arange(g) < start + reach))
    inside = (masks[0][:, None, :, None] & masks[1][None, :, None, :]).flatten(2).flatten(0, 1)
    scores = q.flatten(2, 3) @ k.flatten(2, 3).mT * 0.4
    expected = scores.masked_fill(~inside, -math.inf).softmax(-1) @ v.flatten(2, 3)
    neighborhood = make_neighborhood(grid, size, kernel)
    out = neighborhood_attention(q, k, v, neighborhood, scale=0.4, backend=backend)
    torch.testing.assert_close(out, expected.unflatten(2, size))


@pytest.mark.parametrize("backend", BACKENDS)
@given(problem=problems(max_coarse=5, max_extra=9))
def test_weights_are_non_negative_and_sum_to_one(backend, problem):
    neighborhood, q, k, _, scale = problem
    h, w = neighborhood.grid
    # One value channel a cell, 1 in that cell alone: the output is the weight of each cell.
    unit = torch.eye(h * w).view(h, w, h * w).expand(*k.shape[:2], -1, -1, -1)
    weights = neighborhood_attention(q, k, unit, neighborhood, scale=scale, backend=backend)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    torch.testing.assert_close(
        weights.flatten(2, 3).double(), dense_weights(neighborhood, q, k, scale), rtol=1e-5, atol=1e-6
    )


@given(problem=problems(max_coarse=6, max_extra=12))
def test_scores_are_scaled_dot_products_in_kernel_order(problem):
    neighborhood, q, k, _, scale = problem
    rows, cols = neighborhood.rows, neighborhood.cols
    keys = k[:, :, rows[:, None, :, None], cols[None, :, None, :]]  # (B, n, Ho, Wo, kh, kw, d)
    expected = (q[:, :, :, :, None, None] * keys).sum(-1) * scale
    is_none = (rows < 0)[:, None, :, None] | (cols < 0)[None, :, None, :]
    expected = expected.masked_fill(is_none, -math.inf).flatten(4)
    scores = neighborhood_scores(q, k, neighborhood, scale=scale)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


@given(problem=problems(), seed=st.integers(0, 99))
def test_single_points_equal_the_full_map(problem, seed):
    neighborhood, q, k, v, scale = problem
    ho, wo = neighborhood.output_size
    generator = torch.Generator().manual_seed(seed)
    row, col = (torch.randint(size, (7,), generator=generator) for size in (ho, wo))
    full = neighborhood_attention(q, k, v, neighborhood, scale=scale, backend="reference")
    points = attend_points(q[:, :, row, col], k, v, neighborhood.rows[row], neighborhood.cols[col], scale=scale)
    torch.testing.assert_close(points, full[:, :, row, col], rtol=1e-5, atol=1e-6)
    cells = neighborhood.rows[row], neighborhood.cols[col]
    for dense in (0, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("naf.ops.points._DENSE", dense)
            scores = scores_at(q[:, :, row, col], k, *cells, scale)
        torch.testing.assert_close(average_at(scores, v, *cells), points, rtol=1e-5, atol=1e-6)


GRADCHECK_SIZES = {
    "integer": ((2, 3), (4, 6)),
    "equal": ((3, 3), (3, 3)),
    "fractional": ((3, 2), (7, 3)),
    "padded": ((2, 7), (3, 18)),
}


@pytest.mark.parametrize("rule", ["official", "cell"])
def test_one_of_the_sizes_for_gradcheck_pads_its_tiles(rule):
    _, cols = plan_tiles(make_neighborhood(*GRADCHECK_SIZES["padded"], 3, rule))
    assert cols.queries.numel() > cols.bounds[-1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", ["official", "cell"])
@pytest.mark.parametrize(("grid", "size"), GRADCHECK_SIZES.values(), ids=GRADCHECK_SIZES)
def test_gradients_pass_gradcheck(grid, size, rule, backend):
    neighborhood = make_neighborhood(grid, size, 3, rule)
    inputs = [x.requires_grad_() for x in tensors(1, 1, grid, size, 2, 2, dtype=torch.float64)]

    def attend(q, k, v):
        return neighborhood_attention(q, k, v, neighborhood, scale=0.7, backend=backend)

    # fast_mode compares random projections of the Jacobian: for the one size that cannot be small.
    assert torch.autograd.gradcheck(attend, inputs, fast_mode=size == (3, 18))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reach", [0.0, 0.2])
def test_gradients_of_windows_and_shared_values_pass_gradcheck(reach, backend):
    grid, size = (3, 4), (4, 7)
    neighborhood = make_window(grid, size, reach)
    inputs = [x.requires_grad_() for x in tensors(1, 2, grid, size, 2, 2, dtype=torch.float64, value_heads=1)]

    def attend(q, k, v):
        return neighborhood_attention(q, k, v, neighborhood, scale=0.7, backend=backend)

    assert torch.autograd.gradcheck(attend, inputs)


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_each_gradient_can_be_asked_for_alone(wanted):
    neighborhood = make_neighborhood((4, 5), (11, 13), 3)
    inputs = tensors(2, 2, (4, 5), (11, 13), 3, 4, dtype=torch.float64)
    found = []
    for backend in BACKENDS:
        leaves = [x.clone().requires_grad_(i == wanted) for i, x in enumerate(inputs)]
        out = neighborhood_attention(*leaves, neighborhood, scale=0.5, backend=backend)
        out.square().sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [i == wanted for i in range(3)]
        found.append(leaves[wanted].grad)
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(10, 8), (13, 11)])
def test_non_contiguous_input_and_gradient_make_no_difference(size, backend):
    neighborhood = make_neighborhood((5, 4), size, 3)
    q, k, v = tensors(2, 2, (5, 4), size, 4, 3)
    channels_last = [x.permute(0, 2, 3, 1, 4).contiguous().permute(0, 3, 1, 2, 4) for x in (q, k, v)]
    strided = [torch.stack([x, x], dim=-1)[..., 0] for x in (q, k, v)]
    expected = value_and_gradients(q, k, v, neighborhood, 0.5, backend)
    for inputs in (channels_last, strided):
        assert not any(x.is_contiguous() for x in inputs)
        leaves = [x.detach().requires_grad_() for x in inputs]
        out = neighborhood_attention(*leaves, neighborhood, scale=0.5, backend=backend)
        grad_out = randn(*out.shape, seed=5).transpose(2, 3).contiguous().transpose(2, 3)
        grads = torch.autograd.grad(out, leaves, grad_out)
        for actual, wanted in zip((out.detach(), *grads), expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-6)


def test_a_value_shared_by_all_cells_may_be_an_expanded_tensor():
    neighborhood = make_neighborhood((4, 4), (9, 9), 3)
    q, k, _ = tensors(1, 1, (4, 4), (9, 9), 2, 2)
    v = torch.tensor([3.0, -2.0]).expand(1, 1, 4, 4, 2)
    for backend in BACKENDS:
        out = neighborhood_attention(q, k, v, neighborhood, scale=1.0, backend=backend)
        torch.testing.assert_close(out, v[:, :, :1, :1].expand(1, 1, 9, 9, 2))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_values_keep_their_dtype_and_are_summed_in_float32(dtype, backend):
    grid, size = (6, 5), (15, 20)
    neighborhood = make_neighborhood(grid, size, 5)
    q, k, v = tensors(1, 2, grid, size, 8, 4)
    out = neighborhood_attention(q, k, v.to(dtype), neighborhood, scale=0.3, backend=backend)
    exact = dense(neighborhood, q, k, v.to(dtype), 0.3)
    assert out.dtype == dtype
    # Rounded once at the end: within half a unit in the last place.
    torch.testing.assert_close(out.double(), exact, rtol=torch.finfo(dtype).eps * 0.51, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_queries_and_keys_are_scored_in_float32(dtype, backend):
    grid, size = (6, 5), (15, 20)
    neighborhood = make_neighborhood(grid, size, 5)
    q, k, v = (x.to(dtype) for x in tensors(1, 2, grid, size, 8, 4))
    out = neighborhood_attention(q, k, v.float(), neighborhood, scale=0.3, backend=backend)
    assert out.dtype == torch.float32
    assert relative_error(out, dense(neighborhood, q, k, v, 0.3)) <= 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_gradients_are_close_to_those_of_float32(dtype, backend):
    grid, size = (4, 5), (11, 10)
    neighborhood = make_neighborhood(grid, size, 3)
    inputs = [x.to(dtype) for x in tensors(1, 2, grid, size, 4, 4)]
    low = value_and_gradients(*inputs, neighborhood, 0.5, backend)
    high = value_and_gradients(*(x.double() for x in inputs), neighborhood, 0.5, "reference")
    for actual, expected in zip(low, high, strict=True):
        assert actual.dtype == dtype
        assert relative_error(actual, expected) <= 2e-2


@pytest.mark.parametrize("backend", BACKENDS)
def test_float64_values_are_summed_in_float64(backend):
    neighborhood = make_neighborhood((4, 4), (10, 10), 3)
    q, k, v = tensors(1, 1, (4, 4), (10, 10), 4, 2)
    values = v.double() + 1e9  # float32 would keep no digit of v
    out = neighborhood_attention(q, k, values, neighborhood, scale=0.5, backend=backend) - 1e9
    torch.testing.assert_close(out, dense(neighborhood, q, k, v, 0.5), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_does_not_lower_the_precision(backend):
    neighborhood = make_neighborhood((5, 5), (12, 10), 3)
    q, k, v = tensors(1, 2, (5, 5), (12, 10), 8, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = neighborhood_attention(q, k, v, neighborhood, scale=0.5, backend=backend)
        scores = neighborhood_scores(q, k, neighborhood, scale=0.5)
    assert scores.dtype == torch.float32
    assert relative_error(out, dense(neighborhood, q, k, v, 0.5)) <= 1e-5


@pytest.mark.parametrize("size", [(40, 40), (13, 11)])
def test_the_default_dtype_makes_no_difference(size):
    neighborhood = make_neighborhood((5, 5), size, 3)
    inputs = tensors(2, 2, (5, 5), size, 8, 4)
    torch.set_default_dtype(torch.bfloat16)
    try:
        out = neighborhood_attention(*inputs, neighborhood, scale=0.5, backend="blocked")
    finally:
        torch.set_default_dtype(torch.float32)
    assert relative_error(out, dense(neighborhood, *inputs, 0.5)) <= 1e-5


def test_where_onednn_is_missing_batched_products_serve(monkeypatch):
    neighborhood = make_neighborhood((5, 5), (40, 40), 3)
    inputs = tensors(1, 2, (5, 5), (40, 40), 8, 4)
    monkeypatch.setattr("naf.ops.attention_blocked.attend_tiles", None)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    with pytest.raises(TypeError):
        neighborhood_attention(*inputs, neighborhood, scale=0.5, backend="blocked")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    out = neighborhood_attention(*inputs, neighborhood, scale=0.5, backend="blocked")
    assert relative_error(out, dense(neighborhood, *inputs, 0.5)) <= 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_far_beyond_the_range_of_exp_stay_finite(backend):
    neighborhood = make_neighborhood((5, 5), (12, 10), 3)
    q, k, v = tensors(1, 1, (5, 5), (12, 10), 8, 4)
    out = neighborhood_attention(q * 1e3, k * 1e3, v, neighborhood, scale=1.0, backend=backend)
    assert relative_error(out, dense(neighborhood, q * 1e3, k * 1e3, v, 1.0)) <= 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", ["official", "cell"])
@pytest.mark.parametrize("size", [(20, 24), (23, 31), (12, 13)])
def test_nan_reaches_only_the_pixels_whose_neighborhood_holds_it(size, rule, backend):
    grid = (10, 12)
    neighborhood = make_neighborhood(grid, size, 3, rule)
    q, k, v = tensors(1, 1, grid, size, 4, 2)
    v[:, :, 4, 5] = math.nan
    out = neighborhood_attention(q, k, v, neighborhood, scale=0.5, backend=backend)
    holds = (neighborhood.rows == 4).any(1)[:, None] & (neighborhood.cols == 5).any(1)
    assert torch.equal(out.isnan().any(-1)[0, 0], holds)


# Small limits force steps of a single tile or a single row.
@pytest.mark.parametrize("limit", [1, 400, 3000])
@pytest.mark.parametrize("size", [(12, 16), (13, 19), (6, 8)])
def test_the_size_of_a_step_changes_nothing(monkeypatch, size, limit):
    neighborhood = make_neighborhood((6, 8), size, 3)
    q, k, v = tensors(2, 2, (6, 8), size, 4, 3)
    expected = {backend: value_and_gradients(q, k, v, neighborhood, 0.5, backend) for backend in BACKENDS}
    scores = neighborhood_scores(q, k, neighborhood, scale=0.5)
    monkeypatch.setattr("naf.ops.attention_blocked._CPU_ELEMENTS", limit)
    monkeypatch.setattr(attention, "_GATHER_ELEMENTS", limit)
    for backend in BACKENDS:
        for actual, wanted in zip(
            value_and_gradients(q, k, v, neighborhood, 0.5, backend), expected[backend], strict=True
        ):
            torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(neighborhood_scores(q, k, neighborhood, scale=0.5), scores)


def test_a_band_of_output_rows_equals_those_rows_of_the_whole():
    neighborhood = make_neighborhood((6, 8), (17, 19), 5)
    q, k, v = tensors(1, 2, (6, 8), (17, 19), 4, 3)
    for backend in BACKENDS:
        whole = neighborhood_attention(q, k, v, neighborhood, scale=0.5, backend=backend)
        band = neighborhood_attention(q[:, :, 5:9], k, v, neighborhood.band(5, 9), scale=0.5, backend=backend)
        torch.testing.assert_close(band, whole[:, :, 5:9], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_separable_table_is_served(backend):
    # Nothing but the tables says which cells count: unsorted, repeated, of different length on each axis.
    rows = torch.tensor([[3, 0, 3], [3, 0, 3], [1, 1, 1], [2, 0, 1]])
    cols = torch.tensor([[1], [0], [0], [1], [1]])
    neighborhood = Neighborhood((4, 2), rows, cols)
    q, k, v = tensors(1, 2, (4, 2), (4, 5), 3, 2)
    out = neighborhood_attention(q, k, v, neighborhood, scale=0.5, backend=backend)
    torch.testing.assert_close(out.double(), dense(neighborhood, q, k, v, 0.5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_result_lies_channels_last_in_memory(backend):
    neighborhood = make_neighborhood((3, 4), (6, 9), 3)
    out = neighborhood_attention(*tensors(2, 2, (3, 4), (6, 9), 4, 3), neighborhood, scale=1.0, backend=backend)
    assert out.permute(0, 2, 3, 1, 4).is_contiguous()


def test_auto_is_one_of_the_backends():
    neighborhood = make_neighborhood((3, 4), (7, 9), 3)
    inputs = tensors(1, 2, (3, 4), (7, 9), 4, 3)
    results = [neighborhood_attention(*inputs, neighborhood, scale=1.0, backend=b) for b in ("auto", *BACKENDS)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(results[0], results[2], rtol=1e-5, atol=1e-6)


WRONG_SHAPES = {
    "query_rank": ("q", (2, 8, 10, 4)),
    "query_rows": ("q", (1, 2, 7, 10, 4)),
    "query_cols": ("q", (1, 2, 8, 11, 4)),
    "key_batch": ("k", (2, 2, 4, 5, 4)),
    "key_heads": ("k", (1, 1, 4, 5, 4)),
    "key_grid": ("k", (1, 2, 5, 5, 4)),
    "key_dim": ("k", (1, 2, 4, 5, 3)),
    "value_heads": ("v", (1, 3, 4, 5, 4)),
    "value_grid": ("v", (1, 2, 4, 6, 4)),
    "value_rank": ("v", (2, 4, 5, 4)),
}


@pytest.mark.parametrize(("name", "shape"), WRONG_SHAPES.values(), ids=WRONG_SHAPES)
def test_wrong_shapes_are_refused_with_name_and_shapes(name, shape):
    neighborhood = make_neighborhood((4, 5), (8, 10), 3)
    inputs = dict(zip("qkv", tensors(1, 2, (4, 5), (8, 10), 4, 3), strict=True))
    inputs[name] = torch.zeros(shape)
    for backend in BACKENDS:
        with pytest.raises(ValueError, match=rf"^{name} has shape \({', '.join(map(str, shape))}\), expected"):
            neighborhood_attention(**inputs, neighborhood=neighborhood, scale=1.0, backend=backend)


def test_an_unknown_backend_is_refused_with_the_known_ones():
    neighborhood = make_neighborhood((2, 2), (4, 4), 3)
    with pytest.raises(ValueError, match=r"backend is 'dense', expected one of 'auto', .*'blocked'"):
        neighborhood_attention(*tensors(1, 1, (2, 2), (4, 4), 2, 2), neighborhood, scale=1.0, backend="dense")
