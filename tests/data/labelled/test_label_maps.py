"""What each value of a label file stands for: the published maps, typed in again."""

import numpy as np
import pytest

from naf.data import labelled
from tests.data.labelled.synthesised import LEGAL, OPTIONS, write_set, write_text

# First and last value of each run of things, and the class.
COCO_THINGS = {
    (0, 0): 9, (1, 8): 11, (9, 14): 8, (15, 24): 7, (25, 32): 6, (33, 42): 10, (43, 50): 5, (51, 60): 2, (61, 70): 3,
    (71, 76): 0, (77, 82): 1, (83, 90): 4,
}  # fmt: skip
COCO_STUFF_FROM_91 = (
    "17 17 22 20 20 22 15 25 16 13 12 12 17 17 23 15 15 17 15 21 15 25 13 13 13 13 13 22 26 14 14 15 22 21 21 24 20 22"
    " 15 17 16 15 22 24 21 17 25 16 21 17 22 16 21 21 25 21 26 21 24 20 17 14 21 26 15 23 20 21 24 15 24 22 25 15 20 17"
    " 17 22 14 18 18 18 18 18 18 18 26 26 19 19 24"
)
CITYSCAPES = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15,
    31: 16, 32: 17, 33: 18,
}  # fmt: skip
CITYSCAPES_NAMES = (
    "road sidewalk building wall fence pole traffic_light traffic_sign vegetation terrain sky person rider car truck"
    " bus train motorcycle bicycle"
)


@pytest.fixture
def create(tmp_path):
    def create(key, split="val", **options):
        write_set(key, tmp_path, split)
        return labelled.create(key, tmp_path, split, **OPTIONS.get(key, {}), **options)

    return create


def table(classes_by_raw):
    expected = np.full(256, 255)
    expected[list(classes_by_raw)] = list(classes_by_raw.values())
    return expected


@pytest.mark.parametrize("key", LEGAL)
def test_legal_values_are_those_of_the_set_and_map_to_classes_or_ignored(key, create):
    dataset = create(key)
    assert np.flatnonzero(dataset.legal).tolist() == LEGAL[key]
    assert dataset.lookup.dtype == np.uint8
    assert dataset.lookup.shape == (256,)
    assert set(dataset.lookup.tolist()) <= {*range(len(dataset.classes)), 255}
    assert set(dataset.lookup[~dataset.legal].tolist()) <= {255}


@pytest.mark.parametrize("key", ["voc", "camvid", "folder"])
def test_classes_are_the_values_themselves(key, create):
    dataset = create(key)
    assert dataset.lookup.tolist() == table({k: k for k in range(len(dataset.classes))}).tolist()


def test_coco_stuff_joins_182_values_to_27_classes(create):
    dataset = create("coco27")
    runs = {raw: k for (first, last), k in COCO_THINGS.items() for raw in range(first, last + 1)}
    stuff = {91 + offset: int(k) for offset, k in enumerate(COCO_STUFF_FROM_91.split())}
    assert sorted(runs | stuff) == list(range(182))
    assert dataset.lookup.tolist() == table(runs | stuff).tolist()
    assert len(dataset.classes) == 27
    assert set(dataset.lookup[:91].tolist()) == set(range(12))
    assert set(dataset.lookup[91:182].tolist()) == set(range(12, 27))
    # COCO's ids less one: person, car, dog, tv; sky-other, grass, tree, sea, wall-brick, window-other.
    names = [dataset.classes[dataset.lookup[id_ - 1]] for id_ in (1, 3, 18, 72, 157, 124, 169, 155, 171, 181)]
    assert names == [
        "person-things", "vehicle-things", "animal-things", "electronic-things", "sky-stuff", "plant-stuff",
        "plant-stuff", "water-stuff", "wall-stuff", "window-stuff",
    ]  # fmt: skip


def test_cityscapes_maps_label_ids_to_train_ids(create):
    dataset = create("cityscapes")
    assert dataset.lookup.tolist() == table(CITYSCAPES).tolist()
    assert list(dataset.classes) == CITYSCAPES_NAMES.split()


def test_kitti360_adds_garage_gate_and_small_pole(create):
    dataset = create("kitti360")
    assert dataset.lookup.tolist() == table(CITYSCAPES | {34: 2, 35: 4, 37: 5}).tolist()
    assert list(dataset.classes) == CITYSCAPES_NAMES.split()


def test_ade20k_keeps_other_as_class_0_or_ignores_it(create):
    probed = create("ade20k")
    assert (probed.key, len(probed.classes), probed.classes[0]) == ("ade20k", 151, "other")
    assert probed.lookup.tolist() == table({raw: raw for raw in range(151)}).tolist()
    challenge = create("ade20k", classes=150)
    assert (challenge.key, len(challenge.classes)) == ("ade20k-150", 150)
    assert challenge.lookup.tolist() == table({raw: raw - 1 for raw in range(1, 151)}).tolist()
    assert challenge.classes == probed.classes[1:]
    assert probed.classes[17] == "class 17"


def test_names_of_ade20k_come_from_its_own_list(create, tmp_path):
    path = tmp_path / "ADEChallengeData2016/objectInfo150.txt"
    rows = [f"{raw} \t0.1\t10\t1\tname{raw}, other name" for raw in range(1, 151)]
    write_text(path, "Idx\tRatio\tTrain\tVal\tName", *rows)
    assert create("ade20k").classes == ("other", *(f"name{raw}" for raw in range(1, 151)))
    write_text(path, "Idx\tRatio\tTrain\tVal\tName", *rows[:-1])
    with pytest.raises(labelled.LabelError, match=r"objectInfo150\.txt: rows differ from classes 1 to 150"):
        create("ade20k")


def test_names_of_classes():
    from naf.data.labelled import camvid, coco_stuff, voc

    assert voc.CLASSES == (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    )  # fmt: skip
    assert [name.split("-")[0] for name in coco_stuff.CLASSES] == [
        "electronic", "appliance", "food", "furniture", "indoor", "kitchen", "accessory", "animal", "outdoor",
        "person", "sports", "vehicle", "ceiling", "floor", "food", "furniture", "rawmaterial", "textile", "wall",
        "window", "building", "ground", "plant", "sky", "solid", "structural", "water",
    ]  # fmt: skip
    assert camvid.CLASSES == (
        "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
    )  # fmt: skip
