"""Records grouped to tables: rows are upsamplers, columns backbones, cells mean and deviation over seeds.

Of denoising rows are restorers, columns kinds and levels of noise.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from naf.evaluation.record import EvaluationRecord
from naf.evaluation.report_metrics import Metric

Mark = Literal["best", "second", ""]
Seeds = tuple[int | None, ...]

BY_COLUMN = frozenset({"ratio", "grid", "stride", "channels", "layer", "backbone"})
"""Settings that may differ between the columns of a table."""
BY_COLUMN_OF_RATIO = BY_COLUMN | {"image_size", "guidance_size"}
"""The same for the study of ratios."""
BY_COLUMN_OF_DENOISE = frozenset({"noise", "level"})
"""The same for denoising."""
BY_ROW = frozenset({"upsampler", "head"})
"""Settings that may differ between the rows of a table."""

_FIRST = ("nearest", "bilinear", "bicubic", "lanczos", "jbf", "jbu", "guided", "featup", "lift", "loftup", "featsharp",
          "anyup", "jafar", "noisy", "median", "bilateral", "nl")  # nl: of nl_means  # fmt: skip
_BASELINES = ("bilinear", "nearest", "noisy")


class Column(NamedTuple):
    """A column: a backbone, empty where there is none, and what sets its runs apart from others of that backbone."""

    backbone: str
    variant: str
    label: str


@dataclass(frozen=True)
class Cell:
    """Runs that differ by their seeds alone.

    Attributes:
        mean: of the metric.
        deviation: sample standard deviation (ddof 1), None for a single run.
        seeds: in order; (None,) where nothing is random.
    """

    mean: float
    deviation: float | None
    seeds: Seeds

    @classmethod
    def over(cls, values: Mapping[int | None, float]) -> Cell:
        """From values by seed."""
        deviation = statistics.stdev(values.values()) if len(values) > 1 else None
        return cls(statistics.fmean(values.values()), deviation, tuple(_sorted(values)))


@dataclass(frozen=True)
class Group:
    """Runs that may stand in one table: of one task, protocol, data set and settings.

    Attributes:
        task: see :class:`~naf.evaluation.record.EvaluationRecord`.
        protocol: likewise.
        dataset: likewise.
        deviations: likewise.
        images: likewise.
        settings: those that are the same for all.
        varying: values of the others, which differ by column or row.
        rows: labels of upsamplers or restorers.
        columns: backbones, or kinds and levels of noise.
        runs: by row and column, then by seed.
        superseded: number of older runs of the same kind and seed, left out.
    """

    task: str
    protocol: str
    dataset: str
    deviations: Mapping[str, Any]
    images: Mapping[str, int]
    settings: Mapping[str, Any]
    varying: Mapping[str, Sequence[Any]]
    rows: Sequence[str]
    columns: Sequence[Column]
    runs: Mapping[tuple[str, Column], Mapping[int | None, EvaluationRecord]]
    superseded: int

    @property
    def records(self) -> list[EvaluationRecord]:
        """All runs, by row, column and seed."""
        return [
            record
            for row in self.rows
            for column in self.columns
            for record in self.runs.get((row, column), {}).values()
        ]

    @property
    def seeds(self) -> Seeds:
        """Those of most cells; the more of them, where that is not decided."""
        counts = Counter(Cell.over(dict.fromkeys(runs, 0.0)).seeds for runs in self.runs.values())
        return max(counts, key=lambda seeds: (counts[seeds], len(seeds)))


@dataclass(frozen=True)
class Table:
    """A group seen through one metric.

    Attributes:
        group: whose runs.
        metric: what is in the cells.
        cells: by row and column; those without a run are missing.
        baseline: the row that gains are taken from, empty where there is none with all cells.
        gains: mean over the columns of what a row with all cells is better than the baseline (positive is better);
            with a deviation where row and baseline have the same seeds everywhere.
    """

    group: Group
    metric: Metric
    cells: Mapping[tuple[str, Column], Cell]
    baseline: str
    gains: Mapping[str, Cell]

    def mark(self, row: str, column: Column) -> Mark:
        """Whether a cell is best or second best of its column as printed.

        Equal ones are marked alike, and none where all are equal.
        """
        if (row, column) not in self.cells or self.metric.better is None:
            return ""
        printed = {
            name: round(self.cells[name, column].mean, self.metric.digits) * self.metric.sign
            for name in self.group.rows
            if (name, column) in self.cells
        }
        places = sorted(set(printed.values()), reverse=True)[:2]
        if len(places) < 2:
            return ""
        return ("best", "second")[places.index(printed[row])] if printed[row] in places else ""


def groups(records: Iterable[EvaluationRecord]) -> list[Group]:
    """Records that may stand in one table, by task, data set and protocol; without deviations first."""
    found: dict[Hashable, list[EvaluationRecord]] = defaultdict(list)
    for record in records:
        fixed = {key: value for key, value in record.settings.items() if key not in _free(record.task)}
        key = (record.task, record.dataset, record.protocol, bool(record.deviations))
        found[*key, _plain(record.deviations), _plain(record.images), _plain(fixed)].append(record)
    return [_group(found[key]) for key in sorted(found)]  # type: ignore[type-var]


def table(group: Group, metric: Metric) -> Table:
    """The cells of a metric, and gains."""
    values = {
        place: {seed: run.metrics[metric.name] for seed, run in runs.items() if metric.name in run.metrics}
        for place, runs in group.runs.items()
    }
    values = {place: by_seed for place, by_seed in values.items() if by_seed}
    complete = [row for row in group.rows if all((row, column) in values for column in group.columns)]
    baseline = next((name for name in _BASELINES if name in complete), "")
    gains = {row: _gain(group, metric, values, row, baseline) for row in complete if baseline and row != baseline}
    return Table(group, metric, {place: Cell.over(by_seed) for place, by_seed in values.items()}, baseline, gains)


def natural(text: str) -> list[tuple[float, str]]:
    """Sort key that has "grid 14" before "grid 112", and "gaussian 0.15" before "gaussian 0.5"."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(float(part), "") if index % 2 else (-1.0, part) for index, part in enumerate(parts)]


def _by_column(task: str) -> frozenset[str]:
    return {"ratio": BY_COLUMN_OF_RATIO, "denoise": BY_COLUMN_OF_DENOISE}.get(task, BY_COLUMN)


def _free(task: str) -> frozenset[str]:
    return BY_ROW | _by_column(task)


def _group(records: Sequence[EvaluationRecord]) -> Group:
    first = records[0]
    columns = _columns([(record, _chosen(record.settings, _by_column(first.task))) for record in records])
    rows = _rows([(record, _chosen(record.settings, BY_ROW)) for record in records], columns)
    runs: dict[tuple[str, Column], dict[int | None, EvaluationRecord]] = defaultdict(dict)
    for index in sorted(range(len(records)), key=lambda index: records[index].finished):
        runs[rows[index], columns[index]][records[index].seed] = records[index]  # the last one stays
    runs = {place: {seed: by_seed[seed] for seed in _sorted(by_seed)} for place, by_seed in runs.items()}
    kept = [record for by_seed in runs.values() for record in by_seed.values()]
    names = {key for record in kept for key in record.settings}
    values = {name: _distinct([record.settings[name] for record in kept if name in record.settings]) for name in names}
    same = {name for name in names if len(values[name]) == 1 and all(name in record.settings for record in kept)}
    return Group(
        task=first.task,
        protocol=first.protocol,
        dataset=first.dataset,
        deviations=first.deviations,
        images=first.images,
        settings={name: first.settings[name] for name in sorted(same)},
        varying={name: values[name] for name in sorted(names - same)},
        rows=sorted(set(rows), key=_row_order),
        columns=sorted(set(columns), key=lambda column: [natural(part) for part in column]),
        runs=runs,
        superseded=len(records) - len(kept),
    )


def _columns(records: Sequence[tuple[EvaluationRecord, dict[str, Any]]]) -> list[Column]:
    """The column of each record; what a heading must say beyond backbone and variant is what differs between them."""
    parts = [{"stride": record.stride, "channels": record.channels, **settings} for record, settings in records]
    names = [(record.backbone, record.variant) for record, _ in records]
    labels = _labels([" ".join(filter(None, name)) for name in names], parts)
    return [Column(*name, label) for name, label in zip(names, labels, strict=True)]


def _rows(records: Sequence[tuple[EvaluationRecord, dict[str, Any]]], columns: Sequence[Column]) -> list[str]:
    """The row of each record. Other weights are other rows where both are in one column: means never mix them."""
    parts = [{"weights": record.checkpoint[:8], **settings} for record, settings in records]
    seen: dict[tuple[str, Column], set[str]] = defaultdict(set)
    for (record, _), part, column in zip(records, parts, columns, strict=True):
        seen[record.upsampler, column].add(_plain(part))
    mixed = {name for (name, _), kinds in seen.items() if len(kinds) > 1}
    return _labels(
        [record.upsampler for record, _ in records],
        [part if record.upsampler in mixed else {} for (record, _), part in zip(records, parts, strict=True)],
    )


def _labels(names: Sequence[str], parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names, with those parts in parentheses in which things of the same name differ."""
    labels = []
    for name, part in zip(names, parts, strict=True):
        others = [other for other_name, other in zip(names, parts, strict=True) if other_name == name]
        differing = [key for key in part if len({_plain(other.get(key)) for other in others}) > 1]
        said = ", ".join(f"{key} {part[key] or 'none'}" for key in differing)
        labels.append(f"{name} ({said})" if said else name)
    return labels


def _gain(
    group: Group, metric: Metric, values: Mapping[tuple[str, Column], Mapping[int | None, float]], row: str, base: str
) -> Cell:
    places = [(values[row, column], values[base, column]) for column in group.columns]
    seeds = list(places[0][0])
    if all(set(ours) == set(theirs) == set(seeds) for ours, theirs in places):
        return Cell.over({seed: metric.sign * statistics.fmean(a[seed] - b[seed] for a, b in places) for seed in seeds})
    difference = statistics.fmean(statistics.fmean(a.values()) - statistics.fmean(b.values()) for a, b in places)
    return Cell(metric.sign * difference, None, ())


def _row_order(label: str) -> tuple[int, list[tuple[float, str]]]:
    """Interpolation, filters, learned ones, others; NAF last."""
    name = re.split(r"[^a-z0-9+]", label.lower(), maxsplit=1)[0]
    place = _FIRST.index(name) if name in _FIRST else len(_FIRST) + name.startswith("naf")
    return place, natural(label.lower())


def _sorted(seeds: Iterable[int | None]) -> list[int | None]:
    return sorted(seeds, key=lambda seed: -1 if seed is None else seed)


def _chosen(settings: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: settings[name] for name in sorted(names) if name in settings}


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({_plain(value): value for value in values}.values())


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
