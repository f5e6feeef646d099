"""An evaluation as configured: data, backbones, upsamplers, runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from naf.data import labelled
from naf.evaluation.candidates import Candidate, make_backbones, parse_all
from naf.evaluation.features import Features
from naf.evaluation.protocol import ProbeProtocol, protocol_from
from naf.evaluation.record import EvaluationRecord
from naf.evaluation.results import Results
from naf.evaluation.run_probe import Setup, run_probes
from naf.evaluation.segmentation import SegmentationTask
from naf.evaluation.subset import Subset
from naf.evaluation.task import ProbeTask

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
SANITY = {"limit": {"train": 4, "val": 2}, "epochs": 1}


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
    if values["sanity"]:
        values = _sanity(values)
    made = {"segmentation": _segmentation, "filter": _segmentation, "ratio": _ratio}
    return made[values["task"]](values, console)


def _segmentation(values: Mapping[str, Any], console: Console) -> tuple[list[EvaluationRecord], int]:
    protocol = protocol_from(ProbeProtocol, values["protocol"])
    return _probe(values, console, _segmentation_task(values), [("", protocol)])


def _ratio(values: Mapping[str, Any], console: Console) -> tuple[list[EvaluationRecord], int]:
    sizes = values["sizes"] if isinstance(values["sizes"], list) else [values["sizes"]]
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(f"sizes is {values['sizes']!r}, expected sides of images in pixels")
    protocol = protocol_from(ProbeProtocol, values["protocol"])
    columns = [(f"{size} px", replace(protocol, image_size=size)) for size in sizes]
    return _probe(values, console, _segmentation_task(values), columns)


def _segmentation_task(values: Mapping[str, Any]) -> SegmentationTask:
    train, val = (
        Subset(labelled.create(data["key"], data["root"], data[split], **data["options"]), values["limit"][split])
        for data in [values["dataset"]]
        for split in ("train", "val")
    )
    return SegmentationTask(train, val)


def _probe(
    values: Mapping[str, Any], console: Console, task: ProbeTask, columns: list[tuple[str, ProbeProtocol]]
) -> tuple[list[EvaluationRecord], int]:
    candidates, backbones, results = prepare(values)
    records, failures = [], 0
    for variant, protocol in columns:
        setup = Setup(
            task=values["task"],
            dataset=task.key,
            learned=task,
            protocol=protocol,
            plain={**values["plain_protocol"], **({"image_size": protocol.image_size} if variant else {})},
            seeds=values["seeds"],
            results=results,
            console=console,
            workers=values["workers"],
            is_dense=values["head"] == "dense",
            variant=variant,
            note=values["note"],
        )
        found, failed = run_probes(setup, backbones(), candidates)
        records += found
        failures += failed
    return records, failures


def prepare(values: Mapping[str, Any]) -> tuple[list[Candidate], Callable[[], dict[str, Features]], Results]:
    """The upsamplers, what makes features by backbone, and the folder of results.

    Raises:
        ValueError: for an unknown upsampler, backbone, device or dtype.
    """
    device = device_of(values["device"])
    candidates = parse_all(values["upsampler"])
    made = make_backbones(values["backbone"], device)
    if values["cache_dtype"] not in DTYPES:
        raise ValueError(f"cache_dtype is {values['cache_dtype']!r}, expected one of {', '.join(DTYPES)}")
    cache = None if values["cache"] is None else Path(values["cache"])
    dtype = DTYPES[values["cache_dtype"]]
    results = Results(Path(values["folder"]) / str(values["dataset"]["key"]), device)
    return candidates, lambda: {label: Features(one, cache, dtype) for label, one in made.items()}, results


def device_of(name: str) -> torch.device:
    """A device by name.

    Raises:
        ValueError: if there is none of that name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device is {name!r}, expected auto or a device of this machine: {error}") from None


def _sanity(values: Mapping[str, Any]) -> dict[str, Any]:
    """Few images, one epoch, one seed, in a folder of its own."""
    return {
        **values,
        "limit": {key: min(number, values["limit"][key] or number) for key, number in SANITY["limit"].items()},
        "protocol": {**values["protocol"], "epochs": SANITY["epochs"]},
        "seeds": values["seeds"][:1],
        "folder": str(Path(values["folder"]) / "sanity"),
    }
