"""Segmentation sets as they lie on disk, each with its official layout and two images a split."""

import random
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 6, 8
DRIVES = ("2013_05_28_drive_0000_sync", "2013_05_28_drive_0002_sync")

# Options that a set needs, and the ids that its label files may hold.
OPTIONS = {"folder": {"images": "{split}/*.jpg", "labels": "{root}/{split}annot/{stem}.png", "classes": 3}}
LEGAL = {
    "voc": [*range(21), 255],
    "coco27": [*range(182), 255],
    "ade20k": [*range(151)],
    "cityscapes": [*range(34), 255],
    "kitti360": [*range(45), 255],
    "camvid": [*range(12)],
    "folder": [0, 1, 2, 255],
}
SPLITS = dict.fromkeys(LEGAL, ("train", "val")) | {"camvid": ("train", "val", "test")}


def write_image(path, seed=0, size=(WIDTH, HEIGHT)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_label(path, raw, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(raw)
    if palette:
        image.putpalette([value for value in range(256) for _ in range(3)][::-1])
    image.save(path)
    return path


def raw_label(key, seed):
    """Legal values, drawn."""
    return np.random.default_rng(seed).choice(np.array(LEGAL[key], np.uint8), (HEIGHT, WIDTH))


def write_text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def places(key, root, split):
    """Files of a set's split: pairs (image, label), and the split file or None."""
    root = Path(root)
    if key == "voc":
        folder, names = root / "VOCdevkit/VOC2012", [f"2007_00000{k}" for k in (2, 1)]
        pairs = [(folder / f"JPEGImages/{split}{n}.jpg", folder / f"SegmentationClass/{split}{n}.png") for n in names]
        return pairs, folder / f"ImageSets/Segmentation/{split}.txt"
    if key == "coco27":
        folder, names = root / "COCOStuff", [f"{k:012d}" for k in (139, 285)]
        pairs = [
            (folder / f"images/{split}2017/{name}.jpg", folder / f"annotations/{split}2017/{name}.png")
            for name in names
        ]
        return pairs, folder / f"curated/{split}2017/Coco164kFull_Stuff_Coarse.txt"
    if key == "ade20k":
        folder, inner = root / "ADEChallengeData2016", {"train": "training", "val": "validation"}[split]
        names = [f"ADE_{split}_0000000{k}" for k in (1, 2)]
        return [(folder / f"images/{inner}/{n}.jpg", folder / f"annotations/{inner}/{n}.png") for n in names], None
    if key == "cityscapes":
        folder, names = root / "cityscapes", ["aachen/aachen_000000_000019", "bochum/bochum_000000_000313"]
        pairs = [
            (folder / f"leftImg8bit/{split}/{n}_leftImg8bit.png", folder / f"gtFine/{split}/{n}_gtFine_labelIds.png")
            for n in names
        ]
        return pairs, None
    if key == "camvid":
        folder, names = root / "CamVid", ["0001TP_006690", "0016E5_00390"]
        return [(folder / f"{split}/{n}.png", folder / f"{split}annot/{n}.png") for n in names], folder / f"{split}.txt"
    assert key == "folder"
    return [(root / f"{split}/{n}.jpg", root / f"{split}annot/{n}.png") for n in "ab"], None


def kitti_frames(root):
    """All labelled frames, sorted: five a drive, of ten."""
    root = Path(root) / "KITTI-360"
    return [
        (
            root / f"data_2d_raw/{drive}/image_00/data_rect/{frame:010d}.png",
            root / f"data_2d_semantics/train/{drive}/image_00/semantic/{frame:010d}.png",
        )
        for drive in DRIVES
        for frame in range(0, 10, 2)
    ]


def write_set(key, root, split):
    """Write a split and return its pairs (image, label), in the order that the set has to give."""
    if key == "kitti360":
        pairs = kitti_frames(root)
        for number, (image, label) in enumerate(pairs):
            write_image(image, number)
            write_image(image.with_stem(f"{int(image.stem) + 1:010d}"))  # most frames of a drive have no label
            write_label(label, raw_label(key, number))
        random.Random(42).shuffle(pairs)
        return pairs[:8] if split == "train" else pairs[8:]
    pairs, listing = places(key, root, split)
    for number, (image, label) in enumerate(pairs):
        write_image(image, number)
        write_label(label, raw_label(key, number), palette=key == "voc")
    if key == "camvid":
        write_text(
            listing, *(f"/SegNet/CamVid/{split}/{i.name} /SegNet/CamVid/{split}annot/{la.name}" for i, la in pairs)
        )
    elif listing:
        write_text(listing, *(image.stem for image, _ in pairs), "")
    return pairs
