"""Depth sets made of an image file and a depth file for each image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from naf.data.depth.base import DepthError, DepthSet

SATURATED = 65535  # the largest value of 16 bits, which some sensors write where they measure nothing

T = TypeVar("T")


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
        return _read(self.pairs[index].image, lambda image: image.convert("RGB"))

    def files(self, index: int) -> tuple[Path, ...]:
        """Of an image and its depth map."""
        return self.pairs[index].image, self.pairs[index].depth

    def read_depth(self, index: int) -> NDArray[np.float32]:
        """See `DepthSet.read_depth`."""
        pair = self.pairs[index]
        values = _read(pair.depth, lambda image: _counts(pair.depth, image))
        height, width = values.shape
        size = _read(pair.image, lambda image: image.size)
        if size != (width, height):
            raise DepthError(
                f"{pair.depth} has {width} x {height} pixels, its image {pair.image} {size[0]} x {size[1]}: expected"
                " the same size"
            )
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


def _read(path: Path, convert: Callable[[Image.Image], T]) -> T:
    try:
        with Image.open(path) as image:
            return convert(image)
    except DepthError:
        raise
    except FileNotFoundError as error:
        raise DepthError(f"{path}: no such file, expected an image") from error
    except UnidentifiedImageError as error:
        raise DepthError(f"{path}: is no image that Pillow can read, whatever its name says") from error
    except Exception as error:  # decoders fail on damaged files in every way
        raise DepthError(f"{path}: damaged or unreadable: {error}") from error
