"""Real files in the real layouts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from naf.data import labelled

DATA = (Path(__file__).parents[3] / ".." / "shared" / "data").resolve()
LAYOUTS, CAMVID = DATA / "layouts", DATA / "CamVid"
layouts = pytest.mark.skipif(not LAYOUTS.is_dir(), reason="../shared/data/layouts is not there")
camvid = pytest.mark.skipif(not CAMVID.is_dir(), reason="../shared/data/CamVid is not there")


def histogram(label):
    """Pixels of each value that occurs."""
    return dict(zip(*(values.tolist() for values in np.unique(label, return_counts=True)), strict=True))


@layouts
def test_voc():
    train, val = (labelled.create("voc", LAYOUTS, split) for split in ("train", "val"))
    assert [pair.name for pair in train.pairs] == ["2011_000003"]
    assert [pair.name for pair in val.pairs] == ["2011_000006", "2011_000025"]
    assert train.note == "1 of 1,464 images"
    label = val.read_label(0)
    assert label.shape == (375, 500)
    assert {val.classes[id_] for id_ in histogram(label) if id_ != 255} == {"background", "chair", "person", "sofa"}
    assert 255 in histogram(label)
    assert train.read_image(0).size == (500, 338)


@layouts
def test_ade20k():
    dataset = labelled.create("ade20k", LAYOUTS, "val")
    assert len(dataset) == 3
    assert dataset.note == "3 of 2,000 images"
    assert [dataset.classes[id_] for id_ in (0, 1, 2, 3, 5, 150)] == [
        "other", "wall", "building", "sky", "tree", "flag",
    ]  # fmt: skip
    challenge = labelled.create("ade20k", LAYOUTS, "val", classes=150)
    for index in range(3):
        probed, without_other = dataset.read_label(index), challenge.read_label(index)
        assert set(histogram(probed)) <= set(range(151))
        assert np.array_equal(without_other, np.where(probed == 0, 255, probed - 1))
    with pytest.raises(labelled.LabelError, match="images/training: no such folder"):
        labelled.create("ade20k", LAYOUTS, "train")


@layouts
def test_cityscapes_agrees_with_the_official_train_ids():
    dataset = labelled.create("cityscapes", LAYOUTS, "val")
    assert [pair.name for pair in dataset.pairs] == ["frankfurt/frankfurt_000000_000294"]
    official = Path(str(dataset.pairs[0].label).replace("labelIds", "labelTrainIds"))
    with Image.open(official) as image:
        agree = dataset.read_label(0) == np.array(image)
    assert agree.mean() > 0.997  # the two files were reduced apart from each other


@layouts
def test_panoptic_coco_is_refused(tmp_path):
    annotations = tmp_path / "COCOStuff/annotations"
    annotations.mkdir(parents=True)
    (tmp_path / "COCOStuff/images").mkdir()
    (annotations / "val2017").symlink_to(LAYOUTS / "coco/annotations/panoptic_val2017")
    (tmp_path / "COCOStuff/images/val2017").symlink_to(LAYOUTS / "coco/val2017")
    dataset = labelled.create("coco27", tmp_path, "val", curated=False)
    with pytest.raises(labelled.LabelError, match=r"142238\.png: is a picture of mode RGB"):
        dataset.read_label(0)


@camvid
@pytest.mark.parametrize(("split", "official"), [("train", 367), ("val", 101), ("test", 233)])
def test_camvid(split, official):
    dataset = labelled.create("camvid", DATA, split)
    lines = (CAMVID / f"{split}.txt").read_text().split("\n")[:-1]
    assert len(dataset) == len(lines)
    assert dataset.note == f"{len(lines)} of {official} images; JPEG images, the official ones are PNG"
    for index in (0, -1):
        image, label = (CAMVID / field.removeprefix("/SegNet/CamVid/") for field in lines[index].split())
        with Image.open(label) as file:
            raw = histogram(np.array(file))
        raw[255] = raw.pop(11)  # void
        assert histogram(dataset.read_label(index)) == raw
        with Image.open(image) as file:
            assert np.array_equal(np.array(dataset.read_image(index)), np.array(file))


@camvid
def test_shares_of_the_classes_of_camvid():
    dataset = labelled.create("camvid", CAMVID, "val")
    counts = np.zeros(256, int)
    for index in range(len(dataset)):
        counts += np.bincount(dataset.read_label(index).ravel(), minlength=256)
    assert counts.sum() == counts[:11].sum() + counts[255] == len(dataset) * 360 * 480
    assert dataset.classes[counts[:11].argmax()] == "Road"
