"""Upsamplers, backbones and the folder of results, as configured."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from naf.data.feature_cache import cache_dtype
from naf.evaluation.candidates import Candidate, make_backbones, parse_all
from naf.evaluation.features import Features
from naf.evaluation.results import Results


def prepare(values: Mapping[str, Any]) -> tuple[list[Candidate], Callable[[], dict[str, Features]], Results]:
    """The upsamplers, what makes features by backbone, and the folder of results.

    Raises:
        ValueError: for an unknown upsampler, backbone, device or dtype, or a folder that cannot be written to.
    """
    check_folder(Path(values["folder"]))
    device = device_of(values["device"])
    candidates = parse_all(values["upsampler"])
    made = make_backbones(values["backbone"], device)
    cache = None if values["cache"] is None else Path(values["cache"])
    dtype = cache_dtype("cache_dtype", values["cache_dtype"])
    results = Results(Path(values["folder"]) / str(values["dataset"]["key"]), device)
    return candidates, lambda: {label: Features(one, cache, dtype) for label, one in made.items()}, results


def check_folder(folder: Path) -> None:
    """Refuse before any work a folder in which no result could be written; makes nothing."""
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110 (no error where reading is denied)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"folder is '{folder}', expected one that can be written: {there} cannot")


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
