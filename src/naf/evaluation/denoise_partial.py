"""What a denoising run has measured so far, a line a batch: one that was stopped goes on from there."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from naf.data.atomic import replace_file


@dataclass(frozen=True)
class Measured:
    """A batch.

    Attributes:
        images: names.
        levels: of the noise, by image.
        psnr: by image, dB.
        ssim: by image, at most 1.
        psnr_released: of the batch, see :mod:`naf.restoration.metrics`.
        ssim_released: likewise.
        seconds: that restoring took.
    """

    images: list[str]
    levels: list[float]
    psnr: list[float]
    ssim: list[float]
    psnr_released: float
    ssim_released: float
    seconds: float


class Partial:
    """A file of measured batches, in their order.

    Args:
        path: made with the first batch.
        names: of all images, in their order; a file that does not begin with these is begun anew.

    Attributes:
        batches: measured so far.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
        self.batches: list[Measured] = []
        for line in lines:
            batch = _read(line)
            if batch is None or batch.images != list(names[len(self) : len(self) + len(batch.images)]):
                break
            self.batches.append(batch)
        if lines != [*map(_line, self.batches), ""]:  # a line that was not written whole, or something else
            path.parent.mkdir(parents=True, exist_ok=True)
            text = "".join(f"{_line(batch)}\n" for batch in self.batches)
            replace_file(path, partial(Path.write_text, data=text, encoding="utf-8"))

    def __len__(self) -> int:
        """Images measured so far."""
        return sum(len(batch.images) for batch in self.batches)

    def add(self, batch: Measured) -> None:
        """Write the next batch."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{_line(batch)}\n")
        self.batches.append(batch)

    def metrics(self) -> dict[str, float]:
        """Means over images, the released ones over batches; PSNR in dB, SSIM in per cent."""
        images = sum(len(batch.psnr) for batch in self.batches)
        return {
            "psnr": math.fsum(value for batch in self.batches for value in batch.psnr) / images,
            "ssim": 100 * math.fsum(value for batch in self.batches for value in batch.ssim) / images,
            "psnr_released": math.fsum(batch.psnr_released for batch in self.batches) / len(self.batches),
            "ssim_released": 100 * math.fsum(batch.ssim_released for batch in self.batches) / len(self.batches),
        }


def _line(batch: Measured) -> str:
    return json.dumps(asdict(batch), ensure_ascii=False)


def _read(line: str) -> Measured | None:
    try:
        return Measured(**json.loads(line))
    except (ValueError, TypeError):
        return None
