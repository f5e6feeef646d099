"""`naf bench` as a user runs it."""

import json
import re

import pytest
from typer.testing import CliRunner

from naf.cli import app, bench_sweep

SWEEP = ["bench", "sweep", "ratio", "-u", "bilinear", "--ratios", "2", "--grid", "4", "--image-side", "32"]


def run(*arguments, status=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.stdout


def test_a_sweep_writes_its_files_and_is_not_repeated(tmp_path):
    stdout = run(*SWEEP, "-o", tmp_path)
    names = ["sweep.json", "sweep.md", "sweep_ratio.png", "sweep_ratio.svg"]
    assert re.findall(r"wrote (\S+)", stdout) == [str(tmp_path / name) for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    first = (tmp_path / "sweep.json").read_text()
    record = json.loads(first, parse_constant=pytest.fail)
    assert [result["point"]["ratio"] for result in record["results"]] == [2]
    assert record["machine"]["torch"]
    run(*SWEEP, "-o", tmp_path, "--no-plots")
    assert (tmp_path / "sweep.json").read_text() == first


def test_ctrl_c_ends_a_sweep_with_what_is_done(monkeypatch, tmp_path):
    def sweep(lines, record, effort, *, memory_mib, on_point):
        record.add(bench_sweep.Result(lines[0][0], failure="killed"))
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_sweep, "sweep", sweep)
    stdout = run(*SWEEP, "-o", tmp_path, status=130)
    assert "the same command goes on" in stdout
    assert "bilinear at ratio 2: killed" in (tmp_path / "sweep.md").read_text()


def test_the_largest_ratio_is_searched_once(monkeypatch, tmp_path):
    options = [
        "-u",
        "bilinear",
        "--budget",
        "0.1",
        "--channels",
        "64",
        "--grid",
        "16",
        "--ceiling",
        "2",
        "-o",
        tmp_path,
    ]
    stdout = run("bench", "max-ratio", *options)
    assert str(tmp_path / "max_ratio.png") in stdout
    assert re.search(r"^\| bilinear +\| +2 \| +32 x 32 ", (tmp_path / "max_ratio.md").read_text(), re.MULTILINE)
    monkeypatch.setattr(bench_sweep, "max_ratio", None)
    run("bench", "max-ratio", *options, "--no-plots")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "width"], "axis is 'width', expected ratio, channels, size"),
        (["sweep", "--ratios", "2;4"], "--ratios is '2;4'"),
        (["sweep", "--sizes", "100"], "multiples of 16"),
        (["sweep", "-u", "large-image"], "needs a backbone"),
        (["sweep", "--dtype", "int8"], "--dtype is 'int8'"),
        (["max-ratio"], "--budget is missing"),
        (["max-ratio", "--budget", "1000000"], "are free"),
        (["pixels", "--sides", "448"], "at least two"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)
    assert not list(tmp_path.rglob("*.json"))


def test_quick_tells_ratios_targets_and_the_head(monkeypatch, tmp_path):
    from naf.benchmark import quick
    from naf.cli import bench

    monkeypatch.setattr(bench, "measure_quick", lambda **given: quick(side=64, grid=16, channels=8, **given))
    stdout = run("bench", "quick", "--rounds", "1", "--dtype", "bfloat16", "--json", tmp_path / "quick.json")
    report = json.loads((tmp_path / "quick.json").read_text(), parse_constant=pytest.fail)
    assert report["setting"]["dtype"] == "bfloat16"
    assert f"{report['forward_ratio']:.2f}x  (aim: at most 1.7x)" in stdout
    assert f"{report['head_ratio']:.2f}x the 84 channels" in stdout


def test_denoise_tells_both_backends_and_memory(monkeypatch, tmp_path):
    from naf.benchmark import denoise

    monkeypatch.setattr(denoise, "TRAINING_SIDE", 8)
    sizes = ["--size", "16", "--dim", "16", "--kernel", "3"]
    stdout = run("bench", "denoise", *sizes, "--rounds", "1", "--json", tmp_path / "denoise.json")
    report = json.loads((tmp_path / "denoise.json").read_text(), parse_constant=pytest.fail)
    assert f"({report['blocked_ms'] / report['window_ms']:.2f}x the window's time)" in stdout
    assert f"{report['forward_ms'] / report['yardstick_ms']:.2f}x" in stdout
    assert f"{report['peak_mib']:.0f} MiB\n" in stdout  # no aim at other sizes


def test_pixels_tells_the_cost_at_each_side(tmp_path):
    stdout = run("bench", "pixels", "--sides", "32,64", "--json", tmp_path / "pixels.json")
    report = json.loads((tmp_path / "pixels.json").read_text())
    assert report["sides"] == [32, 64]
    assert f"largest over smallest cost of a pixel: {report['ratio']:.2f}" in stdout
