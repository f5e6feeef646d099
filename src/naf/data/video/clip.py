"""The contract of clips: frames of one size, in order, each with its time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from torch import Tensor


class ClipError(ValueError):
    """A video or a folder of frames that is missing, damaged, empty or not of one size."""


@dataclass(frozen=True)
class Clip(ABC):
    """Frames on disk, found readable.

    Attributes:
        path: of the video file or of the folder.
        frame_size: (H, W) as the frames are seen: turned, pixels square.
        time_base: seconds a tick.
        times: ticks at which each frame appears, ascending from 0, and at which the last ends: one more than frames.
        digest: hash of the content.
        note: one line for the user where the file is not as it should be, else empty.
    """

    path: Path
    frame_size: tuple[int, int]
    time_base: Fraction
    times: tuple[int, ...]
    digest: str
    note: str

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.times) - 1

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return float(self.times[-1] * self.time_base)

    @abstractmethod
    def read(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Some of the frames.

        Args:
            indices: ascending.

        Yields:
            (3, H, W) float32, values from 0 to 1.

        Raises:
            ClipError: if a frame is damaged or has another size than the first.
        """
