"""Segmentation sets: images with a class for every pixel, each in the layout that its authors give it.

>>> from naf.data import labelled
>>> sorted(labelled.DATASETS)
['ade20k', 'camvid', 'cityscapes', 'coco27', 'folder', 'kitti360', 'voc']
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from naf.data.labelled import ade20k, camvid, cityscapes, coco_stuff, folder, kitti360, voc
from naf.data.labelled.base import IGNORED, LabelError, LabelledImage, LabelledSet
from naf.data.labelled.geometry import resize_depth, resize_image, resize_label

__all__ = [
    "DATASETS",
    "IGNORED",
    "Dataset",
    "LabelError",
    "LabelledImage",
    "LabelledSet",
    "create",
    "resize_depth",
    "resize_image",
    "resize_label",
]


class Dataset(NamedTuple):
    """A segmentation set that can be read.

    Attributes:
        title: its name in tables.
        splits: official splits and how many images they have; empty where any word is one.
        load: (root, split, **options) to the split.
    """

    title: str
    splits: dict[str, int]
    load: Callable[..., LabelledSet]

    @property
    def options(self) -> list[str]:
        """Names of what `load` takes beside root and split."""
        return list(inspect.signature(self.load).parameters)[2:]


DATASETS = {
    "voc": Dataset("Pascal VOC 2012", voc.COUNTS, voc.load),
    "coco27": Dataset("COCO-Stuff 27", coco_stuff.COUNTS, coco_stuff.load),
    "ade20k": Dataset("ADE20K", ade20k.COUNTS, ade20k.load),
    "cityscapes": Dataset("Cityscapes", cityscapes.COUNTS, cityscapes.load),
    "kitti360": Dataset("KITTI-360", kitti360.COUNTS, kitti360.load),
    "camvid": Dataset("CamVid", camvid.COUNTS, camvid.load),
    "folder": Dataset("own folder", {}, folder.load),
}


def create(key: str, root: str | Path, split: str, **options: Any) -> LabelledSet:
    """One split of a segmentation set.

    Args:
        key: of :data:`DATASETS`.
        root: folder of the set, or the folder that holds it.
        split: "train", "val"; CamVid has "test" too, a folder of one's own any.
        options: what the set's loader takes besides: coco27 `curated`, ade20k `classes`, folder `images`, `labels`,
            `classes`, `ignore`, `name`.

    Raises:
        LabelError: if the set, the split or an option is unknown, or files are missing.
    """
    if key not in DATASETS:
        raise LabelError(f"dataset is {key!r}, expected one of {', '.join(DATASETS)}")
    dataset = DATASETS[key]
    if unknown := sorted(set(options) - set(dataset.options)):
        raise LabelError(f"{key} has no option {unknown[0]!r}, expected {' or '.join(dataset.options) or 'none'}")
    parameters = inspect.signature(dataset.load).parameters
    needed = [name for name in dataset.options if parameters[name].default is inspect.Parameter.empty]
    if missing := [name for name in needed if name not in options]:
        raise LabelError(f"{key} needs {' and '.join(missing)}")
    return dataset.load(root, split, **options)
