"""Folders of images as clips."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from naf.data.image import EXTENSIONS, read_image
from naf.data.video.clip import Clip, ClipError

_FINEST = 1001  # denominator of a rate: 30000/1001 is one


@dataclass(frozen=True)
class FrameFolder(Clip):
    """A folder of frames; see :func:`open_folder`.

    Attributes:
        files: one a frame, in order.
    """

    files: tuple[Path, ...]

    def read(self, indices: Sequence[int]) -> Iterator[Tensor]:
        """Some of the frames; see :meth:`Clip.read`.

        Raises:
            ImageError: if a file is damaged.
        """
        for index in indices:
            yield read_image(self.files[index])


def open_folder(path: Path, fps: float = 25.0, on_progress: Callable[[float], object] = lambda _: None) -> FrameFolder:
    """The images of a folder in natural order: frame2.png before frame10.png. Hidden files are passed over.

    Every image is read once, so that none is found damaged in the middle of the work.

    Args:
        path: the folder.
        fps: frames a second, above 0 and at most 1000.
        on_progress: called with the share done, 0 … 1.

    Raises:
        ClipError: if the folder holds no image, or images of different sizes.
        ImageError: if a file is damaged.
        ValueError: for a rate that makes no sense.
    """
    if not 0 < fps <= 1000:
        raise ValueError(f"fps is {fps:g}, expected frames a second, above 0 and at most 1000")
    found = (file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS and file.is_file())
    files = sorted((file for file in found if not file.name.startswith(".")), key=_natural)
    if not files:
        raise ClipError(f"folder {path} holds no image (looked for {', '.join(sorted(EXTENSIONS))})")
    digest, first = hashlib.sha256(), (0, 0)
    for number, file in enumerate(files):
        height, width = read_image(file).shape[1:]
        if not number:
            first = height, width
        if (height, width) != first:
            raise ClipError(
                f"{file} has {height}x{width} pixels, {files[0].name} has {first[0]}x{first[1]}: "
                "expected frames of one size"
            )
        digest.update(hashlib.sha256(file.read_bytes()).digest())
        on_progress((number + 1) / len(files))
    times = tuple(range(len(files) + 1))
    return FrameFolder(
        path, first, 1 / Fraction(fps).limit_denominator(_FINEST), times, digest.hexdigest(), "", (*files,)
    )


def _natural(file: Path) -> tuple[list[str | int], str]:
    """Runs of digits count as numbers."""
    parts = re.split(r"(\d+)", file.name.casefold())
    return [int(part) if odd % 2 else part for odd, part in enumerate(parts)], file.name
