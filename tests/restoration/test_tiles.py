"""Tiles cover an image once, whatever their size, and padding adds as little as it can."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from naf.restoration.tiles import padded, restore_in_tiles
from tests.helpers import randn


@given(
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    side=st.integers(0, 60),
    reach=st.integers(0, 6),
    multiple=st.sampled_from([1, 2, 8]),
)
def test_tiles_give_what_the_whole_image_gives(size, side, reach, multiple):
    image = randn(1, 2, *size, dtype=torch.float64)
    kernel = randn(2, 1, 2 * reach + 1, 2 * reach + 1, seed=1, dtype=torch.float64)
    sizes = []

    def blur(x):
        sizes.append(x.shape[2:])
        assert x.shape[2] % multiple == x.shape[3] % multiple == 0
        position = torch.arange(x.shape[2])[:, None] % multiple + torch.arange(x.shape[3]) % multiple  # as strides see
        return F.conv2d(x, kernel, padding=reach, groups=2) + position

    shares = []
    made = restore_in_tiles(blur, image, side, reach, multiple, 1, shares.append)
    tiles = list(sizes)
    expected = blur(padded(image, multiple))[:, :, : size[0], : size[1]]
    torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-12)
    assert len(shares) == len(tiles)
    assert shares[-1] == 1
    assert max(max(tile) for tile in tiles) <= max(side, 4 * (reach + multiple - 1), multiple)


def test_too_small_an_overlap_shows():
    image, kernel = randn(1, 1, 40, 40), randn(1, 1, 7, 7, seed=1)

    def error(overlap):
        made = restore_in_tiles(lambda x: F.conv2d(x, kernel, padding=3), image, 16, overlap, 1, 1, lambda _: None)
        return (made - F.conv2d(image, kernel, padding=3)).abs().max()

    assert error(3) < 1e-4
    assert error(2) > 0.1


@pytest.mark.parametrize(
    ("row", "multiple", "smallest", "expected"),
    [
        ([1, 2, 3, 4], 4, 1, [1, 2, 3, 4]),
        ([1, 2, 3, 4, 5, 6], 4, 1, [1, 2, 3, 4, 5, 6, 5, 4]),
        ([1, 2, 3], 8, 1, [1, 2, 3, 3, 3, 3, 3, 3]),  # too short to be reflected
        ([1], 1, 2, [1, 1]),
        ([1, 2, 3], 2, 5, [1, 2, 3, 3, 3, 3]),
    ],
)
def test_rows_and_columns_are_reflected_or_repeated(row, multiple, smallest, expected):
    line = torch.tensor(row, dtype=torch.float32)
    across = padded(line.expand(1, 1, 8 * len(row), -1), multiple, smallest)
    assert across[0, 0, 0].tolist() == expected
    down = padded(line[:, None].expand(1, 1, -1, 8 * len(row)), multiple, smallest)
    assert down[0, 0, :, 0].tolist() == expected
