"""One group of runs as a page has it: tables of text, and what is said under them. Knows no markup."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from naf.evaluation.report_metrics import Metric, tabulated
from naf.evaluation.report_published import PublishedSide, published_side
from naf.evaluation.report_tables import Cell, Column, Group, Mark, Seeds, Table, table

_TITLES = {
    "segmentation": "Segmentation probe",
    "depth": "Depth probe",
    "video": "Video propagation",
    "filter": "Feature filtering",
    "ratio": "Scaling ratio",
    "denoise": "Denoising",
}
_ARROWS = {"higher": ", ↑", "lower": ", ↓", None: ""}


class Text(NamedTuple):
    """What stands in a cell."""

    text: str
    mark: Mark = ""


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        caption: what is in it.
        headings: the first is that of the rows' names.
        rows: as long as the headings.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Text]]


@dataclass(frozen=True)
class Section:
    """What is said of a group.

    Attributes:
        title: heading.
        stem: name for its files.
        tables: one a metric, the main one first.
        published: what is published beside the main one.
        grids: the tables as text, and the published figures.
        facts: name and words.
        commands: that made the runs.
    """

    title: str
    stem: str
    tables: Sequence[Table]
    published: PublishedSide
    grids: Sequence[Grid]
    facts: Sequence[tuple[str, str]]
    commands: Sequence[str]


def section(group: Group, number: int) -> Section:
    """A group as a section.

    Args:
        group: runs of one task, data set, protocol and settings.
        number: of the section; titles need not differ otherwise.
    """
    recorded = {name for record in group.records for name in record.metrics}
    shown = tabulated(group.task, recorded)
    tables = [table(group, metric) for metric in shown]
    sides = [published_side(group, metric) for metric in shown]
    grids: list[Grid] = []
    for one, side in zip(tables, sides, strict=True):
        grids.append(_measured(one))
        if side.values:
            grids.append(_published(group, one.metric, side))
    facts = _facts(group, recorded - {metric.name for metric in shown})
    statements = list(dict.fromkeys(text for side in sides for text in side.statements))
    return Section(
        title=f"{number}. {_TITLES.get(group.task, group.task)}, {group.dataset}, protocol {group.protocol}",
        stem="-".join([f"{number:02}", *(_file_name(part) for part in (group.task, group.dataset, group.protocol))]),
        tables=tables,
        published=sides[0],
        grids=grids,
        facts=[*facts, *(("Published", text) for text in statements)],
        commands=list(dict.fromkeys(record.command for record in group.records if record.command)),
    )


def cell_text(cell: Cell, digits: int, usual: Seeds) -> str:
    """Mean and deviation; the number of seeds where it is another than usual."""
    text = f"{cell.mean:.{digits}f}"
    if cell.deviation is not None:
        text += f" ± {cell.deviation:.{digits}f}"
    return text if len(cell.seeds) == len(usual) else f"{text} (n = {len(cell.seeds)})"


def _measured(it: Table) -> Grid:
    group, metric = it.group, it.metric
    headings = [_method(group), *(column.label for column in group.columns)]
    if it.gains:
        headings.append(f"mean gain over {it.baseline}")
    rows = []
    for row in group.rows:
        cells = [_cell(it, row, column) for column in group.columns]
        if it.gains:
            gain = it.gains.get(row)
            cells.append(Text("–" if gain is None else _gain_text(gain, metric.digits)))
        rows.append([Text(row), *cells])
    return Grid(f"{metric.heading}{_ARROWS[metric.better]}, measured", headings, rows)


def _cell(it: Table, row: str, column: Column) -> Text:
    cell = it.cells.get((row, column))
    if cell is None:
        return Text("–")
    return Text(cell_text(cell, it.metric.digits, it.group.seeds), it.mark(row, column))


def _gain_text(gain: Cell, digits: int) -> str:
    text = f"{round(gain.mean, digits) + 0.0:+.{digits}f}"  # + 0.0: no minus before a zero
    return text if gain.deviation is None else f"{text} ± {gain.deviation:.{digits}f}"


def _published(group: Group, metric: Metric, side: PublishedSide) -> Grid:
    rows = []
    for row in side.rows:
        cells = [
            " / ".join(_value_text(value, metric.digits) for value in side.values.get((row, column), ()))
            for column in group.columns
        ]
        rows.append([Text(row), *(Text(cell or "–") for cell in cells)])
    return Grid(
        f"{metric.heading}{_ARROWS[metric.better]}, published{'' if side.is_comparable else ', not comparable'}",
        [_method(group), *(column.label for column in group.columns)],
        rows,
    )


def _method(group: Group) -> str:
    return "restorer" if group.task == "denoise" else "upsampler"


def _value_text(value: float | str, digits: int) -> str:
    return value if isinstance(value, str) else f"{value:.{digits}f}"


def _facts(group: Group, untold: set[str]) -> list[tuple[str, str]]:
    records = group.records
    deviations = f"with deviations: {_pairs(group.deviations)}" if group.deviations else "without deviations"
    finished = sorted(record.finished for record in records if record.finished)
    time = f"{len(records)} run{'s' * (len(records) > 1)}, {sum(record.seconds for record in records):,.0f} s in all"
    if finished:
        time += f", finished {finished[0]}" + (f" to {finished[-1]}" if finished[-1] != finished[0] else "")
    versions = [", ".join(f"{name} {version}" for name, version in record.versions.items()) for record in records]
    facts = [
        ("Protocol", f"{group.protocol}, {deviations}"),
        ("Settings", _pairs(group.settings)),
        ("Settings that differ by column or row", "; ".join(f"{k}: {_list(v)}" for k, v in group.varying.items())),
        ("Images", ", ".join(f"{split} {number:,}" for split, number in group.images.items())),
        ("Seeds", _seeds(group)),
        ("Weights", _weights(group)),
        ("Learned values", _parameters(group)),
        ("Told the kind and level of the noise", _told(group)),
        ("Machine", _unique(record.machine for record in records)),
        ("Versions", _unique(versions)),
        ("Commit", _unique(record.commit for record in records)),
        ("Time", time),
        ("Notes", _unique(record.note for record in records)),
        ("Recorded without a table", ", ".join(sorted(untold))),
        ("Left out", f"{group.superseded} older runs of the same kind and seed" if group.superseded else ""),
    ]
    return [(name, words) for name, words in facts if words]


def _seeds(group: Group) -> str:
    usual = group.seeds
    others: dict[Seeds, list[str]] = defaultdict(list)
    for row in group.rows:
        for column in group.columns:
            runs = group.runs.get((row, column))
            if runs and tuple(runs) != usual:
                others[tuple(runs)].append(f"{row} with {column.label}")
    text = _seed_list(usual)
    if len(usual) > 1:
        text += f"; cells are the mean ± sample standard deviation over these {len(usual)}"
    return "; ".join([text, *(f"but {_seed_list(seeds)} for {', '.join(cells)}" for seeds, cells in others.items())])


def _seed_list(seeds: Seeds) -> str:
    return "none (nothing is random)" if seeds == (None,) else ", ".join("none" if s is None else str(s) for s in seeds)


def _weights(group: Group) -> str:
    """Source and checkpoint of each row that has weights."""
    said: dict[str, list[str]] = {}
    for row in group.rows:
        runs = [record for column in group.columns for record in group.runs.get((row, column), {}).values()]
        for record in runs:
            digest = f"sha256 {record.checkpoint[:12]}" if record.checkpoint else ""
            words = ", ".join(filter(None, (record.source, digest)))
            if words and words not in said.setdefault(row, []):
                said[row].append(words)
    return "; ".join(f"{row}: {' and '.join(words)}" for row, words in said.items() if words)


def _parameters(group: Group) -> str:
    """Of each restorer that learns."""
    found = {record.upsampler: record.details.get("parameters", 0) for record in group.records}
    return ", ".join(f"{row} {found[row]:,}" for row in group.rows if found.get(row))


def _told(group: Group) -> str:
    """Restorers whose settings were chosen by the noise."""
    fitted = {record.upsampler for record in group.records if record.details.get("fitted")}
    return ", ".join(row for row in group.rows if row in fitted)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_plain(value)}" for name, value in values.items())


def _list(values: Iterable[Any]) -> str:
    return ", ".join(map(_plain, values))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _unique(texts: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(filter(None, texts)))


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text)
