"""The denoiser's benchmark runs and is consistent with itself; how fast anything is, is not a test's business."""

import pytest

from naf.benchmark import denoise


def test_every_part_is_timed_and_the_setting_is_told():
    report = denoise.denoise(side=24, dim=16, kernel=5, rounds=2)
    times = {name: value for name, value in report.as_dict().items() if name.endswith("_ms")}
    assert min(times.values()) > 0
    assert set(report.spread) == {name.removesuffix("_ms") for name in times}
    assert min(report.spread.values()) >= 1
    assert report.setting["image"] == [24, 24]
    assert (report.setting["dim"], report.setting["kernel"]) == (16, 5)


def test_memory_of_a_call_is_that_of_its_image():
    queries = 64 * 512**2 * 4 / 2**20
    assert queries <= denoise._peak_in_child(512, 64, 3) < 8 * queries


def test_a_process_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(denoise, "_CODE", "raise ValueError('dim is 20, expected a multiple of 16')")
    with pytest.raises(RuntimeError, match=r"measures memory ended with ValueError: dim is 20, expected a multiple"):
        denoise._peak_in_child(32, 20, 3)
