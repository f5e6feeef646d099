"""Rotary embedding against the formulas, in plain loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from naf.ops import rope
from naf.ops.rope import adjacent_pairs, rope_angles, rope_periods, rotate, rotate_adjacent, rotate_in_place
from tests.helpers import randn


def rotate_by_hand(x, heads, base, rescale=1.0):
    batch, height, width, channels = x.shape
    dim = channels // heads
    out = torch.empty_like(x)
    for b in range(batch):
        for r in range(height):
            for c in range(width):
                y, z = (2 * (r + 0.5) / height - 1) * rescale, (2 * (c + 0.5) / width - 1) * rescale
                for head in range(heads):
                    for a in range(dim // 2):
                        j = a % (dim // 4)
                        period = base ** (2 * j / (dim / 2))
                        angle = 2 * math.pi * (y if a < dim // 4 else z) / period
                        first, second = (x[b, r, c, head * dim + i].item() for i in (a, a + dim // 2))
                        out[b, r, c, head * dim + a] = first * math.cos(angle) - second * math.sin(angle)
                        out[b, r, c, head * dim + a + dim // 2] = second * math.cos(angle) + first * math.sin(angle)
    return out


def rotated(x, heads, base=100.0, rescale=1.0):
    periods = rope_periods(x.shape[-1] // heads, base).to(torch.promote_types(x.dtype, torch.float32))
    rows, cols = (rope_angles(size, periods, rescale) for size in x.shape[1:3])
    return rotate(x, rows, cols, heads=heads)


@pytest.mark.parametrize("rescale", [1.0, 0.7])
@pytest.mark.parametrize(("height", "width", "heads", "dim"), [(1, 1, 1, 4), (3, 5, 2, 8), (4, 2, 3, 16)])
def test_rotation_follows_the_formula(height, width, heads, dim, rescale):
    x = randn(2, height, width, heads * dim, dtype=torch.float64)
    torch.testing.assert_close(
        rotated(x, heads, rescale=rescale), rotate_by_hand(x, heads, 100.0, rescale), rtol=1e-5, atol=1e-5
    )


@given(
    height=st.integers(1, 9), width=st.integers(1, 9), heads=st.integers(1, 4), quarter=st.integers(1, 6),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_rotation_keeps_the_norm_of_each_head(height, width, heads, quarter, seed):
    x = randn(1, height, width, heads * 4 * quarter, seed=seed, dtype=torch.float64)
    norms = [m.unflatten(-1, (heads, -1)).norm(dim=-1) for m in (x, rotated(x, heads))]
    torch.testing.assert_close(*norms)


@given(
    start=st.tuples(st.integers(0, 4), st.integers(0, 4)), step=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_dot_products_depend_on_the_difference_of_positions_alone(start, step, seed):
    # One query and one key everywhere: only the positions tell the pixels apart.
    query, key = (randn(16, seed=seed + i, dtype=torch.float64).expand(1, 9, 9, 16).contiguous() for i in (0, 1000))
    query, key = rotated(query, 1)[0], rotated(key, 1)[0]
    (r, c), (dr, dc) = start, step
    torch.testing.assert_close(query[r, c] @ key[r + dr, c + dc], query[0, 0] @ key[dr, dc])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_autograd_path_gives_the_same_numbers(dtype):
    x = randn(2, 5, 7, 24, dtype=dtype)
    plain, graph = rotated(x, 3), rotated(x.clone().requires_grad_(), 3)
    assert graph.requires_grad
    assert not plain.requires_grad
    assert plain.dtype == graph.dtype
    torch.testing.assert_close(plain, graph.detach())


def test_gradients_are_those_of_a_rotation():
    x = randn(1, 3, 4, 16, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rotated(x, 2), x)


def test_half_precision_is_rotated_in_float32():
    x = randn(1, 4, 4, 8, dtype=torch.bfloat16)
    out = rotated(x, 1)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, rotated(x.float(), 1))


def test_the_input_is_left_as_it_was():
    x = randn(1, 4, 4, 8)
    before = x.clone()
    rotated(x, 2)
    assert torch.equal(x, before)


def test_non_contiguous_maps_are_rotated_alike():
    x = randn(1, 8, 5, 6)
    torch.testing.assert_close(rotated(x.permute(0, 2, 3, 1), 1), rotated(x.permute(0, 2, 3, 1).contiguous(), 1))


def test_periods_rise_geometrically_from_one():
    periods = rope_periods(64, 100.0)
    assert periods.dtype == torch.float32
    torch.testing.assert_close(periods, torch.tensor([100 ** (j / 16) for j in range(16)]))


def test_angles_are_antisymmetric_about_the_middle():
    angles = rope_angles(7, rope_periods(8, 10.0).double())
    assert angles.dtype == torch.float64
    torch.testing.assert_close(angles, -angles.flip(0))
    assert (angles[3] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("elements", [1, 7 * 24 * 2, 1 << 20])  # strips of 1 and 2 rows, all at once
def test_rotation_in_place_is_the_rotation(monkeypatch, dtype, elements):
    monkeypatch.setattr(rope, "_ROTATED_ELEMENTS", elements)
    wide, periods = randn(2, 5, 7, 30, dtype=dtype), rope_periods(8, 100.0)
    x, rows, cols = wide[..., 3:-3], rope_angles(5, periods), rope_angles(7, periods)
    expected = rotate(x, rows, cols, heads=3).to(dtype)
    rotate_in_place(x, rows, cols, heads=3)
    torch.testing.assert_close(x, expected)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("heads", [1, 3])
def test_pairs_side_by_side_turn_as_pairs_half_a_head_apart(heads, dtype, tolerance):
    x = randn(5, 7, heads * 12).to(dtype)
    periods = rope_periods(12, 100.0).to(torch.promote_types(dtype, torch.float32))
    rows, cols = rope_angles(5, periods), rope_angles(7, periods)
    order = adjacent_pairs(12, heads)
    wide = torch.full((5, 7, 4 + heads * 12), 9.0, dtype=dtype)
    rotate_adjacent(x[..., order].contiguous(), rows, cols, heads=heads, out=wide[..., 2:-2])
    expected = rotate(x[None], rows, cols, heads=heads)[0, ..., order].to(dtype)
    torch.testing.assert_close(wide[..., 2:-2], expected, rtol=tolerance, atol=tolerance)
    assert (wide[..., :2] == 9).all()
    assert (wide[..., -2:] == 9).all()
