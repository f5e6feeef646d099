"""Tiles against the tables they were made from."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from naf.ops.neighborhood import make_neighborhood
from naf.ops.tiling import plan_tiles

axes = st.tuples(st.integers(1, 20), st.integers(0, 70))
sizes = st.tuples(axes, axes)


def plan(size, kernel, rule):
    (h, more_rows), (w, more_cols) = size
    neighborhood = make_neighborhood((h, w), (h + more_rows, w + more_cols), kernel, rule)
    tables = (neighborhood.rows, neighborhood.cols)
    return list(zip(plan_tiles(neighborhood), tables, neighborhood.grid, strict=True))


@pytest.mark.parametrize("rule", ["official", "cell"])
@settings(max_examples=40)
@given(size=sizes, kernel=st.integers(1, 9))
def test_tiles_cover_every_position_once(rule, size, kernel):
    for tiles, table, _ in plan(size, kernel, rule):
        assert tiles.bounds[0] == 0
        assert tiles.bounds[-1] == len(table)
        covered = []
        for index, (first, last) in enumerate(zip(tiles.bounds, tiles.bounds[1:], strict=False)):
            own = tiles.queries[index].tolist()
            assert own[: last - first] == list(range(first, last))
            assert set(own[last - first :]) <= {last - 1}
            covered += own[: last - first]
        assert covered == list(range(len(table)))


@pytest.mark.parametrize("rule", ["official", "cell"])
@settings(max_examples=40)
@given(size=sizes, kernel=st.integers(1, 9))
def test_tiles_hold_the_cells_of_the_table_as_often_as_it_does(rule, size, kernel):
    for tiles, table, coarse in plan(size, kernel, rule):
        for index, (first, last) in enumerate(zip(tiles.bounds, tiles.bounds[1:], strict=False)):
            keys = tiles.keys[index]
            for slot, position in enumerate(range(first, last)):
                times = torch.ones(len(keys)) if tiles.log_count is None else tiles.log_count[index, slot].exp()
                held = torch.bincount(keys, weights=times.double(), minlength=coarse)
                wanted = torch.bincount(table[position], minlength=coarse).double()
                torch.testing.assert_close(held, wanted)


@settings(max_examples=40)
@given(size=sizes, first=st.integers(0, 5), count=st.integers(1, 5))
def test_position_index_finds_each_position_among_the_padded_ones(size, first, count):
    for tiles, _, _ in plan(size, 5, "official"):
        first = min(first, len(tiles.keys) - 1)
        last = min(first + count, len(tiles.keys))
        found = tiles.queries[first:last].flatten()[tiles.position_index(first, last)]
        assert found.tolist() == list(range(tiles.bounds[first], tiles.bounds[last]))
