"""Every set in its official layout: which files are paired, in which order, and what is read from them."""

import pickle

import numpy as np
import pytest
from PIL import Image

from naf.data import labelled
from tests.data.labelled.synthesised import (
    DRIVES,
    LEGAL,
    OPTIONS,
    SPLITS,
    kitti_frames,
    raw_label,
    write_image,
    write_label,
    write_set,
    write_text,
)

OFFICIAL = {
    "voc": {"train": 1464, "val": 1449},
    "coco27": {"train": 97702, "val": 4172},
    "ade20k": {"train": 20210, "val": 2000},
    "cityscapes": {"train": 2975, "val": 500},
    "kitti360": {"train": 49024, "val": 12256},
    "camvid": {"train": 367, "val": 101, "test": 233},
    "folder": {},
}
KEY_AND_SPLIT = [(key, split) for key in LEGAL for split in SPLITS[key]]


@pytest.mark.parametrize(("key", "split"), KEY_AND_SPLIT)
def test_a_split_gives_its_images_with_their_labels(key, split, tmp_path):
    for other in SPLITS[key]:
        pairs = write_set(key, tmp_path, other)
        if other == split:
            expected = pairs
    dataset = labelled.create(key, tmp_path, split, **OPTIONS.get(key, {}))
    assert [(pair.image, pair.label) for pair in dataset.pairs] == expected
    assert (dataset.key, dataset.split, len(dataset)) == (key, split, len(expected))
    assert len({pair.name for pair in dataset.pairs}) == len(dataset)
    for index, (image, label) in enumerate(expected):
        read = dataset.read_label(index)
        with Image.open(label) as file:
            raw = np.array(file)
        assert read.dtype == np.uint8
        assert np.array_equal(read, dataset.lookup[raw])
        with Image.open(image) as file:
            assert np.array_equal(np.array(dataset.read_image(index)), np.array(file))
        assert dataset.read_image(index).mode == "RGB"


@pytest.mark.parametrize(("key", "split"), KEY_AND_SPLIT)
def test_a_split_of_another_size_than_the_official_one_says_so(key, split, tmp_path):
    count = len(write_set(key, tmp_path, split))
    dataset = labelled.create(key, tmp_path, split, **OPTIONS.get(key, {}))
    if key == "folder":
        assert dataset.expected is None
        assert dataset.note == ""
    else:
        assert dataset.expected == OFFICIAL[key][split]
        assert dataset.note == f"{count:,} of {OFFICIAL[key][split]:,} images"
        dataset.expected = count
        assert dataset.note == ""
    assert labelled.DATASETS[key].splits == OFFICIAL[key]


@pytest.mark.parametrize(
    ("key", "inside"),
    [("voc", "VOCdevkit"), ("voc", "VOCdevkit/VOC2012"), ("coco27", "COCOStuff"), ("ade20k", "ADEChallengeData2016"),
     ("cityscapes", "cityscapes"), ("kitti360", "KITTI-360"), ("camvid", "CamVid")],
)  # fmt: skip
def test_root_may_be_the_folder_of_the_set_itself(key, inside, tmp_path):
    write_set(key, tmp_path, "val")
    above, itself = (labelled.create(key, root, "val") for root in (tmp_path, str(tmp_path / inside)))
    assert above.pairs == itself.pairs


def test_voc_keeps_the_order_of_its_list(tmp_path):
    write_set("voc", tmp_path, "train")
    assert [pair.name for pair in labelled.create("voc", tmp_path, "train").pairs] == [
        "train2007_000002",
        "train2007_000001",
    ]


def test_coco_stuff_without_the_curated_list_is_another_set(tmp_path):
    write_set("coco27", tmp_path, "val")
    listing = tmp_path / "COCOStuff/curated/val2017/Coco164kFull_Stuff_Coarse.txt"
    write_text(listing, "285")  # ids without zeros count too
    assert [pair.name for pair in labelled.create("coco27", tmp_path, "val").pairs] == ["000000000285"]
    listing.unlink()
    everything = labelled.create("coco27", tmp_path, "val", curated=False)
    assert (everything.key, len(everything), everything.expected) == ("coco27-all", 2, 5000)


def test_coco_stuff_takes_the_misspelt_folder_of_lists(tmp_path):
    write_set("coco27", tmp_path, "val")
    (tmp_path / "COCOStuff/curated").rename(tmp_path / "COCOStuff/currated")
    assert len(labelled.create("coco27", tmp_path, "val")) == 2


def test_kitti360_splits_all_labelled_frames_8_to_2_alike_everywhere(tmp_path):
    write_set("kitti360", tmp_path, "train")
    train, val = (labelled.create("kitti360", tmp_path, split) for split in ("train", "val"))
    names = [pair.name for pair in (*train.pairs, *val.pairs)]
    assert (len(train), len(val)) == (8, 2)
    assert sorted(names) == [f"{drive}/{frame:010d}" for drive in DRIVES for frame in range(0, 10, 2)]
    # Python's shuffle of ten with seed 42.
    assert [sorted(names).index(name) for name in names] == [7, 3, 2, 8, 5, 6, 9, 4, 0, 1]
    assert len(kitti_frames(tmp_path)) == 10


def test_camvid_takes_jpeg_images_in_the_place_of_png_and_says_so(tmp_path):
    for image, _ in write_set("camvid", tmp_path, "val"):
        write_image(image.with_suffix(".jpg"))
        image.unlink()
    dataset = labelled.create("camvid", tmp_path, "val")
    assert {pair.image.suffix for pair in dataset.pairs} == {".jpg"}
    assert dataset.note == "2 of 101 images; JPEG images, the official ones are PNG"


def test_a_folder_of_ones_own_has_any_names_and_nesting(tmp_path):
    for city in ("a", "b"):
        write_image(tmp_path / f"photos/{city}/1 [x].jpg")
        raw = np.full((6, 8), [0, 1, 2, 3, 0, 9, 7, 0], np.uint8)
        write_label(tmp_path / f"masks/photos/{city}/1 [x]_ids.png", raw)
    options = {"classes": ["sky", "road", "car", "tree"], "ignore": [7, 9], "name": "mine"}
    for labels in ("masks/{parent}/{stem}_ids.png", "{root}/masks/{parent}/{stem}_ids.png"):
        dataset = labelled.create("folder", tmp_path, "any", images="photos/**/*.jpg", labels=labels, **options)
        assert (dataset.key, dataset.split, dataset.classes) == ("mine", "any", ("sky", "road", "car", "tree"))
        assert [pair.name for pair in dataset.pairs] == ["photos/a/1 [x]", "photos/b/1 [x]"]
        assert dataset.read_label(1)[0].tolist() == [0, 1, 2, 3, 0, 255, 255, 0]


def test_labels_of_16_bits_are_read_as_long_as_their_values_are_legal(tmp_path):
    (_, label), _ = write_set("folder", tmp_path, "val")
    write_label(label, raw_label("folder", 5).astype(np.uint16))
    dataset = labelled.create("folder", tmp_path, "val", **OPTIONS["folder"])
    assert np.array_equal(dataset.read_label(0), raw_label("folder", 5))


def test_sets_travel_to_the_workers_of_a_loader(tmp_path):
    write_set("camvid", tmp_path, "val")
    dataset = labelled.create("camvid", tmp_path, "val")
    assert np.array_equal(pickle.loads(pickle.dumps(dataset)).read_label(1), dataset.read_label(1))
