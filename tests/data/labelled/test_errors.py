"""What is wrong with a set is said in one line that names the file."""

import numpy as np
import pytest
from PIL import Image

from naf.data import labelled
from naf.data.labelled import LabelError
from tests.data.labelled.synthesised import (
    HEIGHT,
    LEGAL,
    OPTIONS,
    WIDTH,
    raw_label,
    write_image,
    write_label,
    write_set,
    write_text,
)

LISTED = ["voc", "coco27", "camvid"]
FOLDERS = {
    "voc": "VOCdevkit/VOC2012",
    "coco27": "COCOStuff",
    "ade20k": "ADEChallengeData2016",
    "cityscapes": "cityscapes",
    "kitti360": "KITTI-360",
    "camvid": "CamVid",
}
ILLEGAL = {"voc": 21, "coco27": 182, "ade20k": 151, "cityscapes": 34, "kitti360": 45, "camvid": 12, "folder": 3}
EXPECTED = {
    "voc": "0 to 20, 255",
    "coco27": "0 to 181, 255",
    "ade20k": "0 to 150",
    "cityscapes": "0 to 33, 255",
    "kitti360": "0 to 44, 255",
    "camvid": "0 to 11",
    "folder": "0 to 2, 255",
}


@pytest.fixture
def create(tmp_path):
    return lambda key, **options: labelled.create(key, tmp_path, "val", **(OPTIONS.get(key, {}) | options))


def message(call, *args, **kwargs):
    with pytest.raises(LabelError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("key", LISTED)
def test_missing_and_empty_split_files(key, create, tmp_path):
    write_set(key, tmp_path, "val")
    listing = next((tmp_path / FOLDERS[key]).rglob("*.txt"))
    write_text(listing, "", " ")
    assert message(create, key) == f"{listing}: lists nothing, expected one image a line"
    listing.unlink()
    text = message(create, key)
    assert text.startswith(f"{listing}: no such split file")
    assert "http" in text  # where it is to be had
    if key == "coco27":
        assert "curated=false" in text
    listing.write_bytes(b"\xff\xfe\x00")
    assert message(create, key).startswith(f"{listing}: unreadable")


@pytest.mark.parametrize("key", LISTED)
def test_a_listed_image_that_is_missing(key, create, tmp_path):
    image = write_set(key, tmp_path, "val")[1][0]
    listing = next((tmp_path / FOLDERS[key]).rglob("*.txt"))
    image.unlink()
    assert message(create, key) == f"{image}: no such image, listed in {listing}"


@pytest.mark.parametrize("key", [key for key in LEGAL if key != "kitti360"])
def test_an_image_without_a_label(key, create, tmp_path):
    image, label = write_set(key, tmp_path, "val")[1]
    label.unlink()
    assert message(create, key) == f"{label}: no such label map, expected for image {image}"


def test_a_label_of_kitti360_without_an_image(create, tmp_path):
    image, _ = write_set("kitti360", tmp_path, "val")[0]
    image.unlink()
    assert message(create, "kitti360").startswith(f"{image}: no such image, listed in {tmp_path}/KITTI-360")


@pytest.mark.parametrize("key", FOLDERS)
def test_missing_roots_and_folders(key, create, tmp_path):
    text = message(labelled.create, key, tmp_path / "absent", "val")
    assert text.startswith(f"{tmp_path}/absent: no such folder, expected {FOLDERS[key]} in it; to be had from http")
    text = message(create, key)
    assert text.startswith(f"{tmp_path / FOLDERS[key]}/")
    assert "no such folder; the set is to be had from http" in text


@pytest.mark.parametrize(
    ("key", "folder"),
    [("ade20k", "ADEChallengeData2016/images/validation"), ("cityscapes", "cityscapes/leftImg8bit/val"),
     ("kitti360", "KITTI-360/data_2d_semantics/train")],
)  # fmt: skip
def test_empty_and_missing_splits_without_a_split_file(key, folder, create, tmp_path):
    write_set(key, tmp_path, "val")
    folder = tmp_path / folder
    folder.rename(folder.with_name("moved"))
    assert message(create, key).startswith(f"{folder}: no such folder")
    folder.mkdir()
    (folder / ".hidden.jpg").touch()
    text = message(create, key)
    assert text.startswith(f"{folder}: ")
    assert text.endswith("expected at least one")


def test_a_single_frame_of_kitti360_leaves_a_split_empty(tmp_path):
    write_set("kitti360", tmp_path, "train")
    labels = sorted((tmp_path / "KITTI-360/data_2d_semantics").rglob("*.png"))
    for label in labels[1:]:
        label.unlink()
    labels[-1].parent.parent.parent.rename(tmp_path / "moved")
    text = message(labelled.create, "kitti360", tmp_path, "train")
    assert text.endswith("data_2d_semantics/train: no images of split 'train' of kitti360, expected at least one")


def test_a_folder_without_images(create, tmp_path):
    assert "val/*.jpg: no images of split 'val' of folder" in message(create, "folder")


def test_a_line_of_camvid_that_names_no_pair(create, tmp_path):
    write_set("camvid", tmp_path, "val")
    listing = write_text(tmp_path / "CamVid/val.txt", "/SegNet/CamVid/val/0001TP_006690.png")
    text = message(create, "camvid")
    assert text == f"{listing}: line '/SegNet/CamVid/val/0001TP_006690.png', expected an image and a label map"


@pytest.mark.parametrize("key", LEGAL)
def test_a_value_out_of_range(key, create, tmp_path):
    label = write_set(key, tmp_path, "val")[0][1]
    raw = raw_label(key, 1)
    raw[2, 3] = ILLEGAL[key]
    write_label(label, raw)
    dataset = create(key)
    expected = f"{label}: value {ILLEGAL[key]} is no label of {key}, expected {EXPECTED[key]}"
    assert message(dataset.read_label, 0) == expected
    deep = raw.astype(np.uint16)
    deep[2, 3] = 1000
    write_label(label, deep)
    assert message(dataset.read_label, 0) == expected.replace(f"value {ILLEGAL[key]}", "value 1000")
    dataset.read_label(1)  # the others can be read


def test_a_label_of_another_size_than_its_image(create, tmp_path):
    image, label = write_set("voc", tmp_path, "val")[0]
    write_image(image, size=(HEIGHT, WIDTH))  # turned: as many pixels
    assert message(create("voc").read_label, 0) == (
        f"{label} has {WIDTH} x {HEIGHT} pixels, its image {image} {HEIGHT} x {WIDTH}: expected the same size"
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_colour_picture_in_the_place_of_ids(mode, create, tmp_path):
    label = write_set("voc", tmp_path, "val")[0][1]
    Image.new(mode, (WIDTH, HEIGHT)).save(label)
    assert message(create("voc").read_label, 0) == (
        f"{label}: is a picture of mode {mode}, expected one channel with an id in each pixel"
    )


def test_unreadable_files(create, tmp_path):
    (image, label), (cut_image, cut_label) = write_set("ade20k", tmp_path, "val")
    dataset = create("ade20k")
    for path in (image, label):
        path.write_text("<html>404</html>")
    for path in (cut_image, cut_label):
        path.write_bytes(path.read_bytes()[:-40])
    assert message(dataset.read_image, 0) == f"{image}: is no image that Pillow can read, whatever its name says"
    assert message(dataset.read_label, 0) == f"{label}: is no image that Pillow can read, whatever its name says"
    assert message(dataset.read_image, 1).startswith(f"{cut_image}: damaged or unreadable: ")
    assert message(dataset.read_label, 1).startswith(f"{cut_label}: damaged or unreadable: ")
    image.unlink()
    assert message(dataset.read_image, 0) == f"{image}: no such file, expected an image"


def test_unknown_sets_splits_and_options(create, tmp_path):
    assert message(create, "imagenet") == (
        "dataset is 'imagenet', expected one of voc, coco27, ade20k, cityscapes, kitti360, camvid, folder"
    )
    assert message(labelled.create, "voc", tmp_path, "test") == "voc has no split 'test', expected 'train' or 'val'"
    assert message(create, "voc", curated=False) == "voc has no option 'curated', expected none"
    assert message(create, "coco27", classes=27) == "coco27 has no option 'classes', expected curated"
    assert message(labelled.create, "folder", tmp_path, "val", images="*.jpg") == "folder needs labels and classes"
    assert message(create, "ade20k", classes=19).startswith("classes is 19, expected 151")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"images": "{where}/*.jpg"}, "images is '{where}/*.jpg', expected a path with no fields but {split}"),
        ({"images": "/data/*.jpg"}, "images is '/data/*.jpg', expected a pattern below"),
        ({"labels": "{root}/{id}.png"}, "labels is '{root}/{id}.png', expected a path with no fields but {root}"),
        ({"classes": 0}, "classes is 0, expected names or a number from 1 to 255"),
        ({"classes": 256}, "classes is 256, expected names or a number from 1 to 255"),
        ({"classes": "road"}, "classes is 'road', expected names"),
        ({"classes": []}, "classes has 0 names, expected 1 to 255"),
        ({"classes": ["road", "car", "road"]}, "folder: class 'road' is named twice"),
        ({"ignore": [256]}, "ignore is [256], expected values from 0 to 255"),
    ],
)
def test_arguments_of_a_folder(options, expected, create, tmp_path):
    write_set("folder", tmp_path, "val")
    assert expected in message(create, "folder", **options)
