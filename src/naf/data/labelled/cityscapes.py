"""Cityscapes, fine annotations: 19 of the 34 kinds of label are scored, the others ignored."""

from __future__ import annotations

from pathlib import Path

from naf.data.labelled.base import IGNORED, LabelledSet
from naf.data.labelled.layout import expected_count, find_folder, list_folders, list_names, pair

COUNTS = {"train": 2_975, "val": 500}
# fmt: off
CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic_light", "traffic_sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)
# fmt: on
SCORED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # label ids, in order of class
# 255 is how an 8-bit file holds -1.
ID_TO_CLASS = {**dict.fromkeys((*range(34), 255), IGNORED), **{id_: k for k, id_ in enumerate(SCORED)}}
_SOURCE = "https://www.cityscapes-dataset.com"


def load(root: str | Path, split: str) -> LabelledSet:
    """A split of Cityscapes, read from the `labelIds` files.

    Args:
        root: folder with `cityscapes`, or that folder.
        split: "train" or "val".

    Raises:
        LabelError: if a folder or a label map is missing.
    """
    expected = expected_count("cityscapes", split, COUNTS)
    folder = find_folder(root, "cityscapes", "gtFine", _SOURCE)
    images, labels = folder / "leftImg8bit" / split, folder / "gtFine" / split
    names = [
        f"{city}/{name}" for city in list_folders(images) for name in list_names(images / city, "_leftImg8bit.png")
    ]
    pairs = pair(names, (images, "_leftImg8bit.png"), (labels, "_gtFine_labelIds.png"), images)
    return LabelledSet("cityscapes", split, CLASSES, pairs, ID_TO_CLASS, listed_in=images, expected=expected)
