"""A dry run: everything that a training does, in a few steps."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from naf.configs.compose import plain
from naf.training.config import stages_of
from naf.training.errors import TrainingError
from naf.training.export import export
from naf.training.metrics_file import read_metrics
from naf.training.run import run
from naf.training.trainer import METRICS

_STEPS = 2  # of a stage, and between checkpoints
_TOLERANCE = 1e-3  # relative; on a GPU sums may be added up in another order


def check_training(config: DictConfig, console: Console) -> None:
    """Train some steps of each stage in one process, validate, draw, stop, go on, export; all in FOLDER/sanity.

    Sizes are those of the configuration, so that what does not fit in memory shows here; a step has one image.

    Raises:
        TrainingError: if a run that went on from a checkpoint has other losses than one that was not stopped, or
            losses that are not finite.
        Exception: whatever else fails.
    """
    start, folder = time.monotonic(), Path(config.folder) / "sanity"
    if folder.exists():
        shutil.rmtree(folder)
    short = _shortened(config)
    runs = {name: folder / name for name in ("whole", "stopped")}
    run(_merged(short, {"folder": str(runs["whole"])}), console)
    for stop in (_STEPS, None):
        run(_merged(short, {"folder": str(runs["stopped"])}), console, stop=stop)
    whole, stopped = (_losses(path) for path in runs.values())
    if len(whole) != len(stopped) or not all(
        math.isclose(*pair, rel_tol=_TOLERANCE) for pair in zip(whole, stopped, strict=True)
    ):
        raise TrainingError(f"losses differ: {whole} without a stop, {stopped} with one at step {_STEPS}")
    exported = export(runs["whole"], folder / "upsampler.safetensors")
    console.print(
        f"all is well: {len(whole)} steps of {len(stages_of(config))} stages, a stop and going on, validation, export "
        f"({exported.file}), {time.monotonic() - start:.0f} s",
        markup=False,
    )


def _shortened(config: DictConfig) -> DictConfig:
    lengths = {name: (stage or {}).get("steps") for name, stage in plain(config)["stages"].items()}
    steps = _STEPS if sum(map(bool, lengths.values())) > 1 else 2 * _STEPS
    changes = {
        "sanity": False,
        "resume": "auto",
        "stages": {name: {"steps": steps if length else 0, "batch_size": 1} for name, length in lengths.items()},
        "checkpoint_every": _STEPS,
        "validate_every": _STEPS,
        "pictures": min(1, config.pictures),
        "pictures_every": _STEPS,
        "log_every": 1,
        "data": {"val_photos": min(2, config.data.val_photos), "workers": 0},
        "trainer": {"devices": 1, "num_nodes": 1, "strategy": "auto"},
    }
    return _merged(config, changes)


def _merged(config: DictConfig, changes: dict[str, Any]) -> DictConfig:
    config = config.copy()
    OmegaConf.set_struct(config, False)
    merged = OmegaConf.merge(config, changes)
    assert isinstance(merged, DictConfig)
    return merged


def _losses(folder: Path) -> list[float]:
    return [row["train/loss"] for row in read_metrics(folder / METRICS) if "train/loss" in row]
