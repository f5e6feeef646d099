"""Interpolation tables against PyTorch's and Pillow's own resizing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from naf.ops.interpolation import axis_taps, interpolate_axis
from tests.helpers import randn

MODES = ("nearest", "bilinear", "bicubic", "lanczos")
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def resize(x, size):
    """Both axes of (B, C, h, w) by a mode's taps."""

    def by(mode):
        rows = interpolate_axis(x, axis_taps(mode, size[0], x.shape[2]), dim=2)
        return interpolate_axis(rows, axis_taps(mode, size[1], x.shape[3]), dim=3)

    return by


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@given(coarse=sizes, fine=sizes, seed=st.integers(0, 9))
def test_smooth_taps_equal_pytorch_up_and_down(mode, coarse, fine, seed):
    x = randn(1, 2, *coarse, seed=seed, dtype=torch.float64)
    expected = F.interpolate(x, size=fine, mode=mode, align_corners=False)
    torch.testing.assert_close(resize(x, fine)(mode), expected, rtol=1e-9, atol=1e-9)


@given(coarse=sizes, fine=sizes, seed=st.integers(0, 9))
def test_nearest_taps_equal_pytorch_where_no_centre_lies_between_two_cells(coarse, fine, seed):
    x = randn(1, 2, *coarse, seed=seed)
    expected = F.interpolate(x, size=fine, mode="nearest-exact")
    # On a tie rounding decides, and PyTorch's kernels disagree with each other.
    clear = [[(2 * i + 1) * c % (2 * f) != 0 for i in range(f)] for f, c in zip(fine, coarse, strict=True)]
    rows, cols = (torch.tensor(axis) for axis in clear)
    assert torch.equal(resize(x, fine)("nearest")[:, :, rows][..., cols], expected[:, :, rows][..., cols])


@given(coarse=sizes, fine=sizes, seed=st.integers(0, 9))
def test_lanczos_equals_pillow_up_and_down(coarse, fine, seed):
    x = randn(*coarse, seed=seed)
    image = Image.fromarray(x.numpy()).resize(fine[::-1], Image.Resampling.LANCZOS)
    expected = torch.from_numpy(np.array(image))
    torch.testing.assert_close(resize(x[None, None], fine)("lanczos")[0, 0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@given(fine=st.integers(1, 100), coarse=st.integers(1, 100))
def test_weights_of_each_row_sum_to_one(mode, fine, coarse):
    cells, weight = axis_taps(mode, fine, coarse)
    assert cells.shape == weight.shape
    assert len(cells) == fine
    assert cells.min() >= 0
    assert cells.max() < coarse
    torch.testing.assert_close(weight.sum(1), torch.ones(fine, dtype=torch.float64))
    if mode in ("nearest", "bilinear"):
        assert weight.min() >= 0


@pytest.mark.parametrize("mode", MODES)
def test_equal_sizes_change_nothing(mode):
    x = randn(1, 2, 6, 9, dtype=torch.float64)
    torch.testing.assert_close(resize(x, (6, 9))(mode), x)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
)
def test_half_precision_is_summed_in_float32(dtype, expected):
    x = randn(2, 3, 5, dtype=dtype)
    out = interpolate_axis(x, axis_taps("bicubic", 8, 5), dim=2)
    assert out.dtype == expected
    torch.testing.assert_close(out.double(), interpolate_axis(x.double(), axis_taps("bicubic", 8, 5), dim=2))
