"""KITTI-360, left camera: the classes of Cityscapes on frames of nine drives."""

from __future__ import annotations

import random
from pathlib import Path

from naf.data.labelled.base import IGNORED, LabelledImage, LabelledSet
from naf.data.labelled.cityscapes import CLASSES, SCORED
from naf.data.labelled.layout import check_files, expected_count, find_folder, list_folders, list_names

COUNTS = {"train": 49_024, "val": 12_256}
# Garage, gate and small pole are scored, as in NAF's code, though the set's own rules leave them out.
ID_TO_CLASS = {
    **dict.fromkeys((*range(45), 255), IGNORED),  # 255 is how an 8-bit file holds -1
    **{id_: k for k, id_ in enumerate(SCORED)},
    34: CLASSES.index("building"),
    35: CLASSES.index("fence"),
    37: CLASSES.index("pole"),
}
_SOURCE = "https://www.cvlibs.net/datasets/kitti-360"
_SEED, _TRAIN_SHARE = 42, 0.8


def load(root: str | Path, split: str) -> LabelledSet:
    """A split of KITTI-360.

    The split is random over all labelled frames, as in NAF's code, so neighbouring frames are on both sides. That code
    shuffles them in the order of the file system; here they are sorted first, so the split is the same everywhere, but
    not the authors' own.

    Args:
        root: folder with `KITTI-360`, or that folder.
        split: "train" or "val".

    Raises:
        LabelError: if a folder is missing, or the image of a label map. Most raw frames have no label map.
    """
    expected = expected_count("kitti360", split, COUNTS)
    folder = find_folder(root, "KITTI-360", "data_2d_semantics", _SOURCE)
    labels, images = folder / "data_2d_semantics/train", folder / "data_2d_raw"
    pairs = []
    for drive in list_folders(labels):
        of_drive = labels / drive / "image_00/semantic"
        pairs += [
            LabelledImage(
                f"{drive}/{stem}", images / drive / f"image_00/data_rect/{stem}.png", of_drive / f"{stem}.png"
            )
            for stem in list_names(of_drive, ".png")
        ]
    random.Random(_SEED).shuffle(pairs)  # noqa: S311 (a split, not a secret)
    cut = int(_TRAIN_SHARE * len(pairs))
    pairs = pairs[:cut] if split == "train" else pairs[cut:]
    check_files(pairs, labels)
    return LabelledSet("kitti360", split, CLASSES, pairs, ID_TO_CLASS, listed_in=labels, expected=expected)
