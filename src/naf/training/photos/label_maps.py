"""Label maps beside photos: human segmentations, classes, masks."""

from __future__ import annotations

import glob
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from naf.data import ImageError

_FIELDS = ("root", "parent", "name", "stem")


def check_template(template: str) -> None:
    """Refuse a template that names an unknown field.

    Raises:
        ValueError: says which fields there are.
    """
    try:
        template.format(**dict.fromkeys(_FIELDS, ""))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        fields = ", ".join(f"{{{field}}}" for field in _FIELDS)
        raise ValueError(f"segments is {template!r}, expected a path with fields among {fields}: {error!r}") from None


def find_label_maps(template: str, root: Path, photo: PurePosixPath) -> list[Path]:
    """Files that a template names for a photo, sorted.

    Args:
        template: a path with the fields {root}, {parent} (the photo's folder below the root), {name}, {stem} (of the
            photo's file), and wildcards `*`, `?`, `[…]`.
        root: folder of the photos.
        photo: the photo's path below it.
    """
    fields = {"root": str(root), "parent": str(photo.parent), "name": photo.name, "stem": photo.stem}
    pattern = template.format(**{field: glob.escape(value) for field, value in fields.items()})
    return sorted(Path(path) for path in glob.glob(pattern))  # noqa: PTH207 (Path.glob takes no absolute pattern)


def read_label_map(path: Path) -> Tensor:
    """Ids of the pixels: (H, W) int64, from an image of one channel; of a palette image the indices.

    Raises:
        ImageError: if the file is damaged, no image, or has several channels.
    """
    try:
        with Image.open(path) as image:
            labels = np.array(image)
    except Exception as error:  # decoders fail on damaged files in every way
        raise ImageError(f"{path}: damaged or unreadable: {error}") from error
    if labels.ndim != 2:
        raise ImageError(f"{path}: has {labels.shape[2]} channels, expected one with the id of each pixel")
    return torch.from_numpy(labels.astype(np.int64))
