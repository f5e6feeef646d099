"""The figures of a run in one CSV file that outlives a kill."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from naf.data.atomic import replace_file


class MetricsFile(Logger):
    """Rows by step, a column for each metric; a row is in the file as soon as it is logged.

    Args:
        path: goes on where it is there.
        first_step: of this process. Later rows are dropped, since a run that goes on from a checkpoint makes them anew;
            of this step itself, what was found before it was trained stays.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        super().__init__()
        self.path, self.columns = path, ["step"]
        self._first_step = first_step
        self._is_open = False

    @property
    def name(self) -> str:
        """File name."""
        return self.path.name

    @property
    def version(self) -> str:
        """None of its own."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """They are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row."""
        if not self._is_open:
            self._rewrite([row for row in read_metrics(self.path) if self._is_kept(row)])
            self._is_open = True
        if any(key not in self.columns for key in metrics):
            self.columns += [key for key in metrics if key not in self.columns]
            self._rewrite(read_metrics(self.path))
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow({"step": step, **metrics})

    def _is_kept(self, row: dict[str, float]) -> bool:
        is_training = any(key.startswith("train/") for key in row)
        return row["step"] < self._first_step or (row["step"] == self._first_step and not is_training)

    def _rewrite(self, rows: list[dict[str, float]]) -> None:
        for row in rows:
            self.columns += [key for key in row if key not in self.columns]

        def write(path: Path) -> None:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, self.columns)
                writer.writeheader()
                writer.writerows(rows)

        replace_file(self.path, write)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Rows of a metrics file without their empty fields; none where there is no file.

    A last line that was cut off by a kill is left out.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        text = file.read()
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = []
    for row in csv.DictReader(lines):
        known = {key: float(value) for key, value in row.items() if value}
        rows.append({**known, "step": int(known["step"])})
    return rows
