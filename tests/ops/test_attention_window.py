"""Attention at ratio 1: the window backend against the definition, its choice, and programs made of it."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from naf.ops import attention_window
from naf.ops.attention import neighborhood_attention
from naf.ops.attention_blocked import BlockedAttention
from naf.ops.attention_op import _function
from naf.ops.attention_window import WindowAttention
from naf.ops.neighborhood import Neighborhood, make_neighborhood, make_window
from tests.helpers import randn, relative_error

HALF = (torch.bfloat16, torch.float16)


def operands(grid, *, rows=None, batch=1, heads=1, value_heads=None, dim=4, width=3, dtype=torch.float32, seed=0):
    """q, k, v; rows of a band where they are not all."""
    q = randn(batch, heads, grid[0] if rows is None else rows, grid[1], dim, seed=seed, dtype=dtype)
    k = randn(batch, heads, *grid, dim, seed=seed + 1, dtype=dtype)
    v = randn(batch, value_heads or heads, *grid, width, seed=seed + 2, dtype=dtype)
    return q, k, v


def value_and_gradients(inputs, neighborhood, backend, scale=0.5):
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = neighborhood_attention(*leaves, neighborhood, scale=scale, backend=backend)
    grads = torch.autograd.grad(out, leaves, randn(*out.shape, seed=5, dtype=out.dtype))
    return out.detach(), *grads


@st.composite
def problems(draw):
    """(neighborhood, q, k, v): any grid, kernel, rule, band of rows and number of heads."""
    grid = draw(st.integers(1, 30)), draw(st.integers(1, 40))
    kernel, rule = draw(st.one_of(st.integers(1, 17), st.integers(24, 30))), draw(st.sampled_from(["official", "cell"]))
    neighborhood, rows = make_neighborhood(grid, grid, kernel, rule), grid[0]
    if draw(st.booleans()):
        start = draw(st.integers(0, grid[0] - 1))
        rows = draw(st.integers(1, grid[0] - start))
        neighborhood = neighborhood.band(start, start + rows)
    heads = draw(st.integers(1, 3))
    inputs = operands(
        grid,
        rows=rows,
        batch=draw(st.integers(1, 2)),
        heads=heads,
        value_heads=draw(st.sampled_from([1, heads])),
        dim=draw(st.integers(1, 6)),
        width=draw(st.sampled_from([1, 3, 15, 16, 21])),  # on both sides of how values lie in memory
        dtype=torch.float64,
        seed=draw(st.integers(0, 99)),
    )
    return neighborhood, *inputs


@given(problem=problems(), ring=st.sampled_from([1, 1 << 22]), step=st.sampled_from([1, 1 << 17]))
def test_values_and_gradients_are_those_of_the_definition(problem, ring, step):
    neighborhood, *inputs = problem
    with pytest.MonkeyPatch.context() as patch:  # wide outputs are cut into blocks of columns and steps of tiles
        patch.setattr(attention_window, "_RING_ELEMENTS", ring)
        patch.setattr(attention_window, "_CPU_ELEMENTS", step)
        found = [value_and_gradients(inputs, neighborhood, backend) for backend in ("window", "reference")]
    for actual, expected in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("value_heads", [1, 2])
def test_gradients_are_those_of_finite_differences(value_heads):
    neighborhood = make_neighborhood((4, 5), (4, 5), 3)
    inputs = operands((4, 5), heads=2, value_heads=value_heads, dim=2, width=2, dtype=torch.float64)
    leaves = [x.requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(lambda q, k, v: WindowAttention.apply(q, k, v, neighborhood, 0.7), leaves)


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_each_gradient_can_be_asked_for_alone(wanted):
    neighborhood = make_neighborhood((9, 13), (9, 13), 5)
    inputs = operands((9, 13), heads=2)
    expected = value_and_gradients(inputs, neighborhood, "window")[1 + wanted]
    inputs[wanted].requires_grad_()
    out = neighborhood_attention(*inputs, neighborhood, scale=0.5, backend="window")
    (grad,) = torch.autograd.grad(out, inputs[wanted], randn(*out.shape, seed=5))
    assert torch.equal(grad, expected)


def test_queries_may_be_the_keys():
    neighborhood = make_neighborhood((12, 17), (12, 17), 7)
    grads = []
    for backend in ("window", "reference"):
        q, _, v = operands((12, 17), dtype=torch.float64)
        q.requires_grad_()
        out = neighborhood_attention(q, q, v, neighborhood, scale=0.5, backend=backend)
        grads.append(torch.autograd.grad(out.square().sum(), q)[0])
    torch.testing.assert_close(*grads, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kernel", [2, 15])
def test_a_pixel_at_the_border_has_as_many_neighbours_as_any_other(kernel):
    size, neighborhood = (20, 18), make_neighborhood((20, 18), (20, 18), kernel)
    _, _, v = operands(size, dtype=torch.float64)
    even = torch.zeros(1, 1, *size, 2, dtype=torch.float64)
    out = neighborhood_attention(even, even, v, neighborhood, scale=1.0, backend="window")
    means = v[0, 0].unfold(0, kernel, 1).unfold(1, kernel, 1).mean((-1, -2))
    starts = [(torch.arange(side) - (kernel - 1) // 2).clamp(0, side - kernel) for side in size]
    torch.testing.assert_close(out[0, 0], means[starts[0][:, None], starts[1]])


def test_weights_sum_to_one_and_values_enter_linearly():
    neighborhood = make_neighborhood((11, 19), (11, 19), 5)
    q, k, v = operands((11, 19), dtype=torch.float64)

    def attend(values):
        return neighborhood_attention(q, k, values, neighborhood, scale=3.0, backend="window")

    torch.testing.assert_close(attend(torch.full_like(v, 0.3)), torch.full_like(v, 0.3))
    torch.testing.assert_close(attend(2 * v - v.flip(2)), 2 * attend(v) - attend(v.flip(2)))


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_rounded_once(dtype):
    neighborhood = make_neighborhood((14, 21), (14, 21), 7)
    inputs = [x.to(dtype) for x in operands((14, 21), heads=2)]
    found = value_and_gradients(inputs, neighborhood, "window")
    exact = value_and_gradients([x.double() for x in inputs], neighborhood, "reference")
    for actual, expected in zip(found, exact, strict=True):
        assert actual.dtype == dtype
        assert relative_error(actual.double(), expected) <= 2 * torch.finfo(dtype).eps


def test_operands_need_not_be_contiguous_and_the_result_is_channels_last():
    neighborhood = make_neighborhood((9, 14), (9, 14), 3)
    inputs = operands((9, 14), batch=2, heads=2)
    strange = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in inputs]
    expected, found = (value_and_gradients(x, neighborhood, "window") for x in (inputs, strange))
    out = neighborhood_attention(*strange, neighborhood, scale=0.5, backend="window")
    assert out.permute(0, 2, 3, 1, 4).is_contiguous()
    for actual, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_stay_within_their_windows(value):
    neighborhood = make_neighborhood((20, 20), (20, 20), 5)
    q, k, v = operands((20, 20))
    v[0, 0, 10, 10, 1] = value
    expected = value_and_gradients((q, k, v), neighborhood, "reference")
    for actual, wanted in zip(value_and_gradients((q, k, v), neighborhood, "window"), expected, strict=True):
        torch.testing.assert_close(actual, wanted, equal_nan=True, rtol=1e-4, atol=1e-5)
    assert expected[0].isfinite().sum() == 3 * 400 - 25


def test_an_image_of_which_nothing_is_known_leaves_the_next_one_alone():
    neighborhood = make_neighborhood((10, 12), (10, 12), 5)
    q, k, v = operands((10, 12), batch=2)
    expected = value_and_gradients((q, k, v), neighborhood, "window")
    q[0], k[0] = math.nan, math.inf
    for actual, wanted in zip(value_and_gradients((q, k, v), neighborhood, "window"), expected, strict=True):
        assert torch.equal(actual[1], wanted[1])


def test_bands_of_rows_make_the_whole():
    neighborhood = make_neighborhood((23, 16), (23, 16), 9)
    q, k, v = operands((23, 16), dtype=torch.float64)
    expected = neighborhood_attention(q, k, v, neighborhood, scale=0.5, backend="window")
    cuts = (0, 1, 7, 20, 23)
    bands = [
        neighborhood_attention(q[:, :, a:b], k, v, neighborhood.band(a, b), scale=0.5, backend="window")
        for a, b in itertools.pairwise(cuts)
    ]
    torch.testing.assert_close(torch.cat(bands, 2), expected)


def test_the_backend_is_for_windows_that_slide():
    q, k, v = operands((5, 6))
    same = make_neighborhood((5, 6), (5, 6), 3)
    tables = Neighborhood((5, 6), same.rows, same.cols)  # nobody tells how they are made
    for neighborhood in (make_window((5, 6), (5, 6), 0.2), tables):
        with pytest.raises(ValueError, match=r"backend is 'window' .* expected windows that slide on one grid"):
            neighborhood_attention(q, k, v, neighborhood, scale=0.5, backend="window")
    fine = randn(1, 1, 10, 12, 4)
    with pytest.raises(ValueError, match=r"output \(10, 12\) on a grid \(5, 6\)"):
        neighborhood_attention(fine, k, v, make_neighborhood((5, 6), (10, 12), 3), scale=0.5, backend="window")


def test_the_choice_falls_on_it_at_ratio_1():
    def chosen(grid, size, backend="auto", kernel=9):
        q, k, v = randn(1, 1, *size, 32), randn(1, 1, *grid, 32), randn(1, 1, *grid, 3)
        return _function(q, k, v, make_neighborhood(grid, size, kernel), backend, records=True)

    assert chosen((80, 80), (80, 80)) is WindowAttention
    assert chosen((80, 80), (80, 80), "blocked") is BlockedAttention
    assert chosen((80, 80), (80, 160)) is BlockedAttention
    # What is too little work for the steps to be worth it.
    assert chosen((80, 80), (80, 80), kernel=3) is BlockedAttention
    assert chosen((80, 80), (80, 80), "window", kernel=3) is WindowAttention


@pytest.mark.parametrize("backend", ["auto", "window"])
def test_a_compiled_graph_gives_the_same(monkeypatch, backend):
    torch._dynamo.reset()

    def attend(q, k, v):
        neighborhood = make_neighborhood(tuple(k.shape[2:4]), tuple(k.shape[2:4]), 5)
        return neighborhood_attention(q, k, v, neighborhood, scale=0.5, backend=backend)

    monkeypatch.setattr(attention_window, "_LEAST_PRODUCTS", 0)
    found = []
    for call in (attend, torch.compile(attend, fullgraph=True, backend="aot_eager")):
        leaves = [x.requires_grad_() for x in operands((9, 13), heads=2)]
        out = call(*leaves)
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), leaves)))
    for actual, expected in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("backend", ["auto", "window"])
def test_an_exported_program_has_plain_operators_alone(backend):
    class Filter(torch.nn.Module):
        def forward(self, q, k, v):
            return neighborhood_attention(q, k, v, make_neighborhood((9, 13), (9, 13), 5), scale=0.5, backend=backend)

    inputs = operands((9, 13))
    program = torch.export.export(Filter(), inputs)
    graphs = [part.graph for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)]
    names = {str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function"}
    assert "aten.softmax.int" in names
    assert not any("naf" in name for name in names), names
    torch.testing.assert_close(program.module()(*inputs), Filter()(*inputs))
