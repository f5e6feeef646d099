"""RoPE fused with the pooling of keys against the plain functions in float64; interpreted where there is no GPU."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton")

from naf.ops.rope import rope_angles, rope_periods, rotate
from naf.ops.rope_triton import rotate_and_pool
from tests.helpers import TOLERANCE, randn, relative_error

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Batch, size, grid, channels of each map, heads.
SCENES = {
    "integer_ratio": (1, (12, 15), (3, 5), (16, 16), 4),
    "a_head_spans_both_maps": (2, (14, 9), (7, 9), (24, 24), 3),
    "single_head_of_both_maps": (2, (6, 8), (3, 4), (32, 32), 1),
    "fractional_ratio": (3, (7, 11), (3, 4), (32, 32), 1),
    "cells_wider_than_a_block": (1, (2, 80), (1, 2), (64, 64), 2),
    "many_small_cells": (1, (4, 74), (2, 37), (48,), 3),
    "ratio_of_one": (1, (9, 35), (9, 35), (16,), 2),
}


def plain(maps, periods, grid, heads):
    guidance = torch.cat(maps, dim=-1)
    rows, cols = (rope_angles(size, periods) for size in guidance.shape[1:3])
    queries = rotate(guidance, rows, cols, heads=heads)
    return queries, F.adaptive_avg_pool2d(queries.permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1)


@pytest.mark.parametrize(("name", "dtype"), [*product(SCENES, DTYPES[:2]), ("integer_ratio", torch.float16)], ids=str)
def test_queries_keys_and_gradients_equal_the_plain_functions(name, dtype):
    batch, size, grid, channels, heads = SCENES[name]
    maps = [randn(batch, *size, width, seed=width + i, dtype=dtype).to(DEVICE) for i, width in enumerate(channels)]
    periods = rope_periods(sum(channels) // heads, 100.0).to(DEVICE) / 1.3
    results = []
    for function, precision in ((rotate_and_pool, dtype), (plain, torch.float64)):
        own = [x.to(precision, copy=True).requires_grad_() for x in maps]
        exact = periods.double() if precision == torch.float64 else periods
        out = function(tuple(own), exact, grid, heads=heads)
        weights = [randn(*x.shape, seed=9 + i).to(x) for i, x in enumerate(out)]
        sum((x * weight).sum() for x, weight in zip(out, weights, strict=True)).backward()
        results.append([*out, *(x.grad for x in own)])
    for actual, expected in zip(*results, strict=True):
        assert actual.dtype == dtype
        assert relative_error(actual, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("chosen", [0, 1], ids=["queries", "keys"])
def test_gradients_of_queries_or_keys_alone(chosen):
    maps = [randn(1, 6, 8, 16, seed=i).to(DEVICE) for i in range(2)]
    periods = rope_periods(8, 100.0).to(DEVICE)
    grads = []
    for function, precision in ((rotate_and_pool, torch.float32), (plain, torch.float64)):
        own = [x.to(precision, copy=True).requires_grad_() for x in maps]
        function(tuple(own), periods.to(precision), (3, 4), heads=4)[chosen].square().sum().backward()
        grads.append(torch.cat([x.grad for x in own]))
    assert relative_error(*grads) <= 1e-5


# (heads, channels a head): a head half of which is no power of two, and the smallest there is.
@pytest.mark.parametrize(("heads", "dim"), [(2, 16), (3, 12), (2, 4)])
def test_alternating_channels_and_periods_of_their_own_for_rows_and_columns(heads, dim):
    maps = [randn(2, 6, 9, heads * dim // 2, seed=i).to(DEVICE) for i in range(2)]
    periods = rope_periods(dim, 100.0).to(DEVICE) * torch.tensor([[1.0], [0.6]], device=DEVICE)

    def alternating(maps, periods):
        guidance = torch.stack(maps, dim=-1).flatten(-2)
        angles = (rope_angles(size, own) for size, own in zip((6, 9), periods, strict=True))
        queries = rotate(guidance, *angles, heads=heads)
        return queries, F.adaptive_avg_pool2d(queries.permute(0, 3, 1, 2), (3, 3)).permute(0, 2, 3, 1)

    def by_kernels(maps, periods):
        return rotate_and_pool(maps, periods, (3, 3), heads=heads, interleave=True)

    results = []
    for function, dtype in ((by_kernels, torch.float32), (alternating, torch.float64)):
        own = tuple(x.to(dtype, copy=True).requires_grad_() for x in maps)
        queries, keys = function(own, periods.to(dtype))
        (queries.square() * randn(*queries.shape).to(queries)).sum().add(keys.sin().sum()).backward()
        results.append([queries, keys, *(x.grad for x in own)])
    for actual, expected in zip(*results, strict=True):
        assert relative_error(actual, expected) <= 1e-5


def test_maps_of_any_layout():
    first, second = (randn(2, 16, 6, 8, seed=i).to(DEVICE).permute(0, 2, 3, 1) for i in range(2))
    periods = rope_periods(8, 100.0).to(DEVICE)
    queries, keys = rotate_and_pool((first, second), periods, (3, 4), heads=4)
    expected = plain((first, second), periods, (3, 4), heads=4)
    torch.testing.assert_close((queries, keys), expected, rtol=1e-5, atol=1e-5)
