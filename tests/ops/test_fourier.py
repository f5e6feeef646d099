"""Fourier codes against their definition, number by number."""

import math

import pytest
import torch

from naf.ops.fourier import coordinates, fourier_code, fourier_frequencies, grid_coordinates
from tests.helpers import randn

CPU = torch.device("cpu")


def test_frequencies_grow_by_equal_ratios_from_the_lowest_to_the_highest():
    frequencies = fourier_frequencies(5, torch.float64, CPU)
    assert frequencies.tolist() == pytest.approx([math.exp(x) for x in (-2, 1, 4, 7, 10)])
    assert fourier_frequencies(1, torch.float64, CPU).tolist() == pytest.approx([math.exp(-2)])


def test_coordinates_span_the_axis_and_a_single_one_is_the_lower_end():
    assert coordinates(3, torch.float32, CPU).tolist() == [-1, 0, 1]
    assert coordinates(1, torch.float32, CPU).tolist() == [-1]


def test_rows_of_a_grid_have_the_coordinates_that_they_have_in_the_whole():
    whole = grid_coordinates((7, 4), slice(None), torch.float32, CPU)
    band = grid_coordinates((7, 4), slice(2, 5), torch.float32, CPU)
    for part, full in zip(band, whole, strict=True):
        assert torch.equal(part, full[2:5])
    assert torch.equal(whole[0], coordinates(7, torch.float32, CPU)[:, None].expand(7, 4))
    assert torch.equal(whole[1], coordinates(4, torch.float32, CPU).expand(7, 4))


def test_each_code_is_the_sine_or_cosine_of_its_channel_at_its_frequency():
    channels, count = 3, 4
    x, phases = randn(2, 5, channels, dtype=torch.float64), randn(2, channels, count, seed=1, dtype=torch.float64)
    code = fourier_code(x, phases)
    assert code.shape == (2, 5, 2 * channels * count)
    flat = phases.flatten(1)  # read as (frequencies, channels), though stored as (channels, frequencies)
    for k in range(count):
        frequency = math.exp(-2 + 12 * k / (count - 1))
        for channel in range(channels):
            index = k * channels + channel
            angle = x[..., channel] * frequency
            torch.testing.assert_close(code[..., index], (angle + flat[0, index]).sin(), rtol=0, atol=1e-9)
            second = code[..., channels * count + index]
            torch.testing.assert_close(second, (angle + flat[1, index]).cos(), rtol=0, atol=1e-9)


def test_gradients_reach_input_and_phases():
    x = (randn(2, 3, dtype=torch.float64) / 100).requires_grad_()
    phases = randn(2, 3, 2, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(fourier_code, (x, phases), eps=1e-9, atol=1e-3, rtol=1e-3)
