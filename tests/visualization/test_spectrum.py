"""Scores as sums of waves."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import naf
from naf.ops.neighborhood import make_neighborhood
from naf.visualization.spectrum import Spectrum, low_pass, spectrum
from naf.visualization.spectrum_pairs import cell_pixels
from tests.helpers import randn, relative_error, small

KINDS = {
    "naf": ("naf", {}),
    "naf+": ("naf+", {}),
    "naf++": ("naf++", {}),
    "one head": ("naf", {"heads_attn": 1}),
    "two heads, alternating branches": ("naf", {"heads_attn": 2, "interleave": True, "coordinates": "cells"}),
    "more RoPE heads": ("naf", {"heads_attn": 2, "heads_rope": 8}),
    "the image as guidance": ("naf", {"use_encoder": False}),
}
SIZES = {  # grid, output, image
    "whole ratio": ((10, 12), (40, 48), (40, 48)),
    "fractional ratio": ((9, 11), (23, 31), (50, 60)),
    "repeated cells": ((8, 8), (15, 15), (30, 30)),
    "small grid": ((4, 2), (16, 25), (33, 20)),
    "ratio 1": ((10, 10), (10, 10), (40, 40)),
}


def double(name, config):
    return copy.deepcopy(small(name, **config)).double().eval()


def encode(upsampler, grid, output, image):
    x = randn(1, upsampler.image_channels, *image, dtype=next(upsampler.parameters()).dtype)
    with torch.no_grad():
        return upsampler.encode(x, output, grid)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_bands_add_up_to_the_score(kind, sizes):
    upsampler = double(*kind)
    guidance = encode(upsampler, *sizes)
    scores = guidance.scores()[0]
    (height, width) = sizes[1]
    for row, col in ((0, 0), (height - 1, width // 3), (height // 2, width // 2)):
        found = Spectrum.of_guidance(upsampler, guidance, row, col)
        n, bands = upsampler.heads_attn, upsampler.dim // upsampler.heads_rope // 4
        assert found.contributions.shape == (n, bands, 2, len(found.rows), len(found.cols))
        assert relative_error(found.contributions.sum((1, 2)).flatten(1), scores[:, row, col]) < 1e-10
        assert relative_error(found.scores.flatten(1).softmax(1), found.weights.flatten(1)) < 1e-10
        assert torch.equal(found.weights, guidance.attention(row, col).weights[0])


@given(data=st.data())
def test_the_bands_add_up_at_any_pixel_and_ratio(data):
    grid = data.draw(st.tuples(*[st.integers(1, 7)] * 2))
    output = tuple(data.draw(st.integers(side, 4 * side)) for side in grid)
    row, col = (data.draw(st.integers(0, side - 1)) for side in output)
    upsampler = double("naf+", {"kernel_size": 5, "neighborhood": data.draw(st.sampled_from(["official", "cell"]))})
    guidance = encode(upsampler, grid, output, (16, 16))
    found = Spectrum.of_guidance(upsampler, guidance, row, col)
    assert relative_error(found.scores.flatten(1), guidance.scores()[0, :, row, col]) < 1e-10


@pytest.mark.parametrize("name", ["naf", "naf+"])
def test_a_float32_module_agrees_to_its_rounding(name):
    upsampler = small(name)
    guidance = encode(upsampler, (10, 12), (40, 48), (40, 48))
    found = spectrum(upsampler, randn(1, 3, 40, 48), (10, 12), (40, 48), 13, 7)
    assert relative_error(found.scores.flatten(1), guidance.scores()[0, :, 13, 7]) < 1e-6
    assert relative_error(found.weights, guidance.attention(13, 7).weights[0]) < 1e-6


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_amplitude_phase_and_distance_make_the_contribution(sizes):
    upsampler = double("naf", {"heads_attn": 2})
    found = Spectrum.of_guidance(upsampler, encode(upsampler, *sizes), 5, 9)
    waves = found.amplitudes * torch.cos(found.phases + found.turns)
    torch.testing.assert_close(waves, found.contributions, rtol=1e-10, atol=1e-12)
    # A kernel of one cell's waves meets that cell's score.
    for i, j in ((0, 0), (len(found.rows) - 1, 1)):
        kernel = found.kernel(found.row_offsets, found.col_offsets, (i, j))
        torch.testing.assert_close(kernel[:, i, j], found.scores[:, i, j], rtol=1e-10, atol=1e-10)


def test_a_step_of_one_cell_turns_each_band_by_its_frequency():
    upsampler = double("naf+", {})
    found = Spectrum.of_guidance(upsampler, encode(upsampler, (20, 12), (40, 48), (40, 48)), 20, 20)
    # naf+ has coordinates from -1 to 1 over 10 cells: two units.
    torch.testing.assert_close(found.frequencies, (0.2 / found.periods)[:, None].expand(-1, 2))
    torch.testing.assert_close(
        found.turns[:, 0].diff(dim=1), (2 * math.pi * found.frequencies[:, 0, None, None]).expand(-1, 8, 9)
    )
    torch.testing.assert_close(
        found.turns[:, 1].diff(dim=2), (2 * math.pi * found.frequencies[:, 1, None, None]).expand(-1, 9, 8)
    )


def test_coordinates_of_the_image_make_the_frequency_depend_on_the_grid():
    upsampler = double("naf", {})
    found = Spectrum.of_guidance(upsampler, encode(upsampler, (20, 12), (40, 48), (40, 48)), 20, 20)
    torch.testing.assert_close(
        found.frequencies * torch.tensor([20.0, 12.0]), (2 / found.periods)[:, None].expand(-1, 2)
    )


@pytest.mark.parametrize(("name", "grid", "ratio"), [("naf", (9, 10), 4), ("naf+", (12, 9), 3), ("naf+", (10, 10), 1)])
def test_constant_content_has_no_phase_and_the_low_pass_of_the_cells(name, grid, ratio):
    upsampler = double(name, {})
    output = tuple(ratio * side for side in grid)
    found = spectrum(upsampler, torch.full((1, 3, *output), 0.3, dtype=torch.float64), grid, output, 14 % output[0], 7)
    # Half the angle from one output row to the next, ω δ / 2, and the mean of s of them.
    step = math.pi * found.frequencies / ratio
    closed = torch.sin(ratio * step) / (ratio * torch.sin(step))
    expected = (found.power * closed)[..., None, None].expand_as(found.amplitudes)
    torch.testing.assert_close(found.amplitudes, expected, rtol=1e-9, atol=1e-12)
    is_heard = found.amplitudes > 1e-6 * found.amplitudes.max()
    assert found.phases[is_heard].abs().max() < 1e-6
    torch.testing.assert_close(found.scores, found.kernel(found.row_offsets, found.col_offsets), rtol=1e-9, atol=1e-9)


@given(frequency=st.floats(0, 6), ratio=st.integers(1, 16))
def test_the_low_pass_is_the_mean_of_a_wave_over_the_pixels_of_a_cell(frequency, ratio):
    pixels = (torch.arange(ratio, dtype=torch.float64) + 0.5) / ratio - 0.5
    mean = torch.cos(2 * math.pi * frequency * pixels).mean()
    found = low_pass(torch.tensor(frequency, dtype=torch.float64), torch.tensor(float(ratio), dtype=torch.float64))
    assert abs(found - mean) < 1e-6


def test_the_low_pass_keeps_whole_turns_from_pixel_to_pixel():
    ratio = torch.tensor([1, 2, 3, 4], dtype=torch.float64)
    assert low_pass(ratio, ratio).tolist() == [1, -1, 1, -1]  # each pixel a turn on, centres half a turn off


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_the_score_of_a_cell_is_the_mean_of_its_pixels(sizes):
    upsampler = double("naf", {})
    found = Spectrum.of_guidance(upsampler, encode(upsampler, *sizes), 3, 8)
    (h, w), (height, width) = sizes[:2]
    for i, row in enumerate(found.rows.tolist()):
        down = cell_pixels(row, h, height)
        for j, col in enumerate(found.cols.tolist()):
            across = cell_pixels(col, w, width)
            pixels = found.pixel_scores[
                :,
                down.start - found.corner[0] : down.stop - found.corner[0],
                across.start - found.corner[1] : across.stop - found.corner[1],
            ]
            torch.testing.assert_close(pixels.mean((1, 2)), found.scores[:, i, j], rtol=1e-9, atol=1e-9)


def test_the_power_is_the_score_with_itself():
    upsampler = double("naf", {})
    found = Spectrum.of_guidance(upsampler, encode(upsampler, (10, 12), (40, 48), (40, 48)), 21, 30)
    own = found.pixel_scores[:, 21 - found.corner[0], 30 - found.corner[1]]
    torch.testing.assert_close(found.power.sum((1, 2)), own, rtol=1e-10, atol=0)


def test_another_kernel_size_needs_no_other_encoding():
    upsampler = double("naf", {})
    whole = encode(upsampler, (10, 12), (40, 48), (40, 48))
    near = whole.with_neighborhood(make_neighborhood((10, 12), (40, 48), 5))
    found, smaller = (Spectrum.of_guidance(upsampler, guidance, 21, 30) for guidance in (whole, near))
    assert torch.equal(smaller.waves, found.waves[..., 2:7, 2:7])


def test_one_head_and_the_mean_of_all():
    upsampler = double("naf", {})
    found = Spectrum.of_guidance(upsampler, encode(upsampler, (10, 12), (40, 48), (40, 48)), 21, 30)
    second, mean = found.of_head(1), found.of_head(None)
    assert torch.equal(second.waves, found.waves[1:2])
    assert torch.equal(second.weights, found.weights[1:2])
    torch.testing.assert_close(mean.scores[0], found.scores.mean(0))
    torch.testing.assert_close(mean.pixel_scores[0], found.pixel_scores.mean(0))
    offsets = found.row_offsets, found.col_offsets
    torch.testing.assert_close(mean.kernel(*offsets)[0], found.kernel(*offsets).mean(0))
    with pytest.raises(ValueError, match=r"head is 4, expected an integer from 0 to 3"):
        found.of_head(4)


def test_the_spectrum_takes_part_in_no_gradient():
    upsampler = double("naf", {}).requires_grad_(True)
    image = randn(1, 3, 20, 20, dtype=torch.float64).requires_grad_(True)
    assert not spectrum(upsampler, image, (10, 10), (20, 20), 3, 3).waves.requires_grad


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("naf", {"position": "none"}, "naf with position='none', expected position='rope'"),
        ("naf", {"position": "manhattan"}, "naf with position='manhattan', expected position='rope'"),
        ("naf+", {"position": "gaussian"}, r"naf\+ with position='gaussian', expected position='rope'"),
        ("naf", {"key_pooling": "max"}, "naf with key_pooling='max', expected key_pooling='average'"),
        ("naf", {"heads_rope": 2}, "naf with heads_rope=2 and heads_attn=4, expected a multiple"),
        ("bilinear", {}, "upsampler is bilinear, expected NAF"),
        ("anyup", {}, "upsampler is anyup, expected NAF"),
    ],
)
def test_what_is_no_sum_of_waves_is_refused_before_encoding(name, config, message, monkeypatch):
    upsampler = small(name, **config)
    monkeypatch.setattr(type(upsampler), "encode", lambda *_: pytest.fail("the image was encoded"))
    with pytest.raises(ValueError, match=message):
        spectrum(upsampler, randn(1, 3, 20, 20), (10, 10), (20, 20), 0, 0)


def test_training_mode_is_refused_where_frequencies_are_random():
    upsampler = copy.deepcopy(small("naf")).train()
    with pytest.raises(ValueError, match=r"naf in training mode, where frequencies are drawn anew .* eval"):
        spectrum(upsampler, randn(1, 3, 20, 20), (10, 10), (20, 20), 0, 0)
    upsampler.rope_rescale = 1.0
    assert spectrum(upsampler, randn(1, 3, 20, 20), (10, 10), (20, 20), 0, 0).waves.isfinite().all()


@pytest.mark.parametrize(
    ("row", "col", "message"), [(20, 0, "row is 20"), (-1, 0, "row is -1"), (0, 1.5, "col is 1.5")]
)
def test_a_pixel_outside_is_refused(row, col, message):
    with pytest.raises(ValueError, match=f"{message}, expected an integer from 0 to 19"):
        spectrum(small("naf"), randn(1, 3, 20, 20), (10, 10), (20, 20), row, col)


def test_a_guidance_that_does_not_fit_is_refused():
    image = randn(1, 3, 20, 20)
    of = Spectrum.of_guidance
    with pytest.raises(ValueError, match="guidance has batch 2, expected one image"):
        of(small("naf"), small("naf").encode(image.repeat(2, 1, 1, 1), (20, 20), (10, 10)), 0, 0)
    with pytest.raises(ValueError, match="guidance has 32 channels in 1 heads, the upsampler 32 in 4"):
        of(small("naf"), small("naf+").encode(image, (20, 20), (10, 10)), 0, 0)
    for other in (naf.create("bilinear"), small("naf", position="gaussian")):
        with pytest.raises(ValueError, match=r"guidance is a .*Guidance, expected one that the upsampler encoded"):
            of(small("naf"), other.encode(image, (20, 20), (10, 10)), 0, 0)
