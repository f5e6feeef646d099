"""Tables and plots of results that are made up."""

import re

import pytest
from PIL import Image

from naf.benchmark.max_ratio import MaxRatio, Probe
from naf.benchmark.plots import plot_max_ratio, plot_sweep
from naf.benchmark.point import Point
from naf.benchmark.published import published, published_max_ratio
from naf.benchmark.report import markdown, max_ratio_table, number, sweep_tables
from naf.benchmark.results import Measurement, Result

MACHINE = {"device": "some machine", "threads": 2, "torch": "2.15"}


def result(name, ratio, time_ms, *, training=True, warm_up_only=False, **more):
    forward = Measurement(time_ms, 1.1, 3, warm_up_only, 90.0, 100.0)
    trained = Measurement(4 * time_ms, 1.1, 1, True, 900.0, 1000.0) if training else None
    return Result(Point(name, ratio=ratio), 662_528, 265.12, 285.93, forward, trained, time_ms / 2, **more)


RESULTS = [
    result("naf", 8, 400.0, bare_ms=300.0, forward_to_bare=1.33),
    result("naf", 16, 900.0, bare_ms=600.0, forward_to_bare=1.5, warm_up_only=True),
    result("bilinear", 16, 40.0, training=False, left_out="training: expected to take over 20 s"),
    Result(Point("jafar", ratio=16), failure="killed by the system"),
]


def cells(text, start):
    """The cells of the row that begins so."""
    (row,) = re.findall(rf"^\| {start}.*", text, re.MULTILINE)
    return [cell.strip() for cell in row.strip("| ").split("|")]


def test_a_row_shows_ours_beside_the_published_figures():
    text = sweep_tables([("ratio", RESULTS)], MACHINE, "float32.")
    row = cells(text, r"naf +\| +16 ")
    assert row[2:8] == ["662,528", "265", "286", "~900", "1.11", "1.10"]
    assert row[10:] == ["1,000", "2.00", "1.50", "265", "56.2", "1,787", "163", "6,016"]
    assert cells(text, "bilinear")[-5:] == ["–"] * 5
    assert "some machine, 2 CPU threads, torch 2.15. float32." in text


def test_what_is_missing_is_told():
    text = sweep_tables([("ratio", RESULTS)], MACHINE, "")
    assert "- jafar at ratio 16: killed by the system" in text
    assert "- bilinear at ratio 16: training: expected to take over 20 s" in text


def test_figures_are_published_for_the_authors_sizes_only():
    assert published("ratio", Point("naf")).forward_ms == 56.241766
    assert published("channels", Point("naf")).forward_ms == 60.107775  # another run of theirs
    for other in ({"grid": 14}, {"image_side": 224}, {"channels": 768}, {"ratio": 3}, {"upsampler": "jbu"}):
        assert published("ratio", Point(**{"upsampler": "naf", **other})) is None
    assert published("channels", Point("naf", ratio=8)) is None
    assert published("size", Point("naf")) is None
    assert published_max_ratio(Point("naf", ratio=3)) == 72
    assert published_max_ratio(Point("naf", channels=8)) is None


def test_tables_are_aligned():
    lines = markdown(["name", "n"], [["a", "1"], ["longer", "1,000"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "|--------|------:|"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.004, "0.00"), (9.994, "9.99"), (12.34, "12.3"), (-1234.5, "-1,234")]
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def searches():
    probes = (Probe(16, peak_mib=600.0, time_ms=1500.0), Probe(17, "memory", "it took 700 MiB", 700.0, 1.0))
    yield MaxRatio(Point("naf", ratio=16), 16, "memory", 640.0, False, probes)
    yield MaxRatio(Point("jbu", ratio=1), None, "error", 640.0, False, (Probe(1, "error", "no"),))


def test_the_largest_ratios_are_told_with_what_limits_them():
    text = max_ratio_table(list(searches()), MACHINE)
    assert cells(text, "naf") == ["naf", "16", "448 x 448", "600", "1.50", "memory", "72"]
    assert cells(text, "jbu") == ["jbu", "none", "–", "–", "–", "an error", "28"]


@pytest.mark.parametrize("axis", ["ratio", "channels"])
def test_plots_are_drawn_with_the_published_curves_labelled(tmp_path, axis):
    paths = plot_sweep(axis, RESULTS, MACHINE, tmp_path / "plot")
    assert paths == [tmp_path / "plot.png", tmp_path / "plot.svg"]
    with Image.open(paths[0]) as image:
        assert min(image.size) > 600
    comments = "\n".join(re.findall("<!-- (.*?) -->", paths[1].read_text()))  # matplotlib keeps texts there
    for words in ("naf", "bilinear", "published, A100 40 GB", "Peak memory, forward", "MiB", "eight bare convolutions"):
        assert words in comments
    assert "jafar" not in comments


def test_bars_are_drawn_with_the_published_ones(tmp_path):
    paths = plot_max_ratio(list(searches()), MACHINE, tmp_path / "bars")
    text = paths[1].read_text()
    for words in ("naf", "x16", "none (error)", "published, A100 40 GB"):
        assert words in text


def test_nothing_measured_is_no_plot(tmp_path):
    assert plot_sweep("ratio", RESULTS[-1:], MACHINE, tmp_path / "plot") == []
    assert not list(tmp_path.iterdir())
