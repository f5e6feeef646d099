"""Published figures for the columns of a group, and what stands against comparing them with ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from naf.evaluation.published_tables import (
    PublishedTable,
    PublishedValue,
    Value,
    dataset_key,
    full_images,
    published_column,
)
from naf.evaluation.report_metrics import Metric
from naf.evaluation.report_tables import Column, Group

_ONLY = {"denoise": "imagenet"}
"""Data set of tasks that only one is published for: its figures stand beside those for all."""


@dataclass(frozen=True)
class PublishedSide:
    """What is published of a group's columns.

    Attributes:
        rows: upsamplers, as the tables order them.
        values: by row and column; several where tables disagree.
        statements: where the values are from, what is known of them, and what speaks against a comparison.
        is_comparable: whether nothing does.
    """

    rows: Sequence[str]
    values: Mapping[tuple[str, Column], Sequence[Value]]
    statements: Sequence[str]
    is_comparable: bool


def published_side(group: Group, metric: Metric) -> PublishedSide:
    """Looks up task, data set, backbone and variant of each column."""
    values: dict[tuple[str, Column], list[Value]] = {}
    tables: dict[PublishedTable, list[str]] = {}
    for column in group.columns:
        dataset = _ONLY.get(group.task, group.dataset)
        for row, found in published_column(group.task, dataset, column.backbone, column.variant).items():
            for each in _of(found, metric):
                if each.value not in values.setdefault((row, column), []):
                    values[row, column].append(each.value)
                told = tables.setdefault(each.table, [])
                if column.label not in told:
                    told.append(column.label)
    against = _against(group, list(tables)) if tables else []
    sources = [_source(it, labels, len(group.columns)) for it, labels in tables.items()]
    return PublishedSide(list(dict.fromkeys(row for row, _ in values)), values, [*sources, *against], not against)


def _source(table: PublishedTable, labels: Sequence[str], columns: int) -> str:
    where = f" ({', '.join(labels)})" if len(labels) < columns else ""
    return f"{table.source}, {table.table}{where}. {table.note}".rstrip()


def _of(found: Sequence[PublishedValue], metric: Metric) -> list[PublishedValue]:
    return [each for each in found if each.metric == metric.name]


def _against(group: Group, tables: Sequence[PublishedTable]) -> list[str]:
    said = []
    protocols = [it for it in dict.fromkeys(table.protocol for table in tables) if it != group.protocol]
    if protocols:
        said.append(f"protocol {group.protocol} here, {' and '.join(protocols)} there")
    if group.deviations:
        said.append("settings here deviate from the protocol")
    if (dataset := _ONLY.get(group.task)) is not None:
        other = f"{group.dataset} here, {dataset} there, and " if group.dataset != dataset else ""
        said.append(f"{other}it is not said which images{'' if other else f' of {dataset}'}")
    for split, full in full_images(dataset_key(group.dataset)).items():
        here = group.images.get(split)
        if here is None:
            said.append(f"number of {split} images here unknown, {full:,} there")
        elif here != full:
            said.append(f"{here:,} of {full:,} {split}{'' if split in ('sequences', 'frames') else ' images'}")
    return [f"not comparable: {words}." for words in said]
