"""The configuration of an evaluation: composed by Hydra, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import MISSING, DictConfig

from naf.configs.compose import chosen, compose, plain, quoted, readable
from naf.evaluation.denoise_protocol import DenoiseConfig

TASKS = ("segmentation", "depth", "video", "filter", "ratio", "denoise")
_LISTS = ("backbone", "upsampler", "seeds", "sizes")
_LISTS_OF_DENOISE = ("restorer", _LEVEL := "noise.level")
_FOLDER_OF = {"filter": "segmentation", "ratio": "segmentation"}


@dataclass
class EvaluationConfig:
    """All keys and their types; what they mean is said in `configs/evaluation/TASK/TASK.yaml`."""

    task: str = MISSING
    backbone: Any = MISSING
    upsampler: Any = MISSING
    seeds: Any = MISSING
    dataset: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    limit: dict[str, Any] = field(default_factory=dict)
    sizes: Any = None
    head: str = "linear"
    folder: str = MISSING
    cache: str | None = None
    cache_dtype: str = "float32"
    device: str = "auto"
    workers: int = 2
    sanity: bool = False
    note: str = ""


def load(task: str, overrides: Sequence[str] = (), config_dir: Path | None = None) -> dict[str, Any]:
    """The configuration of a task as plain values; `plain_protocol` holds the chosen protocol's own settings.

    Args:
        task: one of TASKS.
        overrides: Hydra's; `backbone`, `upsampler`, `seeds` and `sizes` take several values: `upsampler=naf,bilinear`;
            of denoising `restorer` and `noise.level` do.
        config_dir: a folder with files and groups of one's own.

    Raises:
        ValueError: for anything that Hydra or the types refuse, in one line.
    """
    given = _listed(overrides, _LISTS_OF_DENOISE if task == "denoise" else _LISTS)
    package = f"naf.configs.evaluation.{_FOLDER_OF.get(task, task)}"
    values = plain(_compose(package, task, given, config_dir))
    files = chosen(package, task, given, config_dir)
    own = [f"{group}={files[group]}" for group in ("dataset", "noise", "protocol") if group in files]
    values["plain_protocol"] = plain(_compose(package, task, own, config_dir, is_whole=False))["protocol"]
    if values["task"] != task:
        raise ValueError(f"task is {values['task']!r}, expected {task}: each task is a verb of its own")
    if task == "denoise":
        _check_denoise(values)
        return values
    if values["sizes"] is not None and task != "ratio":
        raise ValueError(f"sizes is {values['sizes']!r}, expected none: the sizes are of the ratio study")
    if values["head"] not in ("linear", "dense"):
        raise ValueError(f"head is {values['head']!r}, expected linear or dense")
    if values["workers"] < 0:
        raise ValueError(f"workers is {values['workers']}, expected at least 0")
    for key, number in values["limit"].items():
        if number is not None and not _is_whole(number, 1):
            raise ValueError(f"limit.{key} is {number!r}, expected a whole number from 1 up, or null")
    values["seeds"] = _seeds(values["seeds"], task)
    return values


def _compose(
    package: str, task: str, overrides: Sequence[str], config_dir: Path | None, *, is_whole: bool = True
) -> DictConfig:
    schema = DenoiseConfig if task == "denoise" else EvaluationConfig
    return compose(package, task, schema, overrides, config_dir, is_whole=is_whole)


def _check_denoise(values: dict[str, Any]) -> None:
    for key, least in (("limit", 1), ("seed", 0), ("pictures", 0), ("memory_budget", 0)):
        number = values[key]
        if not _is_whole(number, least) and (key, number) != ("limit", None):
            raise ValueError(f"{key} is {number!r}, expected a whole number from {least} up")


def _listed(overrides: Sequence[str], lists: Sequence[str]) -> list[str]:
    """Overrides with several values as lists."""
    lines = []
    for line in overrides:
        key, _, value = line.partition("=")
        if key == _LEVEL and key in lists:
            lines.append(_levels(line))
            continue
        if key in lists and value[:1] not in ("[", "{", "'", '"', ""):
            parts = [quoted(part) if "=" in part else part for part in value.split(",")]
            line = f"{key}=[{','.join(parts)}]"
        with readable():
            override = OverridesParser.create().parse_overrides([line])[0]
        if override.is_sweep_override():
            raise ValueError(f"{line}: {key} takes one value; several are taken by {', '.join(lists)}")
        if override.key_or_group in lists and not (override.is_add() or override.is_delete()):
            lines.append(f"{override.key_or_group}=null")  # what a file says is replaced, a list as well as a mapping
        lines.append(line)
    return lines


def _levels(line: str) -> str:
    """An override of the level of noise; several values are pairs, so that two of them are not taken for a range."""
    with readable():
        override = OverridesParser.create().parse_overrides([line])[0]
    if not override.is_choice_sweep():
        if override.is_sweep_override():
            raise ValueError(f"{line}: expected numbers or [LOW,HIGH], several with commas")
        return line
    given = list(override.sweep_iterator(transformer=lambda level: level))
    pairs = [level if isinstance(level, list) else [level, level] for level in given]
    return f"{_LEVEL}=[{','.join('[' + ','.join(map(str, pair)) + ']' for pair in pairs)}]"


def _seeds(values: Any, task: str) -> list[int]:
    if task == "video":
        if values != []:
            raise ValueError(f"seeds is {values!r}, expected none: nothing in label propagation is random")
        return []
    seeds = values if isinstance(values, list) else [values]
    if not seeds or not all(_is_whole(seed, 0) for seed in seeds):
        raise ValueError(f"seeds is {values!r}, expected whole numbers from 0 up")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds is {seeds}, expected each once")
    return seeds


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
