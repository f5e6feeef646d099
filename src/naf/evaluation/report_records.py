"""Records from a folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from naf.evaluation.record import FORMAT, EvaluationRecord

_FAMILY = FORMAT.rsplit(" ", 1)[0]


class ReportError(ValueError):
    """Records that are damaged, or none."""


def read_records(folder: Path) -> list[EvaluationRecord]:
    """All records in a folder and those below it, in the order of their paths; other JSON files are passed over.

    Args:
        folder: where the evaluations wrote.

    Raises:
        ReportError: if it is no folder, or naming the files that are damaged.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder} is no folder, expected one with records of evaluations")
    records, damaged = [], []
    for path in sorted(folder.rglob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(values, dict) and str(values.get("format", "")).startswith(_FAMILY):
                records.append(_record(values))
        except ValueError as error:  # of UTF-8 and JSON, too
            damaged.append(f"{path} ({error})")
    if damaged:
        raise ReportError(f"damaged files, mend or remove them: {'; '.join(damaged)}")
    return records


def _record(values: dict[str, Any]) -> EvaluationRecord:
    record = EvaluationRecord.from_dict(values)
    if not record.metrics:
        raise ValueError("metrics is empty, expected one at least")
    for name in ("images", "metrics"):
        for key, value in getattr(record, name).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name}: {key} is {value!r}, expected a finite number")
    return record
