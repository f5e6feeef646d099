"""Images with a depth for every pixel: what every depth set gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from naf.data.paired import split_note

SPLITS = ("train", "val", "all")


class DepthError(ValueError):
    """A depth set that is missing, incomplete or not what its layout says."""


class DepthSet(ABC):
    """One split of a depth set.

    Args:
        key: what records call the set.
        split: "train", "val" or "all".
        names: of the images, in a fixed order, unique in the set.
        listed_in: file or folder that the images were found by, for errors.
        expected: images in the official split, if there is one.
        remarks: what else differs from the official set.

    Raises:
        DepthError: if there are no images.
    """

    def __init__(
        self,
        key: str,
        split: str,
        names: Sequence[str],
        *,
        listed_in: Path,
        expected: int | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        if not names:
            raise DepthError(f"{listed_in}: no images of split {split!r} of {key}, expected at least one")
        self.key, self.split, self.names = key, split, list(names)
        self.expected, self._remarks = expected, tuple(remarks)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"{self.key} {self.split}: {len(self):,} images"

    @property
    def note(self) -> str:
        """How the split differs from the official one; empty where it does not."""
        return split_note(len(self), self.expected, self._remarks)

    @abstractmethod
    def read_image(self, index: int) -> Image.Image:
        """An image, mode RGB, as it lies in the file: depth maps know no EXIF orientation.

        Raises:
            DepthError: if the file is missing or damaged.
        """

    @abstractmethod
    def files(self, index: int) -> tuple[Path, ...]:
        """That an image and its depth are read from."""

    @abstractmethod
    def read_depth(self, index: int) -> NDArray[np.float32]:
        """Depth of every pixel: (H, W) float32, metres, 0 where there is no measurement.

        Raises:
            DepthError: if the file is missing, damaged, of another kind than the set has or of another size than the
                image.
        """


def check_split(key: str, split: str) -> None:
    """Refuse a split that no depth set has.

    Raises:
        DepthError: says which there are.
    """
    if split not in SPLITS:
        raise DepthError(f"split of {key} is {split!r}, expected {', '.join(SPLITS)}")
