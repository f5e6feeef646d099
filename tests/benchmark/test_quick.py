"""The quick benchmarks run and are consistent with themselves; how fast anything is, is not a test's business."""

import gc

import pytest
import torch

from naf.benchmark import measure, pixel_cost, quick


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ratios_follow_from_the_times(dtype):
    report = quick(side=64, grid=16, channels=8, rounds=2, dtype=dtype)
    assert report.encode_ratio == pytest.approx(report.encode_ms / report.yardstick_ms)
    assert report.attention_ratio == pytest.approx(report.attention_ms / report.yardstick_ms)
    assert report.forward_ratio == pytest.approx(report.forward_ms / report.yardstick_ms)
    assert report.head_ratio == pytest.approx(report.head_ms / report.narrow_ms)
    assert report.setting["features"] == [1, 8, 16, 16]
    assert report.setting["dtype"] == str(dtype).removeprefix("torch.")
    assert min(report.yardstick_ms, report.encode_ms, report.attention_ms, report.forward_ms, report.head_ms) > 0
    assert min(report.spread.values()) >= 1


def test_the_output_is_no_part_of_the_memory_above_it():
    report = quick(side=128, grid=8, channels=768, rounds=1)
    output = 768 * 128**2 * 4 / 2**20
    assert report.peak_mib >= output
    assert report.above_output_mib == pytest.approx(report.peak_mib - output)


def test_cost_of_a_pixel_follows_from_the_times():
    report = pixel_cost((32, 96), channels=8, rounds=1)
    assert report.nanoseconds == pytest.approx(
        [1e6 * t / s**2 for t, s in zip(report.forward_ms, (32, 96), strict=True)]
    )
    assert report.ratio == pytest.approx(max(report.nanoseconds) / min(report.nanoseconds))
    assert report.bytes_per_pixel[1] == pytest.approx(report.peak_mib[1] * 2**20 / 96**2)


@pytest.mark.parametrize("sides", [(64,), (64, 64), (64, 100)])
def test_sides_for_the_cost_of_a_pixel_are_checked(sides):
    with pytest.raises(ValueError, match="multiples of 16"):
        pixel_cost(sides)


def test_memory_of_a_block_is_seen():
    gc.collect()  # garbage of earlier tests that went meanwhile would count against the block
    with measure() as usage:
        block = torch.ones(64 << 18)  # 64 MiB
        block += 1
    assert 60 < usage.above_mib < 200
    assert usage.seconds > 0


def test_memory_that_was_freed_before_counts_as_new():
    blocks = [torch.ones(1 << 16) for _ in range(256)]  # small enough for the heap
    blocks.clear()
    gc.collect()
    with measure() as usage:
        blocks += [torch.ones(1 << 16) for _ in range(256)]  # 64 MiB
    assert usage.above_mib > 56
