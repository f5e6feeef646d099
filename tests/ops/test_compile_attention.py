"""Attention under `torch.compile`: one graph, without warnings, equal to what runs without a compiler."""

import math

import pytest
import torch

from naf.ops import attention_op
from naf.ops.attention import neighborhood_attention
from naf.ops.interpolation import axis_taps
from naf.ops.neighborhood import make_neighborhood, make_window
from tests.helpers import randn, relative_error, small

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

MAKERS = {
    "official": lambda grid, size: make_neighborhood(grid, size, 3),
    "cell": lambda grid, size: make_neighborhood(grid, size, 3, "cell"),
    "window": lambda grid, size: make_window(grid, size, 0.2),
}


@pytest.fixture(autouse=True)
def no_graphs_of_other_tests():
    torch._dynamo.reset()


def tensors(grid, size, value_heads=2):
    shapes = (2, 2, *size, 8), (2, 2, *grid, 8), (2, value_heads, *grid, 4)
    return [randn(*shape, seed=seed).to(DEVICE) for seed, shape in enumerate(shapes)]


def compiled(make, size):
    """The attention at one output size, tables included: as it is, and as one graph."""

    def attend(q, k, v):
        neighborhood = make(tuple(k.shape[2:4]), size)
        return neighborhood_attention(q, k, v, neighborhood, scale=0.5)

    return attend, torch.compile(attend, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize("value_heads", [1, 2])
@pytest.mark.parametrize("name", MAKERS)
def test_values_and_gradients_of_one_graph_are_those_without_it(name, value_heads):
    plain, graph = compiled(MAKERS[name], (9, 13))
    found = []
    for attend in (plain, graph):
        leaves = [x.requires_grad_() for x in tensors((4, 5), (9, 13), value_heads)]
        out = attend(*leaves)
        assert out.permute(0, 2, 3, 1, 4).is_contiguous()
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), leaves)))
    for actual, expected in zip(*found, strict=True):
        assert relative_error(actual, expected) <= 1e-5


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_each_gradient_can_be_asked_for_alone(wanted):
    plain, graph = compiled(MAKERS["official"], (9, 13))
    grads = []
    for attend in (plain, graph):
        leaves = [x.requires_grad_(i == wanted) for i, x in enumerate(tensors((4, 5), (9, 13)))]
        attend(*leaves).square().sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [i == wanted for i in range(3)]
        grads.append(leaves[wanted].grad)
    assert relative_error(grads[1], grads[0]) <= 1e-5


@pytest.mark.parametrize("dynamic", [None, True])
def test_other_sizes_follow_in_the_same_compiled_function(dynamic):
    def attend(q, k, v):
        neighborhood = make_neighborhood(tuple(k.shape[2:4]), tuple(q.shape[2:4]), 3)
        return neighborhood_attention(q, k, v, neighborhood, scale=0.5)

    graph = torch.compile(attend, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for grid, size in (((4, 5), (8, 10)), ((4, 6), (9, 13)), ((3, 7), (11, 14))):
        inputs = tensors(grid, size)
        torch.testing.assert_close(graph(*inputs), attend(*inputs), rtol=1e-5, atol=1e-6)


def test_a_graph_keeps_nan_to_the_neighborhoods_that_hold_it():
    plain, graph = compiled(MAKERS["official"], (12, 13))
    for value in (1.0, math.nan):  # a graph made for finite values
        q, k, v = tensors((8, 9), (12, 13))
        v[:, :, 1, 1] = value
        torch.testing.assert_close(graph(q, k, v), plain(q, k, v), rtol=1e-5, atol=1e-6, equal_nan=True)


def test_autocast_around_a_graph_does_not_lower_the_precision():
    plain, graph = compiled(MAKERS["official"], (9, 13))
    inputs = tensors((4, 5), (9, 13))
    expected = plain(*inputs)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        actual = graph(*inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_a_band_is_part_of_a_graph():
    def attend(q, k, v):
        band = make_neighborhood((4, 5), (9, 13), 3).band(2, 6)
        return neighborhood_attention(q[:, :, 2:6], k, v, band, scale=0.5)

    inputs = tensors((4, 5), (9, 13))
    graph = torch.compile(attend, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(graph(*inputs), attend(*inputs), rtol=1e-5, atol=1e-6)


def test_an_export_is_of_plain_operators_where_kernels_would_run(monkeypatch):
    class Module(torch.nn.Module):
        def forward(self, q, k, v):
            return neighborhood_attention(q, k, v, make_neighborhood((4, 5), (9, 13), 3), scale=0.5)

    inputs = tuple(tensors((4, 5), (9, 13)))
    expected = Module()(*inputs)
    monkeypatch.setattr(attention_op, "has_triton", lambda device: True)
    program = torch.export.export(Module(), inputs, strict=False)
    assert not any("naf" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(*inputs), expected, rtol=1e-5, atol=1e-6)


def test_cached_tables_are_constants_of_a_graph():
    def weigh(x):
        return x * axis_taps("lanczos", 9, 4).weight.to(x.device)

    x = randn(9, 1).to(DEVICE)
    torch.testing.assert_close(torch.compile(weigh, fullgraph=True, backend="aot_eager")(x), weigh(x))


@pytest.mark.parametrize("is_training", [False, True])
def test_the_whole_upsampler_is_one_graph(is_training):
    upsampler = small("naf").to(DEVICE)
    graph = torch.compile(upsampler, fullgraph=True, backend="aot_eager")
    image, features = randn(1, 3, 24, 28).to(DEVICE), randn(1, 8, 6, 7).to(DEVICE)
    found = []
    for module in (upsampler, graph):
        leaf = features.clone().requires_grad_(is_training)
        with torch.set_grad_enabled(is_training):
            out = module(image, leaf, (24, 28))
        found.append([out.detach(), *torch.autograd.grad(out.sum(), [leaf])] if is_training else [out])
    for actual, expected in zip(*found, strict=True):
        assert relative_error(actual, expected) <= 1e-5
