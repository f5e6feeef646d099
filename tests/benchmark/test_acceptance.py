"""The acceptance run of a GPU, at toy sizes on the CPU: its steps, its bars, its exit status."""

import importlib.util
import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from naf.benchmark import acceptance, agreement
from naf.benchmark.acceptance import BARS, SMALL, run
from naf.benchmark.acceptance_report import Bar, Line, to_markdown
from naf.benchmark.agreement import Case, check_case, sample_cases
from naf.benchmark.network_agreement import NETWORK_TOLERANCE, encode_error, gradient_error, output_error
from naf.benchmark.yardsticks import Rates
from naf.upsamplers.naf import NAF

CPU = torch.device("cpu")
RATES = Rates("float32", copy_gb_s=1.0, product_gflop_s=1.0, convolution_gflop_s=1.0)
SMALL_CASE = Case((5, 4), (10, 13), 3, "official", 2, 8, 8, 1, "float32")


@pytest.fixture(scope="module")
def report():
    return run(SMALL)


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
    spec = importlib.util.spec_from_file_location("gpu_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_everything_that_is_asked_for_is_measured(report):
    names = [line.name for line in report.lines]
    for dtype in ("bfloat16", "float32"):
        wanted = ["forward", "training step", "encode", "attention", "eight bare convolutions"]
        assert all(any(name.startswith(f"{part} {dtype}") for name in names) for part in wanted)
        assert f"forward x12 (48 x 48) {dtype}" in names
    assert not [line.note for line in report.lines if line.note]
    assert all(line.time_ms > 0 for line in report.lines)
    assert all(line.floor_ms > 0 for line in report.lines if "bare" not in line.name)
    assert [rates.dtype for rates in report.rates] == ["bfloat16", "float32"]


def test_the_blocked_backend_agrees(report):
    assert len(report.agreement) == SMALL.cases
    assert all(it.excess <= 1 for it in report.agreement)
    assert set(report.agreement[0].errors) == {"output", "gradient of q", "gradient of k", "gradient of v"}


def test_bars_are_about_the_fastest_mode():
    lines = [Line(f"{name} {mode}", ms, 1.0, 100.0) for name in BARS for mode, ms in (("eager", 3.0), ("graph", 2.0))]
    lines += [
        Line("forward bfloat16 torch.compile", note="RuntimeError: not captured"),
        Line("forward x72 (2016 x 2016)", 9.0),
    ]
    agreements = [check_case(SMALL_CASE, "blocked", CPU)]
    bars = acceptance._bars(agreements, lines)
    assert [bar.name for bar in bars[1:3]] == ["forward bfloat16 graph"] * 2
    assert [bar.value for bar in bars[1:]] == [2.0, 100.0, 2.0, 100.0, 0]
    assert all(bar.passes for bar in bars)
    failed = acceptance._bars(agreements, [*lines[:-1], replace(lines[-1], time_ms=None)])
    assert [bar.passes for bar in failed] == [True] * 5 + [False]


def test_one_mode_must_meet_both_bars():
    found = {"eager": (2.4, 300.0), "graph": (1.0, 600.0), "torch.compile": (None, None)}
    lines = [Line(f"{name} {mode}", ms, 1.0, mb) for name in BARS for mode, (ms, mb) in found.items()]
    lines = [line for line in lines if "training" not in line.name or "graph" in line.name]
    lines.append(Line("forward x72 (2016 x 2016)", 9.0))
    bars = acceptance._bars([check_case(SMALL_CASE, "blocked", CPU)], lines)
    assert [(bar.name, bar.value) for bar in bars[1:3]] == [
        ("forward bfloat16 eager", 2.4),
        ("forward bfloat16 eager", 300.0),
    ]


def test_the_whole_network_is_held_against_float64(report):
    checks = {"queries and keys", "gradients", "output eager"}
    bars = {bar.name: bar for bar in report.bars}
    for dtype in ("bfloat16", "float32"):
        assert all(bars[f"error of {check} {dtype} over its tolerance"].passes for check in checks)


@pytest.mark.parametrize("fault", [1.1, math.nan])
@pytest.mark.parametrize("dtype", NETWORK_TOLERANCE)
def test_a_wrong_network_is_seen(monkeypatch, fault, dtype):
    right = NAF._encode

    def wrong(self, *args):
        guidance = right(self, *args)
        if next(self.parameters()).dtype != torch.float64:
            guidance.keys = guidance.keys * fault
        return guidance

    monkeypatch.setattr(NAF, "_encode", wrong)
    point = replace(SMALL.point, dtype=dtype)
    assert encode_error(point) > 1
    assert gradient_error(point) > 1


@pytest.mark.parametrize("fault", ["wrong", "stale"])
def test_a_wrong_mode_is_seen(fault):
    def in_mode(upsampler):
        made = []

        def call(*inputs):
            made.append(upsampler(*inputs))
            return made[-1] * 1.01 if fault == "wrong" else made[0]

        return call

    assert output_error(replace(SMALL.point, dtype="float32"), in_mode) > 1


def test_a_bar_is_met_at_its_limit_and_not_without_a_value():
    assert Bar("a", 2.5, 2.5, "ms").passes
    assert not Bar("a", 2.51, 2.5, "ms").passes
    assert not Bar("a", None, 2.5, "ms").passes


def test_a_mode_that_cannot_run_is_a_note_and_the_rest_goes_on(monkeypatch):
    def in_mode(upsampler, mode):
        raise RuntimeError("no such mode\nmore")

    monkeypatch.setattr(acceptance, "_in_mode", in_mode)
    found = run(replace(SMALL, cases=1, rounds=1))
    forward = [line for line in found.lines if line.name == "forward float32 eager"]
    assert [(line.time_ms, line.note) for line in forward] == [(None, "RuntimeError: no such mode")]
    assert not found.passes
    assert "| FAIL |" in to_markdown(found)
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_mode_that_fell_back_with_a_warning_does_not_count(monkeypatch):
    def in_mode(upsampler, mode):
        logging.getLogger("naf.compilation").warning("No CUDA graph: it runs as before")
        return upsampler

    monkeypatch.setattr(acceptance, "_in_mode", in_mode)
    (line,) = acceptance._forward(SMALL.point, SMALL, RATES, lambda _: None)
    assert (line.time_ms, line.note) == (None, "No CUDA graph: it runs as before")


def test_naf_compile_is_one_of_the_modes():
    lines = list(acceptance._forward(SMALL.point, replace(SMALL, modes=("graph",)), RATES, lambda _: None))
    assert [(line.name, line.note) for line in lines] == [("forward float32 graph", "")]


def test_the_sample_covers_what_must_agree():
    cases = sample_cases(60)
    assert cases == sample_cases(60)
    assert {case.dtype for case in cases} == {"float32", "bfloat16", "float16"}
    assert {case.kernel for case in cases} == set(range(3, 16, 2))
    assert {case.batch for case in cases} == {1, 2, 3}
    assert {case.rule for case in cases} == {"official", "cell"}
    assert {1, 8} <= {case.heads for case in cases}
    assert {8, 192} <= {case.key_dim for case in cases} & {case.value_dim for case in cases}
    integer = [not any(o % g for o, g in zip(case.output_size, case.grid, strict=True)) for case in cases]
    assert 20 < sum(integer) < 40
    assert any(case.output_size[0] % 2 and case.output_size[1] % 2 for case in cases)


@pytest.mark.parametrize(("fault", "name"), [("value", "output"), ("gradient", "gradient of k")])
def test_a_wrong_backend_is_seen(monkeypatch, fault, name):
    right = agreement.neighborhood_attention

    def wrong(q, k, v, neighborhood, *, scale, backend):
        if backend == "reference":
            return right(q, k, v, neighborhood, scale=scale, backend=backend)
        if fault == "gradient":
            k = k + 0.01 * (k - k.detach())
        out = right(q, k, v, neighborhood, scale=scale, backend=backend)
        return out * 1.001 if fault == "value" else out

    monkeypatch.setattr(agreement, "neighborhood_attention", wrong)
    found = check_case(SMALL_CASE, "blocked", CPU)
    assert found.errors[name] > 5e-4
    assert found.excess > 1


@pytest.mark.parametrize("value", [float("nan"), None])
def test_a_backend_that_fails_is_told(monkeypatch, value):
    right = agreement.neighborhood_attention

    def broken(q, k, v, neighborhood, *, scale, backend):
        if value is None:
            raise RuntimeError("out of registers\nat line 7")
        return right(q, k, v, neighborhood, scale=scale, backend=backend) * value

    monkeypatch.setattr(agreement, "neighborhood_attention", broken)
    found = check_case(SMALL_CASE, "blocked", CPU)
    assert found.failure == ("RuntimeError: out of registers" if value is None else "output is not finite")
    assert found.excess == float("inf")


@pytest.mark.parametrize("limit", [0.0, 1e9])
def test_the_script_writes_its_report_and_ends_with_its_verdict(monkeypatch, tmp_path, script, report, limit, capsys):
    bars = tuple(replace(bar, limit=limit) for bar in report.bars)
    monkeypatch.setattr(script, "run", lambda plan, on_step: replace(report, bars=bars))
    monkeypatch.setattr("sys.argv", ["gpu.py", "--device", "cpu", "--small", "--output", str(tmp_path / "out")])
    assert script.main() == (1 if limit == 0 else 0)
    assert (tmp_path / "out" / "gpu.md").read_text() in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "gpu.json").read_text(), parse_constant=pytest.fail)
    assert record["passes"] == (limit > 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_script_says_that_there_is_no_cuda_device(monkeypatch, script, capsys):
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    assert script.main() == 2
    assert "no CUDA device" in capsys.readouterr().err
