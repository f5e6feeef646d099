"""Sweeps: which points, what is kept, what is measured again."""

import json
from dataclasses import replace

import pytest

from naf.benchmark import sweep as module
from naf.benchmark.child import Answer, run_in_child
from naf.benchmark.point import Effort, Point, measure_point
from naf.benchmark.results import Measurement, Record, Result, write_atomically
from naf.benchmark.sweep import along, sweep, sweepable
from naf.registry import entry

BASE = Point("bilinear", ratio=2, channels=8, image_side=32, grid=4)
EFFORT = Effort(rounds=2, seconds=0.1)
MACHINE = {"device": "a machine", "threads": 2, "torch": "2.15"}


def measurement(time_ms):
    return {"time_ms": time_ms, "spread": 1.0, "rounds": 1, "warm_up_only": False, "above_mib": 1.0, "peak_mib": 2.0}


class Calls(list):
    """Points, and what to answer to some ratios."""

    def __init__(self):
        super().__init__()
        self.answers = {}


@pytest.fixture
def record(tmp_path):
    return Record(tmp_path / "sweep.json", Result.from_dict, MACHINE, {})


@pytest.fixture
def measured(monkeypatch):
    """Points that a child was started for; each takes a second a unit of ratio, unless `answers` say otherwise."""
    calls = Calls()

    def child(task, point, effort=None, **limits):
        calls.append(point)
        values = {"parameters": 0, "forward": measurement(1e3 * point.ratio), "training": measurement(3e3)}
        return calls.answers.get(point.ratio, Answer(values))

    monkeypatch.setattr(module, "run_in_child", child)
    return calls


def test_a_ratio_sweep_keeps_the_image_and_a_size_sweep_the_stride():
    by_ratio = along("ratio", (16, 2), Point("naf"))
    assert [(p.side, p.image_side, p.grid) for p in by_ratio] == [(56, 448, 28), (448, 448, 28)]
    by_size = along("size", (224, 896), Point("naf"))
    assert [(p.side, p.image_side, p.grid) for p in by_size] == [(224, 224, 14), (896, 896, 56)]
    assert [p.channels for p in along("channels", (4096, 128, 128), Point("naf"))] == [128, 4096]


@pytest.mark.parametrize(
    ("axis", "values", "message"),
    [("ratio", (), "ratio values"), ("channels", (0, 8), "channels values"), ("size", (100,), "multiples of 16")],
)
def test_bad_values_are_refused(axis, values, message):
    with pytest.raises(ValueError, match=message):
        along(axis, values, BASE)


def test_all_are_swept_that_need_neither_backbone_nor_fit():
    names = sweepable()
    assert {"naf", "jafar", "anyup", "bilinear"} <= set(names)
    assert not {"large-image", "featup-implicit", "featsharp"} & set(names)
    with pytest.raises(ValueError, match="'large-image' needs a backbone"):
        sweepable(["naf", "large-image"])
    with pytest.raises(ValueError, match="did you mean 'naf'"):
        sweepable(["nag"])


def test_what_is_known_is_not_measured_again(record, measured):
    line = along("ratio", (1, 2), BASE)
    sweep([line, line[1:]], record, EFFORT)
    assert measured == line
    again = Record(record.path, Result.from_dict, MACHINE, {})
    assert again.results == record.results
    sweep([along("ratio", (1, 2, 3), BASE)], again, EFFORT)
    assert [point.ratio for point in measured] == [1, 2, 3]
    sweep([line], again, replace(EFFORT, trains=False))
    assert len(measured) == 3


def test_what_failed_is_kept_with_what_was_known_and_tried_again(record, measured):
    measured.answers[2] = Answer({"parameters": 7, "forward": measurement(5.0)}, "killed", "memory")
    line = along("ratio", (1, 2, 3), BASE)
    sweep([line], record, EFFORT)
    assert [point.ratio for point in measured] == [1, 2, 3]
    failed = record.results[line[1]]
    assert (failed.parameters, failed.forward.time_ms, failed.failure) == (7, 5.0, "killed")
    del measured.answers[2]
    sweep([line], record, EFFORT)
    assert [point.ratio for point in measured] == [1, 2, 3, 2]
    assert not record.results[line[1]].failure


def test_a_point_that_would_take_too_long_is_left_out_until_more_time_is_allowed(record, measured):
    line = along("ratio", (1, 2, 4), BASE)  # 1, 2 and an expected 8 seconds
    sweep([line], record, replace(EFFORT, longest=5.0))
    assert [point.ratio for point in measured] == [1, 2]
    assert "over 5 s" in record.results[line[2]].left_out
    sweep([line], record, replace(EFFORT, longest=5.0))
    assert len(measured) == 2
    sweep([line], record, replace(EFFORT, longest=10.0))
    assert [point.ratio for point in measured] == [1, 2, 4]
    assert not record.results[line[2]].left_out


def test_an_interruption_keeps_what_is_done(record, measured):
    def interrupt(point, done, total):
        if done == 1:
            raise KeyboardInterrupt

    line = along("ratio", (1, 2), BASE)
    with pytest.raises(KeyboardInterrupt):
        sweep([line], record, EFFORT, on_point=interrupt)
    again = Record(record.path, Result.from_dict, MACHINE, {})
    assert list(again.results) == line[:1]


def test_results_of_two_machines_do_not_mix(record, measured):
    sweep([[BASE]], record, EFFORT)
    with pytest.raises(ValueError, match="threads 2 there, 4 here"):
        Record(record.path, Result.from_dict, {**MACHINE, "threads": 4}, {})


@pytest.mark.parametrize("text", ["", "{}", '{"results": [1], "machine": {}}', '{"results": [{"point": {"x": 1}}]}'])
def test_another_file_is_refused_and_left_alone(tmp_path, text):
    path = tmp_path / "sweep.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no record"):
        Record(path, Result.from_dict, MACHINE, {})
    assert path.read_text() == text


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_derived_values_are_in_the_json_and_survive_the_way_back():
    forward = Measurement(**measurement(20.0))
    result = Result(BASE, forward=forward, floor_ms=4.0)
    values = json.loads(json.dumps(result.as_dict()))
    assert (values["forward_to_floor"], values["fps"]) == (5.0, 50.0)
    assert Result.from_dict(values) == result


def test_a_child_measures_a_point_and_everything_follows():
    point = Point("naf", ratio=4, channels=8, image_side=48, grid=12)
    answer = run_in_child("point", point, EFFORT)
    assert not answer.failure
    result = Result.from_dict({"point": point.as_dict(), **answer.values})
    assert result.parameters == entry("naf").parameters
    assert result.gflops_paper == pytest.approx(2 * 48**2 * (659_200 + 1280) / 1e9)
    assert result.forward.time_ms > 0
    assert result.training.time_ms > 0
    assert result.forward_to_floor > 0
    assert result.forward_to_bare > 0
    assert result.forward.peak_mib - result.forward.above_mib > 4 * 662_528 / 2**20  # weights and inputs
    assert result.rates["dtype"] == "float32"


def test_training_is_left_out_where_it_would_take_too_long():
    parts = list(measure_point(BASE, Effort(rounds=1, longest=0.0)))
    assert parts[-1] == {"left_out": "training: expected to take over 0 s", "left_out_above_s": 0.0}
    assert any("forward" in part for part in parts)
    assert not any("training" in part for part in parts)


def test_the_memory_of_a_child_is_limited():
    point = Point("bilinear", ratio=64, channels=64, grid=16)  # 256 MiB of output
    assert run_in_child("peak", point).values["peak_mib"] > 256
    answer = run_in_child("peak", point, memory_mib=100.0)
    # The child may be done before it is looked at: then it says what it took.
    assert answer.reason == "memory" or answer.values["peak_mib"] > 256


def test_a_child_that_takes_too_long_is_ended():
    answer = run_in_child("peak", Point("bilinear", ratio=64, channels=64, grid=16), timeout_s=0.0)
    assert (answer.reason, answer.failure) == ("time", "ended: it took too long")


def test_what_goes_wrong_in_a_child_is_told_in_a_line():
    answer = run_in_child("point", replace(BASE, upsampler="loftup", channels=5), EFFORT)
    assert answer.reason == "error"
    assert answer.failure.startswith("ValueError: num_heads is 4")
    crashed = run_in_child("point", replace(BASE, dtype="float31"), EFFORT)
    assert crashed.reason == "error"
    assert crashed.failure.startswith("the process ended with AttributeError")
