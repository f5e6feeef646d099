"""Filters on interpolated maps, given the coarse cells only, against the maps themselves."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from naf.ops.adaptive_conv import adaptive_conv, adaptive_conv_points, cell_weights, cell_weights_in_bands
from naf.ops.windows import axis_windows, make_windows
from tests.helpers import randn, relative_error

# (mode, grid, size, radius): one tile and many, cut tiles, runs of tiles and gathered ones, down, the map itself.
CASES = {
    "featup": ("bicubic", (21, 17), (42, 34), 3),
    "featup_small": ("bicubic", (2, 3), (4, 6), 3),
    "ratio_16": ("bilinear", (6, 5), (96, 80), 5),
    "fraction": ("bilinear", (5, 7), (37, 29), 5),
    "down": ("bilinear", (30, 23), (17, 9), 2),
    "far_down": ("bilinear", (28, 40), (4, 5), 1),
    "same_size": ("bilinear", (40, 45), (40, 45), 3),
    "map_itself": ("nearest", (13, 70), (13, 70), 2),
    "one_column": ("bilinear", (2, 1), (5, 4), 1),
    "one_row": ("bilinear", (1, 40), (4, 160), 1),
    "no_window": ("bilinear", (7, 9), (28, 50), 0),
}
by_case = pytest.mark.parametrize(("mode", "grid", "size", "radius"), CASES.values(), ids=CASES)


def padded_map(source, mode, size, radius):
    """(B, h, w, C) interpolated to `size` and padded, (B, C, H + 2 * radius, W + 2 * radius)."""
    align = {} if mode == "nearest" else {"align_corners": False}
    fine = F.interpolate(source.permute(0, 3, 1, 2), size=size, mode=mode, **align)
    return F.pad(fine, (radius,) * 4, mode="reflect") if radius else fine


def by_definition(source, kernels, mode, size, radius):
    """Adaptive convolution, offset by offset, (B, H, W, C)."""
    padded, diameter = padded_map(source, mode, size, radius), 2 * radius + 1
    parts = (
        padded[:, :, i : i + size[0], j : j + size[1]] * kernels[:, None, :, :, i * diameter + j]
        for i in range(diameter)
        for j in range(diameter)
    )
    return sum(parts).permute(0, 2, 3, 1)


def inputs(grid, size, radius, channels=5, dtype=torch.float64):
    return randn(2, *grid, channels, dtype=dtype), randn(2, *size, (2 * radius + 1) ** 2, seed=1, dtype=dtype)


@by_case
def test_weights_of_cells_filter_the_interpolated_map(mode, grid, size, radius):
    source, kernels = inputs(grid, size, radius)
    windows = make_windows(mode, size, grid, radius)
    out = adaptive_conv(source, cell_weights(kernels, windows), windows)
    assert out.is_contiguous()
    assert relative_error(out, by_definition(source, kernels, mode, size, radius)) <= 1e-12


@by_case
def test_weights_made_in_bands_are_the_same(mode, grid, size, radius):
    _, kernels = inputs(grid, size, radius)
    windows = make_windows(mode, size, grid, radius)
    in_bands = cell_weights_in_bands(lambda start, stop: kernels[:, start:stop], windows, kernels)
    assert torch.equal(in_bands, cell_weights(kernels, windows))


def test_bands_of_weights_are_joined_where_there_are_many(monkeypatch):
    monkeypatch.setattr("naf.ops.adaptive_conv.band_rows", lambda width, device: 5)
    _, kernels = inputs((21, 17), (42, 34), 3)
    windows = make_windows("bicubic", (42, 34), (21, 17), 3)
    asked = []

    def make(start, stop):
        asked.append((start, stop))
        return kernels[:, start:stop]

    assert torch.equal(cell_weights_in_bands(make, windows, kernels), cell_weights(kernels, windows))
    assert len(asked) > 2


@by_case
def test_bands_and_points_are_those_of_the_map(mode, grid, size, radius):
    source, kernels = inputs(grid, size, radius)
    windows = make_windows(mode, size, grid, radius)
    weights = cell_weights(kernels, windows)
    full = adaptive_conv(source, weights, windows)
    for start, stop in ((0, 1), (1, 4), (size[0] - 3, size[0]), (0, size[0])):
        band = adaptive_conv(source, weights, windows, start=start, stop=stop)
        torch.testing.assert_close(band, full[:, start:stop])
    rows, cols = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    points = adaptive_conv_points(source, weights, windows, rows.flatten(), cols.flatten())
    torch.testing.assert_close(points.unflatten(1, size), full)


@pytest.mark.parametrize("steps", [1, 3000], ids=["a_tile_a_step", "some"])
def test_steps_that_are_cut_short_give_the_same(monkeypatch, steps):
    source, kernels = inputs((40, 45), (80, 90), 3)
    windows = make_windows("bicubic", (80, 90), (40, 45), 3)
    weights = cell_weights(kernels, windows)
    expected = adaptive_conv(source, weights, windows)
    monkeypatch.setattr("naf.ops.adaptive_conv._CPU_ELEMENTS", steps)
    monkeypatch.setattr("naf.ops.adaptive_conv._POINT_ELEMENTS", steps)
    torch.testing.assert_close(adaptive_conv(source, weights, windows), expected)
    rows, cols = torch.arange(80), torch.arange(80)
    points = adaptive_conv_points(source, weights, windows, rows, cols)
    torch.testing.assert_close(points, expected[:, rows, cols])


@pytest.mark.parametrize("name", ["featup_small", "fraction", "down", "map_itself"])
def test_gradients_are_those_of_the_definition(name):
    mode, grid, size, radius = CASES[name]
    source, kernels = (x.requires_grad_() for x in inputs(grid, size, radius, channels=3))
    windows = make_windows(mode, size, grid, radius)
    loss = randn(2, *size, 3, seed=2, dtype=torch.float64)
    out = adaptive_conv(source, cell_weights(kernels, windows), windows)
    actual = torch.autograd.grad((out * loss).sum(), (source, kernels))
    expected = torch.autograd.grad((by_definition(source, kernels, mode, size, radius) * loss).sum(), (source, kernels))
    for a, e in zip(actual, expected, strict=True):
        assert relative_error(a, e) <= 1e-12


def test_gradients_of_a_band_with_bias_pass_gradcheck():
    windows = make_windows("bicubic", (10, 8), (5, 4), 1)
    source = randn(1, 5, 4, 2, dtype=torch.float64).requires_grad_()
    weights = cell_weights(randn(1, 10, 8, 9, dtype=torch.float64), windows).requires_grad_()
    bias = randn(2, seed=3, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda s, w, b: adaptive_conv(s, w, windows, start=3, stop=9, bias=b), (source, weights, bias))
    rows, cols = torch.tensor([0, 9, 4]), torch.tensor([7, 0, 3])
    assert gradcheck(lambda s, w: adaptive_conv_points(s, w, windows, rows, cols), (source, weights))


def test_a_bias_is_added_whether_or_not_it_is_learned():
    source, kernels = inputs((5, 4), (10, 8), 1)
    windows = make_windows("bicubic", (10, 8), (5, 4), 1)
    weights, bias = cell_weights(kernels, windows), randn(5, dtype=torch.float64)
    expected = adaptive_conv(source, weights, windows) + bias
    assert torch.equal(adaptive_conv(source, weights, windows, bias=bias), expected)
    assert torch.equal(adaptive_conv(source, weights, windows, bias=bias.clone().requires_grad_()), expected)


def test_cells_may_hold_several_values_with_weights_of_their_own():
    windows = make_windows("bilinear", (20, 26), (5, 6), 1)
    sources = [randn(1, 5, 6, 4, seed=seed) for seed in range(3)]
    weights = [cell_weights(randn(1, 20, 26, 9, seed=9 + seed), windows) for seed in range(3)]
    expected = sum(adaptive_conv(s, w, windows) for s, w in zip(sources, weights, strict=True))
    source, joint = torch.stack(sources, 3), torch.stack(weights, -1).flatten(-2)
    torch.testing.assert_close(adaptive_conv(source, joint, windows), expected)
    rows, cols = torch.tensor([3, 19]), torch.tensor([25, 0])
    points = adaptive_conv_points(source, joint, windows, rows, cols)
    torch.testing.assert_close(points, expected[:, rows, cols])


def test_the_result_has_the_dtype_that_is_asked_for():
    source, kernels = inputs((5, 4), (10, 8), 1, dtype=torch.float32)
    windows = make_windows("bilinear", (10, 8), (5, 4), 1)
    weights = cell_weights(kernels, windows)
    expected = adaptive_conv(source, weights, windows)
    half = adaptive_conv(source.requires_grad_(), weights, windows, dtype=torch.bfloat16)
    assert torch.equal(half, expected.bfloat16())
    (grad,) = torch.autograd.grad(half.sum(), source)
    assert grad.dtype == torch.float32


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_value_that_is_not_finite_reaches_the_pixels_that_have_weight_on_it(value):
    source, kernels = inputs((9, 8), (18, 16), 1)
    windows = make_windows("bilinear", (18, 16), (9, 8), 1)
    weights = cell_weights(kernels, windows)
    hit = torch.zeros_like(source)
    hit[1, 4, 3, 2] = 1
    reached = adaptive_conv(hit, weights, windows) != 0
    expected = adaptive_conv(source, weights, windows)
    source[1, 4, 3, 2] = value
    rows, cols = (index.flatten() for index in torch.meshgrid(torch.arange(18), torch.arange(16), indexing="ij"))
    points = adaptive_conv_points(source, weights, windows, rows, cols).unflatten(1, (18, 16))
    assert torch.equal(~points.isfinite(), reached)
    out = adaptive_conv(source, weights, windows)
    assert torch.equal(out.isnan(), reached)
    torch.testing.assert_close(out[~reached], expected[~reached])


def test_autocast_does_not_lower_the_precision():
    source, kernels = inputs((9, 8), (18, 16), 2, dtype=torch.float32)
    windows = make_windows("bicubic", (18, 16), (9, 8), 2)
    index = torch.tensor([3, 7])

    def results():
        weights = cell_weights(kernels, windows)
        return (
            adaptive_conv(source, weights, windows),
            adaptive_conv_points(source, weights, windows, index, index),
        )

    expected = results()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = results()
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a, e)


@by_case
def test_tables_make_every_window_from_its_tiles_cells(mode, grid, size, radius):
    axis = axis_windows(mode, size[0], grid[0], radius)
    ramp = randn(1, grid[0], 1, 1, dtype=torch.float64).expand(-1, -1, 2 * radius + 2, -1)
    padded = padded_map(ramp, mode, (size[0], 2 * radius + 2), radius)[0, 0, :, 0]
    for position in range(size[0]):
        window = axis.weight[position] @ ramp[0, axis.cells[position // axis.tile], 0, 0]
        torch.testing.assert_close(window, padded[position : position + 2 * radius + 1])
        first, last = axis.reach(position, position)
        used = axis.cells[position // axis.tile][axis.weight[position].abs().sum(0) > 0]
        assert (first, last) == (used.min(), used.max())


def test_runs_name_the_cells_of_their_tiles():
    axis = axis_windows("bicubic", 200, 100, 3)
    assert len(axis.runs) <= 3
    named = [run.cell + run.step * index for run in axis.runs for index in range(run.last - run.first)]
    assert named == axis.cells[:, 0].tolist()
    assert (axis.cells.diff(dim=1) == 1).all()
    assert axis_windows("bilinear", 1000, 300, 1).runs == ()  # steps differ from tile to tile
