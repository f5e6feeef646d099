"""Checkpoint files of a run: whole or absent, read without unpickling."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from naf.data.atomic import replace_file
from naf.training.errors import TrainingError

LAST = "last.ckpt"


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written to a temporary name in the same folder and renamed when complete."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            TrainingError: if the disk is full or the folder cannot be written to; earlier checkpoints stay.
        """
        del storage_options
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, lambda temporary: torch.save(checkpoint, temporary))
        except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError where a disk is full
            kept = [file for file in (path.parent / LAST, path) if file.exists()]
            raise TrainingError(
                f"checkpoint {path} cannot be written: {error}. "
                + (f"The last good one is {kept[0]}; " if kept else "There is none yet; ")
                + "make room and give the same command to go on"
            ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's contents, on the CPU.

    Raises:
        TrainingError: if it is damaged or holds more than tensors and plain values.
    """
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise TrainingError(f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}") from error
    return found
