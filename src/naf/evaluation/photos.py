"""Clean photos that noise is put on: folders, brought to a size or as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from naf.data import read_image
from naf.data.image import EXTENSIONS
from naf.data.paired import split_note

_LEAST = 6  # pixels of a side that SSIM takes


@dataclass(frozen=True)
class Layout:
    """How a set lies on disk.

    Attributes:
        folders: that the images may be in, below the root; else they are in the root itself.
        expected: images of the whole set; None for a folder of one's own.
    """

    folders: Sequence[str] = ()
    expected: int | None = None


LAYOUTS: Mapping[str, Layout] = {
    "imagenet": Layout(("ILSVRC2012/val", "val"), 50_000),
    "cbsd68": Layout(("CBSD68",), 68),
    "kodak24": Layout(("Kodak24",), 24),
    "folder": Layout(),
}
"""By the key of the set."""


class PhotoError(ValueError):
    """A set of photos that is missing or empty."""


class PhotoSet:
    """All images below a folder, sorted by their path; hidden ones are left out.

    Args:
        key: one of LAYOUTS.
        root: folder that holds the set, or is it.

    Raises:
        PhotoError: for an unknown key, a missing folder, or one without images.
    """

    def __init__(self, key: str, root: str | Path) -> None:
        if key not in LAYOUTS:
            raise PhotoError(f"dataset.key is {key!r}, expected one of {', '.join(LAYOUTS)}")
        root, layout = Path(root), LAYOUTS[key]
        if not root.is_dir():
            raise PhotoError(f"{root}: no such folder, expected one with the images of {key}")
        folder = next((root / name for name in layout.folders if (root / name).is_dir()), root)
        found = ((path.relative_to(folder), path) for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
        images = {
            inside.as_posix(): path
            for inside, path in found
            if not any(part.startswith(".") for part in inside.parts) and path.is_file()
        }
        if not images:
            raise PhotoError(f"{folder}: no images, expected at least one of {key}")
        self.key, self._expected = key, layout.expected
        self.names = sorted(images)
        self._images = images

    def __len__(self) -> int:
        return len(self.names)

    @property
    def note(self) -> str:
        """How the set differs from the whole one; empty where it does not."""
        return split_note(len(self), self._expected, ())

    def files(self, index: int) -> Sequence[Path]:
        """Of an image."""
        return [self._images[self.names[index]]]

    def read_image(self, index: int) -> Image.Image:
        """RGB, 8 bits a channel.

        Raises:
            naf.data.ImageError: naming the file, if it is damaged.
        """
        pixels = read_image(self.files(index)[0]).mul(255).round().byte()
        return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))


def bring(image: Image.Image, size: int | None, crop: int | None) -> Tensor:
    """An image at the size of a protocol.

    Args:
        image: mode RGB.
        size: of the shorter side after resizing, as :mod:`naf.data.labelled.geometry` does; None for no resizing.
        crop: side of the square that is cut from the middle; None for the whole image.

    Returns:
        (1, 3, H, W) float32, values from 0 to 1.

    Raises:
        ValueError: if the image is smaller than the crop, or has fewer than 6 pixels on a side, which no SSIM takes.
    """
    if size is not None:
        short = min(image.size)
        width, height = (size if side == short else int(size * side / short) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if min(image.size) < (crop or _LEAST):
        raise ValueError(f"is {image.width} x {image.height} pixels, expected at least {crop or _LEAST} on each side")
    if crop is not None:
        left, top = round((image.width - crop) / 2), round((image.height - crop) / 2)
        image = image.crop((left, top, left + crop, top + crop))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()[None].float().div(255)
