"""Results of sweeps as Markdown tables, the published figures beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from naf.benchmark.max_ratio import MaxRatio
from naf.benchmark.published import DEVICE, published, published_max_ratio
from naf.benchmark.results import Result
from naf.benchmark.sweep import Axis, position

TITLES: dict[Axis, str] = {"ratio": "Ratio", "channels": "Channels of the features", "size": "Side of image and output"}

_LIMITS = {
    "memory": "memory",
    "time": "time for a probe",
    "method": "the method",
    "search": "end of the search",
    "error": "an error",
}

_NOTES = """
`ms` is the median of the rounds; `~` marks a single call without warm-up, where that took longer than the time for a
point. `MiB` is the peak with weights and inputs. `train` is forward, backward and SGD step. `GFLOPs` count 2 a
multiply-add: `paper` is convolutions and products outside attention as the paper's counter sees them, for an image of
the output's size; `full` is the call as it is, attention included. `floor` is the time over the least that this
machine's copy bandwidth and arithmetic rate allow, `bare` the time over the eight bare convolutions of NAF's encoder,
both measured in the same process. Columns under {device} are what the authors publish of their code on that device.
"""


def sweep_tables(axes: Sequence[tuple[Axis, Sequence[Result]]], machine: dict[str, Any], settings: str) -> str:
    """A Markdown page: a table for each axis.

    Args:
        axes: results along each, in the order of the rows.
        machine: what :func:`naf.benchmark.measure.machine` says.
        settings: one line on what was the same for all.
    """
    parts = ["# Efficiency", "", f"{machine_line(machine)}. {settings}", _NOTES.format(device=DEVICE)]
    for axis, results in axes:
        parts += [f"## {TITLES[axis]}", "", _table(axis, results), *_untold(axis, results), ""]
    return "\n".join(parts)


def machine_line(machine: dict[str, Any]) -> str:
    """Where something was measured, in a line."""
    return f"{machine['device']}, {machine['threads']} CPU threads, torch {machine['torch']}"


def max_ratio_table(found: Sequence[MaxRatio], machine: dict[str, Any]) -> str:
    """A Markdown page: the largest ratio of each upsampler."""
    first = found[0]
    image = "as large as the output" if first.follows_output else f"{first.point.image_side} x {first.point.image_side}"
    lines = [
        "# Largest ratio",
        "",
        f"{machine_line(machine)}. One forward call, {first.point.dtype}, features (1, {first.point.channels}, "
        f"{first.point.grid}, {first.point.grid}), image {image}, within {first.budget_mib / 1024:.1f} GiB; each probe "
        "in a process of its own.",
        "",
        markdown(
            [
                "upsampler",
                "largest ratio",
                "output",
                "peak MiB",
                "s (first call)",
                "limited by",
                f"published, {DEVICE}",
            ],
            [_max_ratio_row(it) for it in found],
        ),
        "",
    ]
    return "\n".join(lines)


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers, with aligned source."""
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    rule = "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths))
    return "\n".join([line(headings), f"|{rule}|", *map(line, rows)])


def number(value: float | None, digits: int | None = None) -> str:
    """A number with about three digits, or so many behind the point; a dash for None."""
    if value is None:
        return "–"
    if digits is None:
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def _table(axis: Axis, results: Sequence[Result]) -> str:
    headings = [
        "upsampler", axis, "parameters", "GFLOPs paper", "GFLOPs full", "ms", "FPS", "spread", "MiB", "train ms",
        "train MiB", "floor", "bare", f"{DEVICE}: GFLOPs", "ms", "MiB", "train ms", "train MiB",
    ]  # fmt: skip
    return markdown(headings, [_row(axis, result) for result in results if result.forward is not None])


def _row(axis: Axis, result: Result) -> list[str]:
    forward, training = result.forward, result.training
    assert forward is not None
    there = published(axis, result.point)
    others = (
        ["–"] * 5
        if there is None
        else [
            number(value)
            for value in (there.gflops, there.forward_ms, there.forward_mib, there.training_ms, there.training_mib)
        ]
    )
    return [
        result.point.upsampler,
        str(position(result.point, axis)),
        "–" if result.parameters is None else f"{result.parameters:,}",
        number(result.gflops_paper),
        number(result.gflops_full),
        ("~" if forward.warm_up_only else "") + number(forward.time_ms),
        number(result.fps),
        number(forward.spread, 2),
        number(forward.peak_mib, 0),
        "–" if training is None else ("~" if training.warm_up_only else "") + number(training.time_ms),
        number(None if training is None else training.peak_mib, 0),
        number(result.forward_to_floor),
        number(result.forward_to_bare),
        *others,
    ]


def _untold(axis: Axis, results: Sequence[Result]) -> list[str]:
    """What was left out or failed, a line each."""
    told = [
        f"- {result.point.upsampler} at {axis} {position(result.point, axis)}: {result.failure or result.left_out}"
        for result in results
        if result.failure or result.left_out
    ]
    return ["", "Not measured:", "", *told] if told else []


def _max_ratio_row(found: MaxRatio) -> list[str]:
    best = next((probe for probe in found.probes if probe.ratio == found.ratio), None)
    side = found.point.side
    theirs = published_max_ratio(found.point)
    return [
        found.point.upsampler,
        "none" if found.ratio is None else str(found.ratio),
        "–" if found.ratio is None else f"{side} x {side}",
        number(best.peak_mib if best else None, 0),
        number(best.time_ms / 1e3 if best and best.time_ms is not None else None),
        _LIMITS[found.limited_by],
        "–" if theirs is None else str(theirs),
    ]
