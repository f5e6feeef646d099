"""Depth sets made of an image file and a depth file for each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from naf.data.depth.base import DepthError, DepthSet
from naf.data.paired import check_same_size, read_file

SATURATED = 65535  # the largest value of 16 bits, which some sensors write where they measure nothing


@dataclass(frozen=True)
class DepthPair:
    """An image and its depth map.

    Attributes:
        name: unique in the set; its folders are the scene.
        image: file of the image.
        depth: file of the depth map, one channel of 16 bits.
        units: of the depth map, per metre.
    """

    name: str
    image: Path
    depth: Path
    units: float


class PairSet(DepthSet):
    """One split of a set of pairs of files.

    Args:
        key: what records call the set.
        split: "train", "val" or "all".
        pairs: in a fixed order.
        missing: values of the depth files that are no measurement.
        listed_in: file or folder that the pairs were found by, for errors.
        expected: images in the official split, if there is one.
        remarks: what else differs from the official set.

    Raises:
        DepthError: if there are no pairs, a file is not there, or units are no number above 0.
    """

    def __init__(
        self,
        key: str,
        split: str,
        pairs: Sequence[DepthPair],
        *,
        missing: Sequence[int],
        listed_in: Path,
        expected: int | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        super().__init__(
            key, split, [pair.name for pair in pairs], listed_in=listed_in, expected=expected, remarks=remarks
        )
        for pair in pairs:
            check_units(pair.units, listed_in)
            for path in (pair.image, pair.depth):
                if not path.is_file():
                    raise DepthError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; see {listed_in}")
        self.pairs, self.missing = list(pairs), tuple(missing)

    def read_image(self, index: int) -> Image.Image:
        """See `DepthSet.read_image`."""
        return read_file(self.pairs[index].image, lambda image: image.convert("RGB"), DepthError)

    def files(self, index: int) -> tuple[Path, ...]:
        """Of an image and its depth map."""
        return self.pairs[index].image, self.pairs[index].depth

    def read_depth(self, index: int) -> NDArray[np.float32]:
        """See `DepthSet.read_depth`."""
        pair = self.pairs[index]
        values = read_file(pair.depth, lambda image: _counts(pair.depth, image), DepthError)
        check_same_size(pair.depth, values.shape, pair.image, DepthError)
        depth = (values / pair.units).astype(np.float32)
        depth[np.isin(values, self.missing)] = 0
        return depth


def check_units(units: float, where: Path) -> None:
    """Refuse units per metre that are no number above 0.

    Raises:
        DepthError: names the file or folder.
    """
    if not 0 < units < math.inf:
        raise DepthError(f"{where}: units per metre are {units}, expected a number above 0, such as 1000")


def _counts(path: Path, image: Image.Image) -> NDArray[Any]:
    """Values of a depth file, (H, W) integers."""
    # Pillow gives 16-bit grey as "I;16" and its kin, in older versions as "I".
    if image.mode != "I" and not image.mode.startswith("I;16"):
        raise DepthError(f"{path}: is a picture of mode {image.mode}, expected one channel of 16-bit depth (mode I;16)")
    return np.array(image)
