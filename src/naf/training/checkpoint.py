"""Checkpoint files of a run: whole or absent, read without unpickling."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from naf.data.atomic import replace_file
from naf.training.errors import TrainingError

LAST = "last.ckpt"


class Checkpoints(Checkpoint):
    """After each epoch step=NUMBER.ckpt, the latest also as last.ckpt.

    Args:
        folder: where to.
        keep: so many of the latest.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    @property
    def last(self) -> Path | None:
        """The latest checkpoint, if there is one."""
        path = self.folder / LAST
        return path if path.exists() else None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write, then remove what is too old."""
        del pl_module
        path = self.folder / f"step={trainer.global_step:07d}.ckpt"
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            _write_whole(self.folder / LAST, lambda temporary: shutil.copyfile(path, temporary))
            for old in sorted(self.folder.glob("step=*.ckpt"))[: -self.keep]:
                old.unlink()
            for left in self.folder.glob(".*.partial"):  # by a kill
                left.unlink(missing_ok=True)


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written to a temporary name in the same folder and renamed when complete."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            TrainingError: if the disk is full or the folder cannot be written to; earlier checkpoints stay.
        """
        del storage_options
        _write_whole(Path(path), lambda temporary: torch.save(checkpoint, temporary))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's contents, on the CPU.

    Raises:
        TrainingError: if it is damaged or holds more than tensors and plain values.
    """
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        others = sorted(path.parent.glob("step=*.ckpt"))
        hint = f"; copy an earlier one over it, as {others[-1].name}, or remove it" if others else ""
        raise TrainingError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}{hint}") from error
    return found


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, write)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError where a disk is full
        last = path.parent / LAST
        kept = f"the last good one is {last}" if last.exists() else "there is none yet"
        raise TrainingError(
            f"checkpoint {path} cannot be written: {error}. Make room and give the same command again: {kept}"
        ) from error
