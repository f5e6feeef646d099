"""The quick benchmark runs and is consistent with itself; how fast it is, is not a test's business."""

import gc

import pytest
import torch

from naf.benchmark import measure, quick
from naf.benchmark.peers import _release_freed_memory


def test_ratios_follow_from_the_times():
    report = quick(side=64, grid=16, channels=8, rounds=2)
    assert report.encode_ratio == pytest.approx(report.encode_ms / report.yardstick_ms)
    assert report.attention_ratio == pytest.approx(report.attention_ms / report.yardstick_ms)
    assert report.setting["features"] == [1, 8, 16, 16]
    assert min(report.yardstick_ms, report.encode_ms, report.attention_ms, report.forward_ms) > 0
    assert min(report.spread.values()) >= 1


def test_memory_of_a_block_is_seen():
    gc.collect()  # garbage of earlier tests that went meanwhile would count against the block
    _release_freed_memory()
    with measure() as usage:
        block = torch.ones(64 << 18)  # 64 MiB
        block += 1
    assert 60 < usage.above_mib < 200
    assert usage.seconds > 0
