"""The tables against their definition, spelled out in whole numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from naf.ops.neighborhood import axis_table, make_neighborhood, make_window, window_table

RULES = ("official", "cell")
coarse_sizes = st.integers(1, 24)
ratios_above = st.integers(0, 60)
kernels = st.integers(1, 11)


def nearest_cells(position, fine, coarse):
    """The cell that holds a position's centre; both neighbors where the centre lies on the line between two."""
    cell, rest = divmod((2 * position + 1) * coarse, 2 * fine)
    return {cell} if rest else {cell - 1, cell}


def centred_windows(members, centre, kernel):
    """The runs of `kernel` consecutive members whose mean lies closest to the centre."""
    runs = [members[start : start + kernel] for start in range(len(members) - kernel + 1)]
    off = [abs(sum(run) - kernel * centre) for run in runs]
    return [run for run, distance in zip(runs, off, strict=True) if distance == min(off)]


@settings(max_examples=100)
@given(coarse=coarse_sizes, extra=ratios_above, kernel=kernels)
def test_official_table_is_nearest_upsampling_then_a_dilated_window(coarse, extra, kernel):
    fine = coarse + extra
    dilation = fine // coarse
    table = axis_table(fine, coarse, kernel, "official").tolist()
    smallest_class = min(len(range(residue, fine, dilation)) for residue in range(dilation))
    assert len(table) == fine
    for position, row in enumerate(table):
        members = sorted(p for p in range(fine) if (p - position) % dilation == 0)
        windows = centred_windows(members, position, min(kernel, smallest_class))
        cells = [[nearest_cells(p, fine, coarse) for p in window] for window in windows]
        assert any(
            len(row) == len(window) and all(cell in allowed for cell, allowed in zip(row, window, strict=True))
            for window in cells
        ), (position, row, cells)


@settings(max_examples=100)
@given(coarse=coarse_sizes, extra=ratios_above, kernel=kernels)
def test_cell_table_is_a_window_around_the_cell_that_holds_the_pixel(coarse, extra, kernel):
    fine = coarse + extra
    table = axis_table(fine, coarse, kernel, "cell").tolist()
    assert len(table) == fine
    for position, row in enumerate(table):
        windows = [
            window
            for cell in nearest_cells(position, fine, coarse)
            if cell in range(coarse)
            for window in centred_windows(list(range(coarse)), cell, min(kernel, coarse))
        ]
        assert row in windows


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=100)
@given(coarse=coarse_sizes, ratio=st.integers(1, 9), half=st.integers(0, 5))
def test_integer_ratio_clamps_the_window_of_the_own_cell(rule, coarse, ratio, half):
    kernel = min(2 * half + 1, coarse)
    start = (torch.arange(coarse * ratio) // ratio - (kernel - 1) // 2).clamp(0, coarse - kernel)
    table = axis_table(coarse * ratio, coarse, 2 * half + 1, rule)
    assert torch.equal(table, start[:, None] + torch.arange(kernel))


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=100)
@given(coarse=coarse_sizes, extra=ratios_above, kernel=kernels)
def test_rows_ascend_and_stay_on_the_grid(rule, coarse, extra, kernel):
    table = axis_table(coarse + extra, coarse, kernel, rule)
    assert table.dtype == torch.int64
    assert table.min() >= 0
    assert table.max() < coarse
    assert (table.diff(dim=1) >= 0).all()
    assert (table.diff(dim=0) >= -1).all()  # windows of neighbors differ by residue class, never by much


def test_a_grid_smaller_than_the_kernel_is_used_whole():
    for rule in RULES:
        table = axis_table(12, 4, 9, rule)
        assert table.tolist() == [[0, 1, 2, 3]] * 12


def test_a_fractional_ratio_on_a_small_grid_repeats_cells_under_the_official_rule():
    official, cell = axis_table(15, 8, 9, "official"), axis_table(15, 8, 9, "cell")
    assert official.shape == (15, 9)  # dilation 1: nine of fifteen upsampled rows
    assert all(len(set(row)) < 9 for row in official.tolist())
    assert cell.tolist() == [list(range(8))] * 15


@settings(max_examples=100)
@given(coarse=coarse_sizes, fine=st.integers(1, 90), reach=st.sampled_from([0.05, 0.1, 0.25, 0.6, 2.0]))
def test_a_window_holds_the_cells_that_touch_the_interval_around_the_centre(coarse, fine, reach):
    table = window_table(fine, coarse, reach)
    assert table.shape[0] == fine
    for position, row in enumerate(table.tolist()):
        cells = [cell for cell in row if cell >= 0]
        low, high = max((position + 0.5) / fine - reach, 0), min((position + 0.5) / fine + reach, 1)
        # A cell belongs where its interval and the window overlap; rounding decides where they only touch.
        for cell in range(coarse):
            overlap = min((cell + 1) / coarse, high) - max(cell / coarse, low)
            assert abs(overlap) < 1e-6 or (cell in cells) == (overlap > 0)
        assert cells == list(range(cells[0], cells[-1] + 1))


def test_a_window_without_reach_is_the_whole_grid():
    neighborhood = make_window((3, 5), (7, 2), 0.0)
    assert neighborhood.rows.tolist() == [[0, 1, 2]] * 7
    assert neighborhood.cols.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_band_keeps_the_rows_asked_for_and_all_columns():
    neighborhood = make_neighborhood((5, 7), (13, 20), 3)
    band = neighborhood.band(4, 9)
    assert band.grid == (5, 7)
    assert band.output_size == (5, 20)
    assert band.kernel == neighborhood.kernel
    assert torch.equal(band.rows, neighborhood.rows[4:9])
    assert torch.equal(band.cols, neighborhood.cols)


def test_rows_and_columns_have_tables_of_their_own():
    neighborhood = make_neighborhood((3, 9), (12, 20), 5, "cell")
    assert neighborhood.kernel == (3, 5)
    assert neighborhood.output_size == (12, 20)
    assert torch.equal(neighborhood.rows, axis_table(12, 3, 5, "cell"))
    assert torch.equal(neighborhood.cols, axis_table(20, 9, 5, "cell"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 5, 3), "5 coarse, 4 output"),
        ((4, 0, 3), "0 coarse"),
        ((4, 2, 0), "kernel 0"),
        ((4, 2, 3, "own"), "'own', expected one of 'official', 'cell'"),
    ],
)
def test_impossible_tables_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        axis_table(*arguments)
