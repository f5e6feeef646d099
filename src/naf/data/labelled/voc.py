"""Pascal VOC 2012: 20 kinds of object and background; object borders are ignored."""

from __future__ import annotations

from pathlib import Path

from naf.data.labelled.base import IGNORED, LabelledSet
from naf.data.labelled.layout import expected_count, find_folder, pair, read_list

COUNTS = {"train": 1464, "val": 1449}  # VOC's own train, not the 10,582 of "trainaug"
# fmt: off
CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
_SOURCE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"


def load(root: str | Path, split: str) -> LabelledSet:
    """A split of Pascal VOC 2012.

    Args:
        root: folder with `VOCdevkit/VOC2012`, or that folder.
        split: "train" or "val".

    Raises:
        LabelError: if a folder, the list of the split or a file in it is missing.
    """
    expected = expected_count("voc", split, COUNTS)
    folder = find_folder(root, "VOCdevkit/VOC2012", "SegmentationClass", _SOURCE)
    listing = folder / "ImageSets/Segmentation" / f"{split}.txt"
    pairs = pair(
        read_list(listing, f"it is in {_SOURCE}"),
        (folder / "JPEGImages", ".jpg"),
        (folder / "SegmentationClass", ".png"),
        listing,
    )
    raw_to_class = {**{id_: id_ for id_ in range(len(CLASSES))}, 255: IGNORED}
    return LabelledSet("voc", split, CLASSES, pairs, raw_to_class, listed_in=listing, expected=expected)
