"""Convolutions on bands of rows against the same on the whole map."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from naf.ops.rows import (
    FoldedConv,
    band_rows,
    bands,
    conv_rows,
    fold_batch_norm,
    join,
    join_bands,
    pick_points,
    resized_rows,
    rows_needed,
)
from tests.helpers import randn

CPU = torch.device("cpu")


@pytest.mark.parametrize("height", [1, 2, 3, 8, 11])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_bands_of_a_convolution_are_those_of_the_whole(height, stride, rows):
    x, weight, bias = randn(2, 3, height, 5), randn(4, 3, 3, 3, seed=1), randn(4, seed=2)
    expected = F.conv2d(x, weight, bias, stride, 1).relu()
    conv, out = FoldedConv(weight, bias, stride), expected.shape[2]

    def make(start, stop):
        first, last = rows_needed(start, stop, stride, height)
        assert 0 <= first < last <= height
        return conv_rows(x[:, :, first:last], conv, start, stop, height)

    torch.testing.assert_close(join_bands(make, 0, out, rows, x.dtype), expected)


def test_bands_of_two_convolutions_see_the_zero_padding_of_each():
    x = randn(1, 3, 9, 4)
    first, second = (FoldedConv(randn(3, 3, 3, 3, seed=s), randn(3, seed=s + 9), 1) for s in (1, 2))
    expected = x
    for conv in (first, second):
        expected = F.conv2d(expected, conv.weight, conv.bias, padding=1).relu()

    def make(start, stop):
        inner = rows_needed(start, stop, 1, 9)
        outer = rows_needed(*inner, 1, 9)
        return conv_rows(conv_rows(x[:, :, slice(*outer)], first, *inner, 9), second, start, stop, 9)

    torch.testing.assert_close(join_bands(make, 0, 9, 2, x.dtype), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_a_folded_convolution_is_convolution_and_batch_norm(bias):
    conv, norm = nn.Conv2d(3, 4, 3, bias=bias, padding=1), nn.BatchNorm2d(4).eval()
    for index, tensor in enumerate((norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var)):
        tensor.copy_(1 + randn(4, seed=index).abs())
    x = randn(1, 3, 6, 5)
    folded = fold_batch_norm(conv, norm, torch.float64)
    expected = norm.double()(conv.double()(x.double())).relu()
    torch.testing.assert_close(conv_rows(x.double(), folded, 0, 6, 6), expected)


def test_bands_cover_the_rows_in_order_and_hold_a_share_of_the_pixels():
    assert list(bands(3, 10, 3)) == [(3, 6), (6, 9), (9, 10)]
    assert band_rows(448, CPU) * 448 <= 1 << 14
    assert band_rows(10**6, CPU) == 8


def test_pieces_are_joined_in_the_asked_dtype_with_their_gradients():
    pieces = [randn(2, n, 3, seed=n) for n in (1, 4, 2)]
    expected = torch.cat(pieces, 1)
    assert torch.equal(join(iter(pieces), 7, torch.float64), expected.double())
    leaves = [piece.requires_grad_() for piece in pieces]
    joined = join(iter(leaves), 7, torch.float32)
    assert torch.equal(joined, expected)
    for leaf, grad in zip(leaves, torch.autograd.grad((joined * expected).sum(), leaves), strict=True):
        assert torch.equal(leaf.detach(), grad)


def test_points_make_only_the_rows_that_they_need():
    whole, made = randn(2, 3, 40, 5), []

    def make(start, stop):
        made.append((start, stop))
        return whole[:, :, start:stop]

    rows, cols = torch.tensor([30, 2, 30, 5]), torch.tensor([1, 4, 0, 2])
    assert torch.equal(pick_points(make, rows, cols, whole), whole[:, :, rows, cols])
    assert made == [(2, 6), (30, 31)]
    none = torch.empty(0, dtype=torch.int64)
    assert pick_points(make, none, none, whole).shape == (2, 3, 0)


@pytest.mark.parametrize("output_size", [(23, 9), (9, 5), (4, 4), (1, 1), (18, 10)])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_resized_rows_are_those_of_the_resized_map(output_size, rows):
    whole = randn(2, 3, 9, 5, dtype=torch.float64)
    make = resized_rows(lambda start, stop: whole[:, :, start:stop], (9, 5), output_size)
    expected = F.interpolate(whole, size=output_size, mode="bilinear")
    torch.testing.assert_close(join_bands(make, 0, output_size[0], rows, whole.dtype), expected)
