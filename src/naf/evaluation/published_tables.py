"""Figures that papers and repositories print, table by table, for the side-by-side with ours.

They lie as YAML beside this file: `published/naf.yaml` (Tables 1 to 13 of arXiv 2511.18452), `naf_repository.yaml`,
`jafar.yaml` and `bev.yaml`; `names.yaml` says what else backbones and data sets are called. Efficiency is elsewhere:
Figures 12 and 13 and the largest ratios of Table 1 are in :mod:`naf.benchmark.published`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml  # type: ignore[import-untyped]

_FILES = ("naf", "naf_repository", "jafar", "bev")
_AXES = ("dataset", "backbone", "variant")
_METHODS = ("upsampler", "restorer")

Value = float | Literal["OOM"]
"""A printed number, or that the authors ran out of memory."""


@dataclass(frozen=True, eq=False)
class PublishedTable:
    """One table.

    Attributes:
        id: unique.
        source: paper or repository.
        table: its number there.
        title: what it compares.
        task: as in :class:`~naf.evaluation.record.EvaluationRecord`, or another that is not evaluated here.
        metric: likewise; in words where it is not ours or differs by column.
        unit: of all values, or "by column".
        columns_are: what the parts of a column's name say, "/" between them: of "dataset", "backbone", "variant"; or
            "quantity".
        columns: names.
        rows: values by row, one a column; None where nothing is printed.
        dataset: where it is the same for all.
        backbone: likewise.
        protocol: whose settings: "paper" (of NAF), "released" (NAF's code) or "jafar".
        rows_are: "upsampler", "restorer", or in words what else.
        baseline: the row that printed gains are taken from.
        delta_mean_reported: printed mean gain by row, which need not follow from the cells.
        note: what a reader must know, such as gains that do not.
    """

    id: str
    source: str
    table: str
    title: str
    task: str
    metric: str
    unit: str
    columns_are: tuple[str, ...]
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Value | None, ...]]
    dataset: str = ""
    backbone: str = ""
    protocol: str = "paper"
    rows_are: str = "upsampler"
    baseline: str = ""
    delta_mean_reported: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def place(self, column: str) -> dict[str, str]:
        """Data set, backbone and variant of a column, empty where they are not said."""
        said = dict(zip(self.columns_are, column.split("/"), strict=True))
        return {"dataset": self.dataset, "backbone": self.backbone, "variant": ""} | {
            axis: said[axis] for axis in _AXES if axis in said
        }


class PublishedValue(NamedTuple):
    """One cell.

    Attributes:
        table: where it is printed.
        value: the number, "OOM" where the authors ran out of memory.
        metric: as in our records.
    """

    table: PublishedTable
    value: Value
    metric: str


def published_tables() -> list[PublishedTable]:
    """All tables, those of the NAF paper first, as they come there."""
    return list(_tables())


def published_column(task: str, dataset: str, backbone: str, variant: str = "") -> dict[str, list[PublishedValue]]:
    """What is printed of all upsamplers or restorers, by their names, for a task, data set and backbone.

    Args:
        task: as in our records.
        dataset: key, or one of its other names ("voc2012").
        backbone: short name of the tables ("dinov3_b"), or what timm, torch.hub and transformers call the same weights.
        variant: as in our records ("grid 28", "gaussian 0.1").
    """
    place = {"dataset": dataset_key(dataset), "backbone": short_backbone(backbone), "variant": variant}
    found: dict[str, list[PublishedValue]] = {}
    for table in _tables():
        if table.task != task or table.rows_are not in _METHODS or "quantity" in table.columns_are:
            continue
        for index, column in enumerate(table.columns):
            if table.place(column) != place:
                continue
            for name, values in table.rows.items():
                value = values[index]
                if value is not None:
                    found.setdefault(name, []).append(PublishedValue(table, value, table.metric))
    return found


def published_cell(task: str, dataset: str, backbone: str, upsampler: str, variant: str = "") -> list[PublishedValue]:
    """What is printed of an upsampler: nothing, a value, or several where tables disagree or repeat it.

    Args:
        task: as in our records.
        dataset: see :func:`published_column`.
        backbone: likewise.
        upsampler: name of the row, as in our registry.
        variant: as in our records.
    """
    return published_column(task, dataset, backbone, variant).get(upsampler.lower(), [])


def short_backbone(name: str) -> str:
    """What the tables call a backbone; the name itself where they do not know it.

    >>> short_backbone("hf:facebook/dinov2-small"), short_backbone("hub:facebookresearch/dinov2:dinov2_vits14")
    ('dinov2_s', 'dinov2_s')
    """
    known: Mapping[str, list[str]] = _read("names")["backbones"]
    kind, _, rest = name.partition(":")
    model = {"hf": rest.partition("@")[0], "hub": rest.rpartition(":")[2]}.get(kind, name)
    return next((short for short, others in known.items() if model in others), name)


def dataset_key(name: str) -> str:
    """Our key of a data set; the name itself where the tables do not know it."""
    known: Mapping[str, Any] = _read("names")["datasets"]
    return next((key for key, about in known.items() if name in about["names"]), name)


def full_images(dataset: str) -> dict[str, int]:
    """Numbers of images by split that the tables are made with; empty where the tables do not know the data set."""
    about = _read("names")["datasets"].get(dataset_key(dataset))
    return dict(about["images"]) if about else {}


@cache
def _tables() -> tuple[PublishedTable, ...]:
    tables = []
    for name in _FILES:
        document = _read(name)
        for entry in document["tables"]:
            rows = {row: tuple(values) for row, values in entry["rows"].items()}
            tuples = {key: tuple(entry[key]) for key in ("columns", "columns_are")}
            tables.append(PublishedTable(source=document["source"], **{**entry, **tuples, "rows": rows}))
    return tuple(tables)


@cache
def _read(name: str) -> Any:
    text = resources.files("naf.evaluation").joinpath("published", f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)
