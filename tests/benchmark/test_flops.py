"""The count of floating-point operations."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import naf
from naf.benchmark.flops import count_flops
from naf.benchmark.point import Point, make_inputs
from naf.benchmark.published import published
from naf.benchmark.yardsticks import Rates, bare_convolutions, measure_rates
from naf.ops import make_neighborhood
from tests.helpers import randn

CPU = torch.device("cpu")


def flops(name, ratio=4, channels=16, image_side=None, grid=12):
    point = Point(name, ratio=ratio, channels=channels, image_side=image_side or ratio * grid, grid=grid)
    return count_flops(*make_inputs(point), point.size)


@pytest.mark.parametrize("ratio", [2, 4, 8, 16])
@pytest.mark.parametrize("channels", [128, 384])
def test_naf_has_the_published_count_at_every_ratio_and_width(ratio, channels):
    figure = published("ratio", Point("naf", ratio=ratio)).gflops
    assert flops("naf", ratio, channels, image_side=448, grid=28).paper / 1e9 == pytest.approx(figure, abs=0.005)


def test_torchs_counter_sees_the_same_convolutions_where_the_plain_layers_run():
    upsampler = naf.create("naf", weights=None)
    image, features = randn(1, 3, 32, 32), randn(1, 16, 8, 8)
    with FlopCounterMode(display=False) as counter:  # with gradients: plain layers
        guidance = upsampler.encode(image, (32, 32), (8, 8))
    assert guidance.queries.requires_grad
    biases = 2 * 10 * 128 * 32**2  # ten convolutions of 128 channels
    assert count_flops(upsampler, image, features, (32, 32)).paper == counter.get_total_flops() + biases


def test_torchs_counter_sees_the_same_attention_in_the_reference():
    upsampler = naf.create("naf", weights=None, backend="reference")
    image, features = randn(1, 3, 40, 40), randn(1, 16, 10, 10)
    guidance = upsampler.encode(image, (40, 40), (10, 10))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        guidance.upsample(features)
    counted = count_flops(upsampler, image, features, (40, 40))
    assert counted.full - counted.paper == counter.get_total_flops() == 2 * 40**2 * 81 * (256 + 16)


def test_the_image_counts_as_it_is_only_in_the_full_figure():
    small, large = flops("naf", 2, image_side=24), flops("naf", 2, image_side=96)
    assert small.paper == large.paper
    encoder = small.paper
    assert large.full - small.full == (16 - 1) * encoder  # 96 pixels a side for an output of 24


def test_jafar_attends_to_the_whole_grid_and_anyup_to_windows():
    pixels, cells = 48**2, 144
    jafar, anyup = flops("jafar"), flops("anyup")
    assert jafar.full - jafar.paper == 2 * pixels * cells * (128 + 16)
    assert 0 < anyup.full - anyup.paper < 2 * pixels * cells * (128 + 16)


def test_a_window_cut_off_by_the_border_counts_its_cells_only():
    kernel = make_neighborhood((6, 6), (12, 12), 9).kernel
    assert kernel == (6, 6)
    counted = flops("naf", 2, grid=6)
    assert counted.full - counted.paper == 2 * 12**2 * 36 * (256 + 16)


@pytest.mark.parametrize("name", ["featup", "jbu", "guided", "lift"])
def test_other_methods_are_counted_as_they_compute(name):
    few, many = flops(name, 2), flops(name, 4)
    assert 0 < few.full < many.full
    assert few.paper == few.full


def test_interpolation_has_no_products():
    assert flops("bilinear") == (0, 0)


def test_the_yardstick_is_eight_convolutions():
    with FlopCounterMode(display=False) as counter:
        bare_convolutions(16, CPU, torch.float32)()
    assert counter.get_total_flops() == 2 * 16**2 * (4 * 1 + 4 * 9) * 128**2


def test_the_floor_is_the_longer_of_traffic_and_arithmetic():
    rates = Rates("float32", copy_gb_s=10.0, product_gflop_s=100.0, convolution_gflop_s=200.0)
    assert rates.floor_ms(400e9, 1e9) == pytest.approx(2000)  # at the faster of the two rates
    assert rates.floor_ms(4e9, 10e9) == pytest.approx(1000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ceilings_are_measured_in_the_dtype(dtype):
    rates = measure_rates(CPU, dtype, is_small=True)
    assert rates.dtype == str(dtype).removeprefix("torch.")
    assert min(rates.copy_gb_s, rates.product_gflop_s, rates.convolution_gflop_s) > 0
