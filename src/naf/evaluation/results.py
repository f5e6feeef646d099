"""The folder of an evaluation's results: what is there is not computed again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import naf
from naf.benchmark.measure import machine
from naf.evaluation.record import EvaluationRecord, read_record
from naf.provenance import command, commit


@dataclass(frozen=True)
class Run:
    """One run: what its record is called, and all that decides its figures.

    Attributes:
        backbone: label; empty where there is none.
        upsampler: label, or a restorer's.
        seed: None where nothing is random.
        variant: see :class:`EvaluationRecord`.
        decisive: everything that decides the figures; plain values.
    """

    backbone: str
    upsampler: str
    seed: int | None
    variant: str
    decisive: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Hash of all that decides the figures."""
        text = json.dumps({**self.decisive, "seed": self.seed, "variant": self.variant}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def __str__(self) -> str:
        parts = [self.backbone, self.variant, self.upsampler, "" if self.seed is None else f"seed {self.seed}"]
        return ", ".join(part for part in parts if part)


class Results:
    """Records in a folder, one file a run.

    Args:
        folder: made when the first record is written.
        device: that runs are computed on.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.device = folder, device
        self._commit, self._command = commit() or "", command()

    def path(self, run: Run, suffix: str = ".json") -> Path:
        """File of a run: names for people, the hash for the program."""
        seed = "" if run.seed is None else f"-seed{run.seed}"
        variant = f"-{run.variant}" if run.variant else ""
        name = f"{_plain(run.upsampler)}{_plain(variant)}{seed}-{run.digest}{suffix}"
        return self.folder / _plain(run.backbone) / name

    def find(self, run: Run) -> EvaluationRecord | None:
        """The record of a run, if it is there.

        Raises:
            ValueError: if its file is damaged.
        """
        path = self.path(run)
        try:
            return read_record(path) if path.exists() else None
        except ValueError as error:
            raise ValueError(f"{error}; mend it, or remove it to have the run computed again") from None

    def write(self, run: Run, record: EvaluationRecord) -> EvaluationRecord:
        """Complete a record by where and when it was made, and write it."""
        where = machine(self.device)
        complete = replace(
            record,
            machine=f"{where['device']}, {where['threads']} threads" if self.device.type == "cpu" else where["device"],
            versions={"naf": naf.__version__, "torch": where["torch"], "python": where["python"]},
            commit=self._commit,
            command=self._command,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        complete.write(self.path(run))
        return complete


def _plain(name: str) -> str:
    return re.sub(r"[^\w.,=+-]+", "_", name)
