"""Results of several runs in one table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naf.data.atomic import replace_file

_MEAN = "val/over_bilinear"
_RESTORED = {"psnr": "PSNR", "ssim": "SSIM"}


@dataclass(frozen=True)
class Row:
    """A run.

    Attributes:
        varied: value of each key that is not the same in all runs.
        result: of :func:`naf.training.run.run`; empty where it failed or has not been run.
        failure: why, else empty.
    """

    varied: Mapping[str, str]
    result: Mapping[str, Any]
    failure: str = ""


def write_table(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write table.md and table.csv: what varies, losses, results on held-out photos, parameters, seconds.

    Results are errors over bilinear's, of restorers PSNR and SSIM.

    Args:
        rows: the runs.
        folder: where to; made if need be.

    Returns:
        Paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = list(dict.fromkeys(key for row in rows for key in row.varied))
    sources = dict.fromkeys(key for row in rows for key in row.result.get("validation", {}) if _is_of_source(key))
    restored = dict.fromkeys(key for row in rows for key in row.result.get("validation", {}) if _is_restored(key))
    errors = [*restored] or [_MEAN, *(sources if len(sources) > 1 else ())]
    headings = [*keys, "train loss", *map(_heading, errors), "parameters", "seconds", "failure"]
    lines = [
        [
            *(row.varied.get(key, "") for key in keys),
            _text(row.result.get("train_loss")),
            *(_text(row.result.get("validation", {}).get(key)) for key in errors),
            _text(row.result.get("parameters")),
            _text(row.result.get("seconds")),
            row.failure,
        ]
        for row in rows
    ]
    if not any(row.failure for row in rows):
        headings, lines = headings[:-1], [line[:-1] for line in lines]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([headings, *lines])
    made = {
        "table.md": "\n".join(_markdown_line(line) for line in [headings, ["---"] * len(headings), *lines]) + "\n",
        "table.csv": text.getvalue(),
    }
    for name, content in made.items():
        replace_file(folder / name, lambda path, content=content: path.write_text(content, newline=""))  # type: ignore[misc]
    return [folder / name for name in made]


def _is_of_source(key: str) -> bool:
    return key.endswith("/over_bilinear") and key != _MEAN


def _is_restored(key: str) -> bool:
    return key.rpartition("/")[2] in _RESTORED


def _heading(key: str) -> str:
    if _is_restored(key):
        return f"{_RESTORED[key.rpartition('/')[2]]}, {key.split('/')[1]}"
    return "error over bilinear" + ("" if key == _MEAN else f", {key.split('/')[1]}")


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", r"\|").split()) for cell in cells) + " |"
