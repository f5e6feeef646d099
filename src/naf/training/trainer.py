"""Lightning's trainer as a configuration asks for it."""

from __future__ import annotations

import logging
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger
from rich.console import Console

from naf.configs.targets import make
from naf.data.atomic import replace_file
from naf.training.callbacks import Pictures, Report
from naf.training.checkpoint import Checkpoints, WholeCheckpoints
from naf.training.metrics_file import MetricsFile

METRICS, CHECKPOINTS, WANDB_ID = "metrics.csv", "checkpoints", "wandb/id"
"""In the folder of a run."""

_PRECISIONS = ("32-true", "bf16-mixed")
_PARTLY_USED = ("anyup", "featup", "jafar")
"""Upsamplers whose published layout has parameters that reach no output, for FeatUp at ratios below 16."""
_OWN = {
    "accumulate_grad_batches": "stages.NAME.batch_size",
    "gradient_clip_val": "optimizer.clip_norm",
    "gradient_clip_algorithm": "optimizer.clip_norm",
    "limit_train_batches": "stages.NAME.steps",
    "overfit_batches": "stages.NAME.steps",
    "val_check_interval": "validate_every",
    "fast_dev_run": "sanity",
}
"""Arguments of Lightning that would go past the plan of the steps, and the keys that take their place."""
_EXPECTED = (  # Lightning's and its libraries' warnings of what is meant to be so
    r".*module\(s\) in eval mode at the start of training",  # the sources
    r".*does not have many workers",
    r".*smaller than the logging interval",
    r".*ended before the epoch ended",  # the last epoch is shorter
    r".*isinstance\(treespec, LeafSpec\)",
    r".*was called before the ``update`` method",  # a process without a held-out photo of a source
    r".*``compute`` method of metric MeanMetric",
)


def make_trainer(
    values: Mapping[str, Any], console: Console, step: int, *, stop: int, total: int, validates: bool
) -> L.Trainer:
    """The trainer.

    Args:
        values: the configuration.
        console: where progress goes.
        step: that the run goes on from.
        stop: where it stops.
        total: steps of the run.
        validates: whether there are held-out photos.

    Raises:
        ValueError: for arguments that Lightning does not take, or that contradict the rest of the configuration.
    """
    every, folder, given = values["checkpoint_every"], Path(values["folder"]), dict(values["trainer"])
    precision = precision_of(values)
    given.pop("precision")
    fixed: dict[str, Any] = {
        "precision": precision,
        "max_steps": stop,
        "max_epochs": -1,
        "check_val_every_n_epoch": values["validate_every"] // every,
        "limit_val_batches": 1.0 if validates else 0,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    for key in given:
        if key in {*fixed, *_OWN, "logger", "callbacks", "plugins"}:
            instead = f", see {_OWN[key]}" if key in _OWN else ""
            raise ValueError(f"trainer.{key} cannot be given: the run sets it{instead}")
    loggers = _loggers(values, folder, step)

    def make() -> L.Trainer:
        return L.Trainer(
            **given,
            **fixed,
            logger=loggers,
            callbacks=[
                Report(console, total),
                Pictures(folder / "samples", values["pictures"], values["pictures_every"], total),
                Checkpoints(folder / CHECKPOINTS, values["keep_checkpoints"]),
            ],
            plugins=[WholeCheckpoints()],
        )

    try:
        with quiet():
            trainer = make()
            if trainer.world_size > 1 and given["strategy"] == "auto" and values["upsampler"]["name"] in _PARTLY_USED:
                given["strategy"] = "ddp_find_unused_parameters_true"
                trainer = make()
            return trainer
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
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
        kind = str(value.get("_target_")).rpartition(".")[2]
        parts: dict[str, Any] = {}
        if kind == "TensorBoardLogger":
            # Of the rows that a killed run logged behind its last checkpoint, TensorBoard shows the new ones alone.
            parts = {"purge_step": step + 1 if step else 0}
        elif kind == "WandbLogger":
            # The one run goes on there too.
            path = folder / WANDB_ID
            if not (step and path.exists()):
                _new_id(path)
            identity = path.read_text() if path.exists() else None  # other processes than the first log nothing
            parts = {"id": identity, "config": dict(values), "allow_val_change": True}
        parts = {key: part for key, part in parts.items() if key not in value}
        loggers.append(make(f"logger.{name}", value, **parts))
    return loggers


@rank_zero_only
def _new_id(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    replace_file(path, lambda temporary: temporary.write_text(uuid.uuid4().hex))
