"""COCO-Stuff: 182 kinds of things and stuff, joined to 27 coarse classes as in IIC (arXiv 1807.06653)."""

from __future__ import annotations

from pathlib import Path

from naf.data.labelled.base import IGNORED, LabelledSet
from naf.data.labelled.layout import expected_count, find_folder, list_names, pair, read_list

COUNTS = {"train": 97_702, "val": 4_172}
ALL_COUNTS = {"train": 118_287, "val": 5_000}
_SOURCE = "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip"
_LISTS = "https://www.robots.ox.ac.uk/~xuji/datasets/COCOStuff164kCurated.tar.gz"

# fmt: off
_THINGS = (
    "electronic", "appliance", "food", "furniture", "indoor", "kitchen", "accessory", "animal", "outdoor", "person",
    "sports", "vehicle",
)
_STUFF = (
    "ceiling", "floor", "food", "furniture", "rawmaterial", "textile", "wall", "window", "building", "ground",
    "plant", "sky", "solid", "structural", "water",
)
# fmt: on
CLASSES = (*(f"{name}-things" for name in _THINGS), *(f"{name}-stuff" for name in _STUFF))

# Last value of each run of things, from 0 on, and its class; values are COCO's ids minus one.
_THING_RUNS = {0: 9, 8: 11, 14: 8, 24: 7, 32: 6, 42: 10, 50: 5, 60: 2, 70: 3, 76: 0, 82: 1, 90: 4}
# fmt: off
_STUFF_FROM_91 = (
    17, 17, 22, 20, 20, 22, 15, 25, 16, 13, 12, 12, 17, 17, 23, 15, 15, 17, 15, 21, 15, 25, 13, 13, 13, 13, 13, 22, 26,
    14, 14, 15, 22, 21, 21, 24, 20, 22, 15, 17, 16, 15, 22, 24, 21, 17, 25, 16, 21, 17, 22, 16, 21, 21, 25, 21, 26, 21,
    24, 20, 17, 14, 21, 26, 15, 23, 20, 21, 24, 15, 24, 22, 25, 15, 20, 17, 17, 22, 14, 18, 18, 18, 18, 18, 18, 18, 26,
    26, 19, 19, 24,
)
# fmt: on


def raw_to_coarse() -> dict[int, int]:
    """Coarse class of each of the 182 values of a label map; 255, unlabelled, is ignored."""
    table, first = {255: IGNORED}, 0
    for last, id_ in _THING_RUNS.items():
        table.update(dict.fromkeys(range(first, last + 1), id_))
        first = last + 1
    return {**table, **{first + offset: id_ for offset, id_ in enumerate(_STUFF_FROM_91)}}


def load(root: str | Path, split: str, curated: bool = True) -> LabelledSet:
    """A split of COCO-Stuff with 27 classes.

    Args:
        root: folder with `COCOStuff`, or that folder.
        split: "train" or "val".
        curated: only the images of the curated list, mostly stuff, which papers use. Otherwise all of the split; the
            set is then called "coco27-all".

    Raises:
        LabelError: if a folder, the curated list or a file is missing.
    """
    expected = expected_count("coco27", split, COUNTS if curated else ALL_COUNTS)
    folder = find_folder(root, "COCOStuff", "annotations", _SOURCE)
    name = f"{split}2017"
    images, labels = folder / "images" / name, folder / "annotations" / name
    listing = _curated_list(folder, name) if curated else images
    if curated:
        hint = f"it is in {_LISTS}; curated=false takes all of the split, as a set of its own"
        names = [line.zfill(12) for line in read_list(listing, hint)]
    else:
        names = list_names(images, ".jpg")
    return LabelledSet(
        "coco27" if curated else "coco27-all",
        split,
        CLASSES,
        pair(names, (images, ".jpg"), (labels, ".png"), listing),
        raw_to_coarse(),
        listed_in=listing,
        expected=expected,
    )


def _curated_list(folder: Path, name: str) -> Path:
    """The list, also under the misspelt name that NAF's download script gives its folder."""
    paths = [folder / spelling / name / "Coco164kFull_Stuff_Coarse.txt" for spelling in ("curated", "currated")]
    return next((path for path in paths if path.is_file()), paths[0])
