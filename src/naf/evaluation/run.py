"""An evaluation as configured: data, backbones, upsamplers, runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from naf.data import depth, labelled
from naf.evaluation.depth import DepthProtocol, DepthTask
from naf.evaluation.prepare import prepare
from naf.evaluation.progress import whole_time
from naf.evaluation.protocol import ProbeProtocol, protocol_from
from naf.evaluation.record import EvaluationRecord
from naf.evaluation.run_denoise import run_denoise
from naf.evaluation.run_probe import Setup, run_probes
from naf.evaluation.run_video import run_video
from naf.evaluation.segmentation import SegmentationTask
from naf.evaluation.subset import Subset
from naf.evaluation.task import ProbeTask

S = TypeVar("S", labelled.LabelledSet, depth.DepthSet)

SANITY_IMAGES, SANITY_EPOCHS = {"train": 4, "val": 2}, 1


def run(values: Mapping[str, Any], console: Console) -> tuple[list[EvaluationRecord], int]:
    """Run what a configuration says.

    Args:
        values: from :func:`naf.evaluation.config.load`.
        console: where progress goes.

    Returns:
        The records, of runs that were there already too, and the number of runs that failed.

    Raises:
        ValueError: if the configuration does not hold together, or the data set is incomplete.
    """
    if values["sanity"] and values["task"] not in ("video", "denoise"):  # which cut their data themselves
        values = _sanity(values)
    made = {
        "segmentation": _segmentation,
        "filter": _segmentation,
        "ratio": _ratio,
        "depth": _depth,
        "video": run_video,
        "denoise": run_denoise,
    }
    return made[values["task"]](values, console)


def _segmentation(values: Mapping[str, Any], console: Console) -> tuple[list[EvaluationRecord], int]:
    protocol = protocol_from(ProbeProtocol, values["protocol"])
    return _probe(values, console, _segmentation_task(values), [protocol])


def _ratio(values: Mapping[str, Any], console: Console) -> tuple[list[EvaluationRecord], int]:
    sizes = values["sizes"] if isinstance(values["sizes"], list) else [values["sizes"]]
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(f"sizes is {values['sizes']!r}, expected sides of images in pixels")
    protocol = protocol_from(ProbeProtocol, values["protocol"])
    columns = [replace(protocol, image_size=size) for size in sizes]
    return _probe(values, console, _segmentation_task(values), columns, by_grid=True)


def _depth(values: Mapping[str, Any], console: Console) -> tuple[list[EvaluationRecord], int]:
    protocol = protocol_from(DepthProtocol, values["protocol"])
    return _probe(values, console, DepthTask(*_splits(values, depth.create), protocol), [protocol])


def _segmentation_task(values: Mapping[str, Any]) -> SegmentationTask:
    return SegmentationTask(*_splits(values, labelled.create))


def _splits(values: Mapping[str, Any], create: Callable[..., S]) -> tuple[Subset[S], Subset[S]]:
    """Training and evaluated images."""
    data, limit = values["dataset"], values["limit"]
    train, val = (
        Subset(create(data["key"], data["root"], data[split], **data["options"]), limit[split])
        for split in ("train", "val")
    )
    return train, val


def _probe(
    values: Mapping[str, Any],
    console: Console,
    task: ProbeTask,
    columns: list[ProbeProtocol],
    *,
    by_grid: bool = False,
) -> tuple[list[EvaluationRecord], int]:
    candidates, backbones, results = prepare(values)
    records, failures = [], 0
    for protocol in columns:
        setup = Setup(
            task=values["task"],
            dataset=task.key,
            learned=task,
            protocol=protocol,
            plain={**values["plain_protocol"], **({"image_size": protocol.image_size} if by_grid else {})},
            seeds=values["seeds"],
            results=results,
            console=console,
            workers=values["workers"],
            is_dense=values["head"] == "dense",
            by_grid=by_grid,
            note=values["note"],
            options=values["dataset"]["options"],
        )
        found, failed = run_probes(setup, backbones(), candidates)
        records += found
        failures += failed
    if values["sanity"] and records and not failures:  # of runs that failed nobody knows how long they take
        console.print(_estimate(values, task, records), markup=False)
    return records, failures


def _sanity(values: Mapping[str, Any]) -> dict[str, Any]:
    """Few images, one epoch, one seed, in a folder of its own."""
    return {
        **values,
        "limit": {key: min(number, values["limit"][key] or number) for key, number in SANITY_IMAGES.items()},
        "protocol": {**values["protocol"], "epochs": SANITY_EPOCHS},
        "seeds": values["seeds"][:1],
        "folder": str(Path(values["folder"]) / "sanity"),
        "asked": values,
    }


def _estimate(values: Mapping[str, Any], task: ProbeTask, records: list[EvaluationRecord]) -> str:
    """How long the whole takes by a dry run, in words."""
    asked = values["asked"]
    train, val = (
        min(len(images.whole), asked["limit"][split] or len(images.whole))
        for split, images in (("train", task.train), ("val", task.val))
        if isinstance(images, Subset)
    )
    # Drawn pixels are upsampled once for all epochs and seeds; scoring is shared by the seeds in any case.
    rounds = 1 if values["protocol"]["pixels"] is not None else asked["protocol"]["epochs"] * len(asked["seeds"])
    passes = SANITY_EPOCHS * len(task.train) + len(task.val)
    seconds = sum(record.seconds for record in records) * (rounds * train + val) / passes
    return whole_time(seconds)
