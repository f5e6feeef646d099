"""Folders of photos, and how they are brought to a size."""

import numpy as np
import pytest
import torch
from PIL import Image

from naf.data import ImageError
from naf.data.labelled.geometry import resize_image
from naf.evaluation.photos import PhotoError, PhotoSet, bring
from naf.evaluation.subset import Subset
from tests.evaluation.tiny_photos import save_grey, save_scene, write_photos


def test_images_are_sorted_over_class_folders_and_every_tenth_is_taken(tmp_path):
    for name in ("n02/a.JPEG", "n01/z.JPEG", "n01/b.png", "n01/readme.txt", ".hidden/x.png", "n01/.y.png"):
        save_grey(tmp_path / "val" / name) if "txt" not in name else (tmp_path / "val" / name).write_text("no image")
    save_grey(tmp_path / "train/n01/c.JPEG")
    photos = PhotoSet("imagenet", tmp_path)
    assert photos.names == ["n01/b.png", "n01/z.JPEG", "n02/a.JPEG"]
    assert photos.note == "3 of 50,000 images"
    assert PhotoSet("imagenet", tmp_path / "val").names == photos.names
    assert photos.files(2) == [tmp_path / "val/n02/a.JPEG"]


def test_five_thousand_of_imagenet_are_every_tenth():
    class Many:
        def __len__(self):
            return 50_000

    assert Subset(Many(), 5_000).indices == list(range(0, 50_000, 10))


@pytest.mark.parametrize(("key", "inside", "whole"), [("cbsd68", "CBSD68", 68), ("kodak24", "Kodak24", 24)])
def test_a_set_is_found_below_its_folder_or_as_it(tmp_path, key, inside, whole):
    write_photos(tmp_path / inside, 2)
    for root in (tmp_path, tmp_path / inside):
        photos = PhotoSet(key, root)
        assert photos.names == ["0.png", "1.png"]
        assert photos.note == f"2 of {whole} images"
    assert PhotoSet("folder", tmp_path).names == [f"{inside}/0.png", f"{inside}/1.png"]
    assert not PhotoSet("folder", tmp_path).note


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(PhotoError, match="nowhere: no such folder, expected one with the images of cbsd68"):
        PhotoSet("cbsd68", tmp_path / "nowhere")
    with pytest.raises(PhotoError, match=f"{tmp_path}: no images, expected at least one of folder"):
        PhotoSet("folder", tmp_path)
    with pytest.raises(PhotoError, match=r"dataset\.key is 'voc', expected one of imagenet, cbsd68"):
        PhotoSet("voc", tmp_path)


def test_a_damaged_image_is_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(ImageError, match=r"bad\.png: "):
        PhotoSet("folder", tmp_path).read_image(0)


def test_images_come_as_they_are(tmp_path):
    save_scene(tmp_path / "a.png", 3, (17, 11))
    image = PhotoSet("folder", tmp_path).read_image(0)
    with Image.open(tmp_path / "a.png") as stored:
        assert np.array_equal(np.array(image), np.array(stored))
    clean = bring(image, None, None)
    assert clean.shape == (1, 3, 11, 17)
    assert torch.equal(clean[0].permute(1, 2, 0).mul(255).round().byte(), torch.from_numpy(np.array(image)))


def test_the_papers_square_is_that_of_the_probes():
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    assert torch.equal(bring(image, 16, 16)[0], resize_image(image, 16, "crop"))
    assert bring(image, 16, None).shape == (1, 3, 16, 22)
    whole, middle = bring(image, None, None), bring(image, None, 21)
    assert torch.equal(middle, whole[:, :, 8:29, 16:37])


@pytest.mark.parametrize(("side", "crop", "least"), [(5, None, 6), (20, 32, 32)])
def test_too_small_images_are_refused(side, crop, least):
    with pytest.raises(ValueError, match=f"is 40 x {side} pixels, expected at least {least} on each side"):
        bring(Image.new("RGB", (40, side)), None, crop)
