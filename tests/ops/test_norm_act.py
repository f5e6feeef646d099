"""The banded encoder path against PyTorch's plain layers."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from naf.ops import norm_act
from naf.ops.norm_act import NormActConv, average, conv_stack
from tests.helpers import randn, relative_error

GROUPS, EPS = 8, 1e-5


def parameters(channels, kernel, steps, dtype=torch.float32, seed=0):
    def conv(inputs, seed):
        return randn(channels, inputs, kernel, kernel, seed=seed, dtype=dtype) / (inputs * kernel * kernel) ** 0.5

    first = conv(3, seed), randn(channels, seed=seed + 1, dtype=dtype)
    layers = [
        NormActConv(
            1 + 0.3 * randn(channels, seed=seed + i, dtype=dtype),
            0.3 * randn(channels, seed=seed + i + 1, dtype=dtype),
            conv(channels, seed + i + 2),
            randn(channels, seed=seed + i + 3, dtype=dtype),
        )
        for i in range(10, 10 + 10 * steps, 10)
    ]
    return *first, layers


def plain(image, conv_weight, conv_bias, steps, groups=GROUPS, eps=EPS):
    padding = conv_weight.shape[-1] // 2

    def conv(x, weight, bias):
        return F.conv2d(F.pad(x, (padding,) * 4, mode="reflect") if padding else x, weight, bias)

    x = conv(image[None], conv_weight, conv_bias)
    for step in steps:
        x = F.silu(F.group_norm(x, groups, step.norm_weight, step.norm_bias, eps))
        x = conv(x, step.conv_weight, step.conv_bias)
    return x[0].permute(1, 2, 0)


def banded(image, conv_weight, conv_bias, steps, groups=GROUPS, eps=EPS, size=None, pool=(1, 1)):
    bands = conv_stack(image, conv_weight, conv_bias, steps, groups=groups, eps=eps, pool=pool)
    if size is not None:
        bands = average(bands, image.shape[1], size)
    starts, pieces = zip(*bands, strict=True)
    assert list(starts) == [sum(map(len, pieces[:i])) for i in range(len(pieces))]
    return torch.cat(pieces)


@pytest.fixture(params=["one_band", "bands_of_one_row", "bands_of_three_rows"])
def band_bytes(request, monkeypatch):
    """Sets the size of a band for maps of the given width and channels."""

    def set_for(width, channels, itemsize):
        if request.param != "one_band":
            rows = 1 if request.param == "bands_of_one_row" else 3
            per_thread = rows * width * channels * itemsize // torch.get_num_threads()
            monkeypatch.setattr(norm_act, "_BAND_BYTES", max(1, per_thread))

    return set_for


@pytest.mark.parametrize("kernel", [1, 3])
@given(
    height=st.integers(2, 14), width=st.integers(2, 14), steps=st.integers(1, 3),
    channels=st.sampled_from([8, 16, 24]), seed=st.integers(0, 99),
)  # fmt: skip
def test_bands_equal_the_plain_layers(band_bytes, kernel, height, width, steps, channels, seed):
    image = randn(3, height, width, seed=seed, dtype=torch.float64)
    layers = parameters(channels, kernel, steps, dtype=torch.float64, seed=seed)
    band_bytes(width, channels, 8)
    torch.testing.assert_close(banded(image, *layers), plain(image, *layers), rtol=1e-9, atol=1e-9)


@given(
    height=st.integers(2, 14), width=st.integers(2, 14), out_height=st.integers(1, 30), out_width=st.integers(1, 30),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_a_map_of_another_size_is_averaged_as_adaptive_pooling_does(
    band_bytes, height, width, out_height, out_width, seed
):
    image = randn(3, height, width, seed=seed, dtype=torch.float64)
    layers = parameters(8, 3, 1, dtype=torch.float64, seed=seed)
    band_bytes(width, 8, 8)
    full = plain(image, *layers).permute(2, 0, 1)[None]
    expected = F.adaptive_avg_pool2d(full, (out_height, out_width))[0].permute(1, 2, 0)
    actual = banded(image, *layers, size=(out_height, out_width))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("height", range(2, 12))
def test_a_last_band_of_a_single_row_mirrors_the_row_above(monkeypatch, height, kernel):
    image, layers = randn(3, height, 5), parameters(16, kernel, 3)
    expected = plain(image, *layers)
    for rows in range(1, height + 1):
        monkeypatch.setattr(norm_act, "_band_rows", lambda height, row_bytes, rows=rows: rows)
        torch.testing.assert_close(banded(image, *layers), expected, rtol=1e-5, atol=1e-5)


def test_bands_do_shrink_with_the_limit(monkeypatch):
    assert norm_act._band_rows(64, 32 * 16 * 4) == 64
    monkeypatch.setattr(norm_act, "_BAND_BYTES", 64)
    assert norm_act._band_rows(64, 32 * 16 * 4) == 1


def test_a_1x1_stack_takes_a_single_pixel():
    image, layers = randn(3, 1, 1, dtype=torch.float64), parameters(16, 1, 2, dtype=torch.float64)
    torch.testing.assert_close(banded(image, *layers), plain(image, *layers))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("offset", [1e2, 1e4])
def test_a_mean_far_above_the_spread_costs_no_more_digits_than_group_norm(offset, kernel):
    image = randn(3, 24, 20)
    conv_weight, conv_bias, steps = parameters(16, kernel, 2)
    layers = conv_weight, conv_bias + offset, steps
    doubles = [NormActConv(*(p.double() for p in step)) for step in steps]
    truth = plain(image.double(), conv_weight.double(), (conv_bias + offset).double(), doubles)
    ours, theirs = (relative_error(f(image, *layers), truth) for f in (banded, plain))
    assert ours <= 4 * theirs + 1e-6


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_constant_map_is_normalised_without_dividing_by_zero(kernel):
    image, layers = torch.full((3, 6, 7), 0.5), parameters(16, kernel, 2)
    out = banded(image, *layers)
    assert out.isfinite().all()
    torch.testing.assert_close(out, plain(image, *layers), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel", [1, 3])
@given(
    rows=st.integers(1, 6), cols=st.integers(1, 6), pool=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_averaging_within_the_last_convolution_is_averaging_after_it(band_bytes, kernel, rows, cols, pool, seed):
    height, width = 2 * rows * pool[0], 2 * cols * pool[1]
    image = randn(3, height, width, seed=seed, dtype=torch.float64)
    layers = parameters(8, kernel, 2, dtype=torch.float64, seed=seed)
    band_bytes(width, 8, 8)
    expected = F.avg_pool2d(plain(image, *layers).permute(2, 0, 1)[None], pool)[0].permute(1, 2, 0)
    torch.testing.assert_close(banded(image, *layers, pool=pool), expected, rtol=1e-9, atol=1e-9)


def test_image_and_parameters_are_left_as_they_were():
    image, (weight, bias, steps) = randn(3, 8, 8), parameters(16, 3, 2)
    before = [x.clone() for x in (image, weight, bias, *(p for step in steps for p in step))]
    banded(image, weight, bias, steps)
    after = [image, weight, bias, *(p for step in steps for p in step)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("groups", [1, 2, 16])
def test_groups_and_eps_are_those_given(groups):
    image, layers = randn(3, 6, 6, dtype=torch.float64), parameters(16, 3, 2, dtype=torch.float64)
    actual, expected = (f(image, *layers, groups=groups, eps=0.1) for f in (banded, plain))
    torch.testing.assert_close(actual, expected)
