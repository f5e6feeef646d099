"""ADE20K, the scene parsing challenge of 2016: 150 classes, and "other" as one more in the probing papers."""

from __future__ import annotations

from pathlib import Path

from naf.data.labelled.base import IGNORED, LabelError, LabelledSet
from naf.data.labelled.layout import expected_count, find_folder, list_names, pair, read_list

COUNTS = {"train": 20_210, "val": 2_000}
_FOLDERS = {"train": "training", "val": "validation"}
_SOURCE = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"


def load(root: str | Path, split: str, classes: int = 151) -> LabelledSet:
    """A split of ADE20K.

    Names of classes are the first ones of `objectInfo150.txt`, where that file lies in the set's folder.

    Args:
        root: folder with `ADEChallengeData2016`, or that folder.
        split: "train" or "val".
        classes: 151: "other" is class 0, learned and scored, as in the papers of upsamplers. 150: it is ignored, the
            challenge's own rule; the set is then called "ade20k-150".

    Raises:
        LabelError: if a folder or a label map is missing.
    """
    expected = expected_count("ade20k", split, COUNTS)
    if classes not in (150, 151):
        raise LabelError(f'classes is {classes!r}, expected 151 (with "other") or 150 (without)')
    folder = find_folder(root, "ADEChallengeData2016", "annotations", _SOURCE)
    images, labels = (folder / kind / _FOLDERS[split] for kind in ("images", "annotations"))
    names = _class_names(folder)
    if classes == 151:
        raw_to_class = {raw: raw for raw in range(151)}
    else:
        raw_to_class = {0: IGNORED, **{raw: raw - 1 for raw in range(1, 151)}}
    return LabelledSet(
        "ade20k" if classes == 151 else "ade20k-150",
        split,
        ["other", *names] if classes == 151 else names,
        pair(list_names(images, ".jpg"), (images, ".jpg"), (labels, ".png"), images),
        raw_to_class,
        listed_in=images,
        expected=expected,
    )


def _class_names(folder: Path) -> list[str]:
    """Of the values 1 … 150."""
    path = folder / "objectInfo150.txt"
    if not path.is_file():
        return [f"class {raw}" for raw in range(1, 151)]
    rows = [line.split("\t") for line in read_list(path)[1:]]
    if [row[0].strip() for row in rows] != [str(raw) for raw in range(1, 151)]:
        raise LabelError(f"{path}: rows differ from classes 1 to 150, expected one each in order below a heading")
    return [row[-1].split(",")[0].strip() for row in rows]
