"""Scores of pixels before keys are pooled, against the paper's formulas on the map before RoPE."""

import math

import pytest
import torch

from naf.upsamplers.naf_encoder import pool
from naf.visualization.spectrum import Spectrum
from naf.visualization.spectrum_pixels import PixelSpectrum
from tests.helpers import randn
from tests.visualization.test_spectrum import KINDS, SIZES, double, encode

TIGHT = {"rtol": 1e-10, "atol": 1e-11}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_dot_and_cross_products_magnitudes_and_phases_and_keys_agree(kind, sizes):
    upsampler = double(*kind)
    guidance = encode(upsampler, *sizes)
    for row, col in ((0, 0), (9, 7)):
        pixels = PixelSpectrum.of_guidance(upsampler, guidance, row, col)
        cells = Spectrum.of_guidance(upsampler, guidance, row, col)
        torch.testing.assert_close(pixels.by_products(), pixels.by_phases(), **TIGHT)
        torch.testing.assert_close(pixels.by_phases().sum((1, 2)), cells.pixel_scores, **TIGHT)
        torch.testing.assert_close(pixels.cell_means(pixels.by_products()), cells.contributions, **TIGHT)


@pytest.mark.parametrize("kind", ["naf", "naf+", "two heads, alternating branches", "more RoPE heads"])
@pytest.mark.parametrize("image_size", [(40, 36), (80, 72)], ids=["output as large as the image", "pooled"])
def test_bands_axes_and_heads_are_those_of_the_formula(kind, image_size):
    upsampler = double(*KINDS[kind])
    grid, output, (row, col) = (10, 12), (40, 36), (17, 22)
    image = randn(1, 3, *image_size, dtype=torch.float64)
    with torch.no_grad():
        guidance = upsampler.encode(image, output, grid)
        branches = [branch(image, torch.float64) for branch in upsampler.image_encoder.branches.values()]
    joined = torch.stack(branches, 2).flatten(1, 2) if upsampler.image_encoder.interleave else torch.cat(branches, 1)
    before = pool(joined, output)[0]  # G, (dim, Ho, Wo)

    found = Spectrum.of_guidance(upsampler, guidance, row, col)
    scales = upsampler.coordinate_scales(grid)
    heads, width = upsampler.heads_rope, upsampler.dim // upsampler.heads_rope
    quarter, factor = width // 4, (upsampler.dim // upsampler.heads_attn) ** -0.5
    expected = torch.zeros_like(found.contributions)
    for head in range(heads):
        for axis in (0, 1):
            length = output[axis]
            coordinate = scales[axis] * (2 * (torch.arange(length, dtype=torch.float64) + 0.5) / length - 1)
            here = coordinate[(row, col)[axis]]
            for band in range(quarter):
                channel = head * width + axis * quarter + band
                u, v = before[channel], before[channel + width // 2]
                length_here, length_there = torch.hypot(u[row, col], v[row, col]), torch.hypot(u, v)
                psi = torch.atan2(v, u) - torch.atan2(v[row, col], u[row, col])
                turn = 2 * math.pi * (coordinate - here) / found.periods[band]
                turn = turn[:, None] if axis == 0 else turn[None]
                wave = factor * length_here * length_there * torch.cos(psi + turn)  # eq. 22, (Ho, Wo)
                cells = wave.unflatten(0, (grid[0], -1)).unflatten(2, (grid[1], -1)).mean((1, 3))
                of_head = head // (heads // upsampler.heads_attn)
                expected[of_head, band, axis] += cells[found.rows][:, found.cols]
    torch.testing.assert_close(found.contributions, expected, **TIGHT)


def test_equal_content_has_equal_length_and_no_phase():
    upsampler = double("naf", {})
    with torch.no_grad():
        guidance = upsampler.encode(torch.full((1, 3, 20, 20), -0.7, dtype=torch.float64), (20, 20), (5, 5))
    pixels = PixelSpectrum.of_guidance(upsampler, guidance, 3, 11)
    assert pixels.phases.abs().max() < 1e-8
    spread = pixels.magnitudes.amax((-2, -1)) - pixels.magnitudes.amin((-2, -1))
    assert spread.max() < 1e-10 * pixels.magnitudes.max()
