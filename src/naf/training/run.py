"""One training run in its folder: begun, gone on with, or found finished."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

import naf
from naf.benchmark.measure import machine
from naf.configs.compose import plain
from naf.data.atomic import replace_file
from naf.provenance import command, commit
from naf.restoration import Restorer
from naf.training import build
from naf.training.checkpoint import LAST, read_checkpoint
from naf.training.config import check_same, stages_of
from naf.training.datamodule import PhotoData, whole_shares
from naf.training.errors import Interrupted, TrainingError
from naf.training.metrics_file import read_metrics
from naf.training.module import TrainingModule
from naf.training.network import name_of
from naf.training.photos import DataError
from naf.training.plan import Stage
from naf.training.restoration import RestorationModule
from naf.training.trainer import CHECKPOINTS, METRICS, make_trainer, precision_of, quiet

CONFIG, RESULT = "config.yaml", "result.json"
"""In the folder of a run."""

_FINAL_STEPS = 100  # whose mean is the final loss

Result = dict[str, Any]


def run(config: DictConfig, console: Console | None = None, *, stop: int | None = None) -> Result:
    """Train as configured, from the last checkpoint in the folder where there is one.

    The folder then holds config.yaml, metrics.csv, the loggers' files, samples/, checkpoints/ and result.json.

    Args:
        config: from :func:`naf.training.config.load`.
        console: where progress goes.
        stop: leave the run unfinished after so many steps, with a checkpoint.

    Returns:
        What is in result.json; of a finished run, without training again. Empty for a run that was left unfinished,
        and in the processes beside the first.

    Raises:
        TrainingError: if it cannot go on: a loss that is not finite, a checkpoint that cannot be read or written.
        Interrupted: by Ctrl-C or SIGTERM.
        ValueError: if the configuration does not hold together, or the folder holds a run of another.
    """
    console = console or Console()
    values = plain(config)
    folder = Path(values["folder"])
    if getattr(rank_zero_only, "rank", 0) == 0:  # the other processes begin while this one trains
        _begin(values, folder)
    if (folder / RESULT).exists():
        console.print(f"{folder}: finished already", markup=False)
        found: Result = json.loads((folder / RESULT).read_text())
        return found
    last = folder / CHECKPOINTS / LAST
    step = int(read_checkpoint(last)["global_step"]) if last.exists() else 0
    stages = stages_of(config)
    total = sum(stage.steps for stage in stages)
    module, data = _parts(values, stages)
    trainer = make_trainer(values, console, step, stop=min(total, stop or total), total=total, validates=bool(data.val))
    if not step:
        build.calibrate(module.feature_sources, data.train, stages, trainer.strategy.root_device)
    parameters = sum(parameter.numel() for parameter in module.upsampler.parameters())
    if trainer.is_global_zero:
        begun = f"from step {step} of {total}" if step else f"{total} steps"
        for stage in stages:
            batch = whole_shares(stage.batch_size, trainer.world_size)
            if batch != stage.batch_size:
                console.print(f"steps of {batch} images in place of {stage.batch_size}, for all processes to have some")
        console.print(f"{folder}: {begun}, {name_of(module.upsampler)} with {parameters:,} parameters", markup=False)
    with _told(trainer, folder), _closed(trainer, module):
        trainer.fit(module, datamodule=data, ckpt_path=last if step else None, weights_only=True)
        if data.val and module.validated_at < trainer.global_step == total:
            trainer.validate(module, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return {}
    if trainer.global_step < total:
        console.print(f"{folder}: left at step {trainer.global_step} of {total}", markup=False)
        return {}
    result = {
        "steps": total,
        "parameters": parameters,
        "train_loss": _final_loss(folder / METRICS),
        "validation": module.validation,
        "seconds": round(module.seconds, 1),
        "versions": {"naf": naf.__version__, "torch": torch.__version__, "lightning": L.__version__},
        "machine": f"{trainer.world_size} x {machine(trainer.strategy.root_device)['device']}",
        "commit": commit(),
        "command": command(),
    }
    _write(folder / RESULT, json.dumps(result, indent=2) + "\n")
    console.print(f"{folder}: finished, {module.seconds:.0f} s, loss {result['train_loss']:.4g}", markup=False)
    return result


def _begin(values: Mapping[str, Any], folder: Path) -> None:
    """Note the configuration in the folder, or find that it is the one of the run there."""
    if not any((folder / kept).exists() for kept in (RESULT, f"{CHECKPOINTS}/{LAST}")):
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(values))))
        return
    if values["resume"] == "never":
        raise ValueError(f"folder {folder} holds a run already and resume is never: give another folder=…")
    before = OmegaConf.to_container(OmegaConf.load(folder / CONFIG))
    assert isinstance(before, dict)
    check_same({str(key): value for key, value in before.items()}, values, folder)


def _parts(values: Mapping[str, Any], stages: list[Stage]) -> tuple[TrainingModule, PhotoData]:
    sources = build.make_sources(values)
    network = build.make_network(values, sources)
    objective = build.make_objective(values, sources)
    held_out = build.make_validation_photos(values, sources)
    kind = RestorationModule if isinstance(network, Restorer) else TrainingModule
    module = kind(
        network,
        objective,
        sources,
        stages,
        optimizer=build.make_optimizer(values),
        **build.optimizer_options(values),
        log_every=values["log_every"],
        caches=build.make_caches(values, sources, precision_of(values)),
        validated=list(held_out),
    )
    data = PhotoData(
        stages,
        sources,
        build.make_photos(values, sources, objective),
        held_out,
        seed=values["seed"],
        steps_per_epoch=values["checkpoint_every"],
        val_photos=values["data"]["val_photos"],
        workers=values["data"]["workers"],
    )
    return module, data


@contextmanager
def _told(trainer: L.Trainer, folder: Path) -> Iterator[None]:
    """What ends a training before its time, in a line that says from where it goes on."""

    def going_on() -> str:
        last = folder / CHECKPOINTS / LAST
        where = f"step {read_checkpoint(last)['global_step']}" if last.exists() else "the start"
        return f"the same command goes on from {where}"

    try:
        with quiet():
            yield
    except MisconfigurationException as error:
        raise ValueError(" ".join(str(error).split())) from error
    except DataError as error:
        raise DataError(_without_traceback(error)) from error
    except OSError as error:  # of the log or the pictures, where a disk is full
        raise TrainingError(
            f"stopped at step {trainer.global_step}: {_without_traceback(error)}. With that mended, {going_on()}"
        ) from error
    except SystemExit as leaving:
        if not isinstance(leaving, SIGTERMException) and not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it from then on
        raise Interrupted(f"stopped at step {trainer.global_step}: {going_on()}") from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "wandb":  # which may not be installed
            raise
        raise ValueError(f"logger.wandb: {error}") from error


@contextmanager
def _closed(trainer: L.Trainer, module: TrainingModule) -> Iterator[None]:
    """Caches are written and runs at Weights & Biases closed: the next run of this process is another."""
    is_whole = False
    try:
        yield
        is_whole = True
    finally:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None and any(isinstance(x, WandbLogger) for x in trainer.loggers):
            wandb.finish(exit_code=0 if is_whole else 1)
        for cache in module.caches.values():
            cache.flush()


def _without_traceback(error: Exception) -> str:
    """The message alone of an error from a process that loads photos, which PyTorch puts a traceback before."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].strip() if "\nOriginal Traceback" in text else text


def _final_loss(path: Path) -> float:
    rows = [row for row in read_metrics(path) if "train/loss" in row]
    last = [row["train/loss"] for row in rows if row["step"] > rows[-1]["step"] - _FINAL_STEPS]
    return math.fsum(last) / len(last)


def _write(path: Path, text: str) -> None:
    replace_file(path, lambda temporary: temporary.write_text(text))
