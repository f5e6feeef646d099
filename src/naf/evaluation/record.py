"""What one evaluation found, and everything that it depends on: one JSON file a run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from naf.data.atomic import replace_file

FORMAT = "naf evaluation 1"


@dataclass(frozen=True)
class EvaluationRecord:
    """A result and its circumstances.

    Attributes:
        task: "segmentation", "depth", "video", "filter", "ratio" or "denoise".
        protocol: what the settings follow, "paper" or "released"; results of different ones are never compared.
        deviations: settings that are other than that protocol's.
        dataset: key of the data set.
        images: numbers of images, by split.
        upsampler: label; of denoising the restorer's.
        backbone: label; empty where there is none.
        stride: of its features, pixels.
        channels: of its features.
        source: where its weights come from, in words; empty if it has none.
        checkpoint: sha256 of the values of its weights, empty if it has none.
        seed: None where nothing is random.
        variant: what sets the run apart from others of its backbone, "grid 28" in the ratio study, "gaussian 0.1" in
            denoising; else empty.
        settings: of the protocol.
        metrics: per cent for shares and SSIM, metres for distances, dB for PSNR.
        details: metrics by class, object, image or epoch.
        seconds: wall time.
        peak_mib: greatest memory of the process (CPU) or allocated (CUDA); None where it is not known.
        machine: device.
        versions: of what computed it.
        commit: of this repository, empty outside of one.
        command: that began the run.
        finished: ISO date and time, UTC.
        note: what a reader must know.
    """

    task: str
    protocol: str
    dataset: str
    images: dict[str, int]
    upsampler: str
    metrics: dict[str, float]
    settings: dict[str, Any]
    backbone: str = ""
    stride: int | None = None
    channels: int | None = None
    deviations: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    checkpoint: str = ""
    seed: int | None = None
    variant: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_mib: float | None = None
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    command: str = ""
    finished: str = ""
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EvaluationRecord:
        """Back from plain values.

        Raises:
            ValueError: if they are no record, lack a field or have an unknown one.
        """
        if values.get("format") != FORMAT:
            raise ValueError(f"format is {values.get('format')!r}, expected {FORMAT!r}")
        known = {each.name for each in fields(cls)}
        unknown = sorted(values.keys() - known - {"format"})
        if unknown:
            raise ValueError(f"fields {', '.join(unknown)} are unknown, expected {', '.join(sorted(known))}")
        try:
            return cls(**{key: value for key, value in values.items() if key != "format"})
        except TypeError as error:
            raise ValueError(f"fields are missing: {error}") from None

    def write(self, path: Path) -> None:
        """Write the JSON file, whole or not at all."""
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, partial(Path.write_text, data=text, encoding="utf-8"))


def read_record(path: Path) -> EvaluationRecord:
    """A record from its file.

    Raises:
        ValueError: naming the file, if it is damaged or something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"holds a {type(values).__name__}, expected an object")
        return EvaluationRecord.from_dict(values)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no evaluation record: {error}") from None
