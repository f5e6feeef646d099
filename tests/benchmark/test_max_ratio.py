"""The search for the largest ratio, on a stand-in for the child process, and once on the process itself."""

import json

import pytest

from naf.benchmark import max_ratio as module
from naf.benchmark.child import Answer
from naf.benchmark.max_ratio import MaxRatio, max_ratio, search_key
from naf.benchmark.point import Point

POINT = Point("naf", channels=1, image_side=1, grid=1)


@pytest.fixture
def probed(monkeypatch):
    """Points that were probed; a call takes ratio² MiB and as many milliseconds, and fails from ratio 100 on."""
    calls = []

    def child(task, point, effort=None, *, memory_mib, **limits):
        calls.append(point)
        if point.ratio >= 100:
            return Answer({}, "RuntimeError: no", "error")
        peak = float(point.ratio**2)
        if peak > 2 * memory_mib:
            return Answer({}, "ended: it took more memory than the limit", "memory")
        return Answer({"peak_mib": peak, "time_ms": peak})

    monkeypatch.setattr(module, "run_in_child", child)
    return calls


@pytest.mark.parametrize("best", [1, 2, 3, 7, 8, 31, 72, 99])
def test_the_largest_ratio_is_found_in_few_probes(probed, best):
    found = max_ratio(POINT, best**2 + 0.5)
    assert (found.ratio, found.limited_by) == (best, "error" if best == 99 else "memory")
    assert found.point.ratio == best
    assert len(probed) <= 14
    assert len({point.ratio for point in probed}) == len(probed) == len(found.probes)
    assert all((probe.reason is None) == (probe.ratio <= best) for probe in found.probes)


def test_no_ratio_may_fit(probed):
    found = max_ratio(POINT, 0.25)
    assert (found.ratio, found.limited_by, len(found.probes)) == (None, "memory", 1)


def test_the_search_ends_at_its_ceiling(probed):
    found = max_ratio(POINT, 1e6, ceiling=12)
    assert (found.ratio, found.limited_by) == (12, "search")


def test_a_probe_that_would_take_too_long_is_not_made(probed):
    found = max_ratio(POINT, 1e6, longest=1.0)  # 1000 ms at ratio 31.6
    assert (found.ratio, found.limited_by) == (31, "time")
    assert max(point.ratio for point in probed) == 31


def test_a_method_with_ratios_of_its_own_is_asked_for_these(probed):
    found = max_ratio(Point("featup", channels=1, image_side=1, grid=1), 1e6)
    assert (found.ratio, found.limited_by) == (16, "method")
    assert {point.ratio for point in probed} <= {2, 4, 8, 16}


def test_a_setting_whose_tensors_alone_are_too_large_starts_no_process(probed):
    found = max_ratio(Point("naf", channels=1 << 20, image_side=1, grid=1), 5.0)  # 4 MiB a pixel
    assert found.ratio == 1
    assert [point.ratio for point in probed] == [1]


def test_the_image_can_follow_the_output(probed):
    found = max_ratio(Point("naf", channels=1, image_side=448, grid=2), 70.0, follows_output=True)
    assert {(point.image_side, point.side) for point in probed} == {(p.side, p.side) for p in probed}
    assert found.point.image_side == 2 * found.ratio
    other = Point("naf", channels=1, image_side=32, grid=2)
    assert found.key == search_key(other, 70.0, follows_output=True)
    assert found.key != search_key(other, 70.0, follows_output=False)


def test_a_search_survives_json(probed):
    found = max_ratio(POINT, 30.0)
    assert MaxRatio.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_real_processes_are_probed():
    point = Point("bilinear", channels=4096, image_side=16, grid=16)  # 4 ratio² MiB of output
    found = max_ratio(point, 200.0, ceiling=8)
    assert 4 <= found.ratio <= 7
    assert found.limited_by == "memory"
    assert next(probe for probe in found.probes if probe.ratio == found.ratio).peak_mib <= 200
