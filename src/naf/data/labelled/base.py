"""Images with a class for every pixel: what every segmentation set gives, and how its files are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from naf.data.paired import check_same_size, read_file, split_note

IGNORED = 255


class LabelError(ValueError):
    """A segmentation set that is missing, incomplete or not what its layout says."""


@dataclass(frozen=True)
class LabelledImage:
    """An image and its label map.

    Attributes:
        name: short, unique in the set.
        image: file of the image.
        label: file of the label map.
    """

    name: str
    image: Path
    label: Path


class LabelledSet:
    """One split of a segmentation set.

    Args:
        key: what records call the set.
        split: "train", "val", …
        classes: their names, in order of id.
        pairs: images and label maps, in a fixed order.
        raw_to_class: class of each value that a label file may hold, 255 for those that are ignored. Other values are
            errors.
        listed_in: file or folder that the pairs were found by, for errors.
        expected: images in the official split, if there is one.
        remarks: what else differs from the official set.

    Attributes:
        lookup: (256,) uint8, class or 255 of each value of a label file.
        legal: (256,) bool, whether a label file may hold the value.

    Raises:
        LabelError: if there are no pairs, or two classes of the same name.
    """

    def __init__(
        self,
        key: str,
        split: str,
        classes: Sequence[str],
        pairs: Sequence[LabelledImage],
        raw_to_class: Mapping[int, int],
        *,
        listed_in: Path,
        expected: int | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        if not pairs:
            raise LabelError(f"{listed_in}: no images of split {split!r} of {key}, expected at least one")
        if twice := sorted({name for name in classes if list(classes).count(name) > 1}):
            raise LabelError(f"{key}: class {twice[0]!r} is named twice, expected names that differ")
        self.key, self.split, self.classes = key, split, tuple(classes)
        self.pairs, self.expected, self._remarks = list(pairs), expected, tuple(remarks)
        self.lookup: NDArray[np.uint8] = np.full(256, IGNORED, dtype=np.uint8)
        self.legal = np.zeros(256, dtype=bool)
        for raw, id_ in raw_to_class.items():
            self.lookup[raw], self.legal[raw] = id_, True

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return f"{self.key} {self.split}: {len(self):,} images, {len(self.classes)} classes"

    @property
    def names(self) -> list[str]:
        """Of the images, in their order."""
        return [pair.name for pair in self.pairs]

    @property
    def note(self) -> str:
        """How the split differs from the official one; empty where it does not."""
        return split_note(len(self), self.expected, self._remarks)

    def files(self, index: int) -> tuple[Path, Path]:
        """Of an image and its label map."""
        return self.pairs[index].image, self.pairs[index].label

    def read_image(self, index: int) -> Image.Image:
        """An image, mode RGB, as it lies in the file: label maps know no EXIF orientation.

        Raises:
            LabelError: if the file is missing or damaged.
        """
        return read_file(self.pairs[index].image, lambda image: image.convert("RGB"), LabelError)

    def read_label(self, index: int) -> NDArray[np.uint8]:
        """Class of every pixel: (H, W) uint8, 255 where ignored.

        Raises:
            LabelError: if the file is missing, damaged, a colour picture, of another size than its image, or holds a
                value that the set does not know.
        """
        pair = self.pairs[index]
        raw = read_file(pair.label, lambda image: _indices(pair.label, image), LabelError)
        check_same_size(pair.label, raw.shape, pair.image, LabelError)
        low, high = int(raw.min()), int(raw.max())
        is_byte = low >= 0 and high <= 255
        if not is_byte or not self.legal[raw].all():
            values = np.unique(raw).tolist()
            wrong = next(value for value in values if not 0 <= value <= 255 or not self.legal[value])
            raise LabelError(f"{pair.label}: value {wrong} is no label of {self.key}, expected {self._legal_values()}")
        label: NDArray[np.uint8] = self.lookup[raw]
        return label

    def _legal_values(self) -> str:
        """The values that label files may hold, as ranges."""
        values = np.flatnonzero(self.legal)
        runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
        return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _indices(path: Path, image: Image.Image) -> NDArray[Any]:
    """Values of an image of one channel, (H, W) integers; of a palette image the indices."""
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        raise LabelError(f"{path}: is a picture of mode {image.mode}, expected one channel with an id in each pixel")
    values = np.array(image)
    return values.astype(np.uint8) if values.dtype == bool else values
