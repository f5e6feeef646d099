"""Lightning's trainer as a configuration asks for it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from rich.console import Console

from naf.training import build
from naf.training.callbacks import Pictures, Report
from naf.training.checkpoint import WholeCheckpoints
from naf.training.metrics_file import MetricsFile

METRICS = "metrics.csv"
_PRECISIONS = ("32-true", "bf16-mixed")
_EXPECTED = (  # Lightning's and its libraries' warnings of what is meant to be so
    r".*module\(s\) in eval mode at the start of training",  # the sources
    r".*does not have many workers",
    r".*exists and is not empty",  # checkpoints of a run that goes on
    r".*smaller than the logging interval",
    r".*ended before the epoch ended",  # the last epoch is shorter
    r".*isinstance\(treespec, LeafSpec\)",
    r".*was called before the ``update`` method",  # a process without a held-out photo of a source
    r".*``compute`` method of metric MeanMetric",
)


def make_trainer(values: Mapping[str, Any], console: Console, step: int, stop: int, total: int) -> L.Trainer:
    """The trainer.

    Args:
        values: the configuration.
        console: where progress goes.
        step: that the run goes on from.
        stop: where it stops.
        total: steps of the run.

    Raises:
        ValueError: for arguments that Lightning does not take, or that contradict the rest of the configuration.
    """
    every, folder, given = values["checkpoint_every"], Path(values["folder"]), dict(values["trainer"])
    for key in ("checkpoint_every", "keep_checkpoints", "validate_every", "pictures_every", "log_every"):
        if values[key] < 1:
            raise ValueError(f"{key} is {values[key]}, expected at least 1")
    if values["validate_every"] % every:
        raise ValueError(
            f"validate_every is {values['validate_every']}, expected a multiple of checkpoint_every = {every}"
        )
    precision = precision_of(values)
    given.pop("precision")
    checkpoints = ModelCheckpoint(
        folder / "checkpoints",
        filename="{step:07d}",
        monitor="step",
        mode="max",
        save_top_k=values["keep_checkpoints"],
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    fixed: dict[str, Any] = {
        "precision": precision,
        "max_steps": stop,
        "max_epochs": -1,
        "logger": _loggers(values, folder, step),
        "callbacks": [
            Report(console, total),
            Pictures(folder / "samples", values["pictures"], values["pictures_every"], total),
            checkpoints,
        ],
        "plugins": [WholeCheckpoints()],
        "check_val_every_n_epoch": values["validate_every"] // every,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    for key in given:
        if key in fixed:
            raise ValueError(f"trainer.{key} cannot be given: the run sets it")
    try:
        with quiet():
            return L.Trainer(**given, **fixed)
    except (TypeError, ValueError, RuntimeError) as error:  # MisconfigurationException among them
        raise ValueError(f"trainer: {' '.join(str(error).split())}") from error


def precision_of(values: Mapping[str, Any]) -> str:
    """Of the steps: "auto" is bfloat16 products where CUDA is used, float32 elsewhere.

    Raises:
        ValueError: for another precision; float16 would need its loss scaled.
    """
    given = values["trainer"]
    precision = str(given["precision"])
    if precision == "auto":
        has_cuda = torch.cuda.is_available() and given["accelerator"] in ("auto", "gpu", "cuda")
        return "bf16-mixed" if has_cuda else "32-true"
    if precision not in _PRECISIONS:
        raise ValueError(f"trainer.precision is {precision!r}, expected auto, {', '.join(_PRECISIONS)}")
    return precision


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's advertisements, and without its warnings of what is meant to be so here."""
    logs = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _loggers(values: Mapping[str, Any], folder: Path, step: int) -> list[Logger]:
    loggers: list[Logger] = [MetricsFile(folder / METRICS, step)]
    for name, value in values["logger"].items():
        # Of the rows that a killed run logged behind its last checkpoint, TensorBoard shows the new ones alone.
        purge = {"purge_step": step + 1} if step and value["_target_"].endswith("TensorBoardLogger") else {}
        loggers.append(build.make(f"logger.{name}", {**value, **purge}))
    return loggers
