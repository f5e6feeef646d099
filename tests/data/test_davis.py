import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from naf.data import davis
from naf.data.davis import VideoError

REAL = Path("../shared/data/DAVIS").resolve()
real_data = pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data/DAVIS is not there")

LENGTHS = {"walk": 4, "ride": 3}


def save_mask(path, mask, palette=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    if palette:
        image.putpalette(davis.pascal_palette())
    image.save(path)


def make_videos(root, objects=2, resolution="480p", value=None, lengths=LENGTHS):
    """Two videos of rectangles that move to the right; masks with `value` alone if given."""
    for name, length in lengths.items():
        for index in range(length):
            mask = np.zeros((24, 40), np.uint8)
            for k in range(1, objects + 1):
                mask[8 * k - 6 : 8 * k, index : index + 9] = value or k
            save_mask(root / "Annotations" / resolution / name / f"{index:05d}.png", mask, value is None)
            frame = root / "JPEGImages" / resolution / name / f"{index:05d}.jpg"
            frame.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.repeat(mask[..., None] * 60, 3, 2)).save(frame)


def make_list(path, lines=tuple(LENGTHS)):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n\n")


@pytest.fixture
def root(tmp_path):
    """The layout of 2017, with two objects."""
    make_videos(tmp_path)
    make_list(tmp_path / "ImageSets/2017/val.txt")
    return tmp_path


def test_the_layout_of_2017(root):
    found = davis.create("davis2017", root)
    assert [each.name for each in found.sequences] == ["walk", "ride"]
    assert found.counts == {"sequences": 2, "frames": 7, "objects": 4}
    assert found.expected == {"sequences": 30, "frames": 1999, "objects": 61}
    assert found.note == "not the whole split: 2 of 30 sequences, 7 of 1999 frames, 4 of 61 objects"
    walk = found.sequences[0]
    assert [path.name for path in walk.frames] == [f"0000{index}.jpg" for index in range(4)]
    frame, mask = walk.read_frame(2), walk.read_mask(2)
    assert (frame.mode, frame.size, mask.shape, mask.dtype) == ("RGB", (40, 24), (24, 40), np.uint8)
    assert np.unique(mask).tolist() == [0, 1, 2]
    assert (mask[2:8, 2:11] == 1).all()
    assert abs(int(np.asarray(frame)[12, 6, 0]) - 120) < 12


def test_the_folder_above_will_do_and_other_splits_and_resolutions(tmp_path):
    make_videos(tmp_path / "DAVIS", resolution="Full-Resolution")
    make_list(tmp_path / "DAVIS/ImageSets/2017/train.txt")
    found = davis.create("davis2017", tmp_path, "train", ["ride"], "Full-Resolution")
    assert (found.counts["frames"], found.note, found.expected) == (3, "", {})


@pytest.mark.parametrize("objects", [1, 2])
@pytest.mark.parametrize("value", [None, 255])
def test_objects_of_2016_are_one(tmp_path, objects, value):
    make_videos(tmp_path, objects, value=value)
    make_list(tmp_path / "ImageSets/2016/val.txt")
    walk = davis.create("davis2016", tmp_path).sequences[0]
    mask = walk.read_mask(0)
    assert walk.objects == 1
    assert np.unique(mask).tolist() == [0, 1]
    assert mask.sum() == objects * 6 * 9


@pytest.mark.parametrize("resolution", ["480p", "1080p"])
def test_the_list_of_pairs_of_2016(tmp_path, resolution):
    make_videos(tmp_path, 1, resolution, value=255)
    shutil.copytree(tmp_path / "Annotations" / resolution / "ride", tmp_path / "Annotations" / resolution / "extra")
    lines = [
        f"/JPEGImages/{resolution}/{name}/{index:05d}.jpg /Annotations/{resolution}/{name}/{index:05d}.png"
        for name, length in LENGTHS.items()
        for index in range(length - 1)  # the last ones are not listed
    ]
    make_list(tmp_path / f"ImageSets/{resolution}/val.txt", lines)
    found = davis.create("davis2016", tmp_path, resolution=resolution)
    assert found.counts == {"sequences": 2, "frames": 5, "objects": 2}
    with pytest.raises(
        VideoError, match=r"2017.val\.txt is not there, expected the list of the sequences of davis2017"
    ):
        davis.create("davis2017", tmp_path, resolution=resolution)
    make_list(tmp_path / f"ImageSets/{resolution}/val.txt", [*lines, "/only/one.jpg"])
    with pytest.raises(VideoError, match=r"val\.txt: line 6 is '/only/one\.jpg', expected an image and its mask"):
        davis.create("davis2016", tmp_path, resolution=resolution)


def test_masks_of_2016_in_colour_are_read(tmp_path):
    make_videos(tmp_path, 1, value=255)
    make_list(tmp_path / "ImageSets/2016/val.txt")
    path = tmp_path / "Annotations/480p/walk/00001.png"
    expected = Image.open(path).convert("RGB")
    expected.save(path)
    assert davis.create("davis2016", tmp_path).sequences[0].read_mask(1).sum() == 54


def test_void_stays_and_objects_that_appear_later_are_background(root):
    mask = np.zeros((24, 40), np.uint8)
    mask[:4], mask[4:8], mask[8:12] = 2, 3, 255
    save_mask(root / "Annotations/480p/walk/00001.png", mask)
    read = davis.create("davis2017", root).sequences[0].read_mask(1)
    assert [int(read[row, 0]) for row in (0, 4, 8, 12)] == [2, 0, 255, 0]


def test_void_is_no_object(root):
    path = root / "Annotations/480p/walk/00000.png"
    mask = np.array(Image.open(path))
    mask[0] = 255
    save_mask(path, mask)
    assert davis.create("davis2017", root).sequences[0].objects == 2


def test_the_palette_is_that_of_pascal():
    colors = np.array(davis.pascal_palette()).reshape(256, 3)
    expected = {1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128)}
    expected |= {8: (64, 0, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {index: tuple(colors[index].tolist()) for index in expected} == expected
    assert len(np.unique(colors, axis=0)) == 256


BROKEN = {
    "ImageSets/2017/val.txt": "val.txt is not there, expected the list",
    "JPEGImages/480p/ride": r"JPEGImages.480p.ride is not there, though .*val\.txt lists ride",
    "Annotations/480p/ride": r"Annotations.480p.ride is not there, though .*val\.txt lists ride",
    "JPEGImages/480p/walk/00002.jpg": r"Annotations.*walk.00002\.png: is a mask without a frame",
    "Annotations/480p/walk/00002.png": r"walk.00002\.png: no such mask, though the frame .*00002\.jpg is there",
}


@pytest.mark.parametrize(("path", "message"), BROKEN.items(), ids=BROKEN)
def test_what_is_missing_is_named(root, path, message):
    (root / path).rename(root / "away")
    with pytest.raises(VideoError, match=message):
        davis.create("davis2017", root)


def test_lists_that_make_no_sense_are_named(root):
    listed = root / "ImageSets/2017/val.txt"
    for lines, message in [((), "lists no sequence"), (("walk", "ride", "walk"), "lists walk twice")]:
        make_list(listed, lines)
        with pytest.raises(VideoError, match=rf"val\.txt: {message}"):
            davis.create("davis2017", root)
    listed.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(VideoError, match=r"val\.txt: is no text"):
        davis.create("davis2017", root)


def test_a_listed_pair_that_is_missing_is_named(tmp_path):
    make_videos(tmp_path, 1, value=255)
    line = "/JPEGImages/480p/walk/00009.jpg /Annotations/480p/walk/00000.png"
    make_list(tmp_path / "ImageSets/480p/val.txt", [line])
    with pytest.raises(VideoError, match=r"walk.00009\.jpg: no such frame"):
        davis.create("davis2016", tmp_path)


def test_an_empty_folder_of_frames_is_named(root):
    for path in (root / "JPEGImages/480p/walk").iterdir():
        path.unlink()
    with pytest.raises(VideoError, match=r"JPEGImages.480p.walk: holds no frame"):
        davis.create("davis2017", root)


def test_a_mask_of_another_size_is_named(root):
    save_mask(root / "Annotations/480p/ride/00001.png", np.ones((40, 24), np.uint8))
    with pytest.raises(VideoError, match=r"ride.00001\.png: has \(40, 24\) pixels .*, its frame has \(24, 40\)"):
        davis.create("davis2017", root)


def test_a_first_mask_without_object_is_named(root):
    path = root / "Annotations/480p/ride/00000.png"
    save_mask(path, np.zeros((24, 40), np.uint8))
    with pytest.raises(VideoError, match=r"ride.00000\.png: shows no object, expected"):
        davis.create("davis2017", root)
    save_mask(path, np.eye(24, 40, dtype=np.uint8) * 255)
    with pytest.raises(VideoError, match=r"00000\.png: shows no object \(0 and 255 alone: a mask of DAVIS 2016\?\)"):
        davis.create("davis2017", root)


def test_masks_that_are_none_are_named(root):
    walk = davis.create("davis2017", root).sequences[0]
    Image.new("RGB", (40, 24)).save(walk.masks[1])
    walk.masks[2].write_bytes(walk.masks[2].read_bytes()[:60])
    walk.masks[3].unlink()
    for index, message in [(1, "has mode RGB, expected a palette"), (2, "damaged or unreadable"), (3, "no such mask")]:
        with pytest.raises(VideoError, match=rf"walk.0000{index}\.png: {message}"):
            walk.read_mask(index)


def test_a_damaged_frame_is_named(root):
    walk = davis.create("davis2017", root).sequences[0]
    walk.frames[1].write_bytes(walk.frames[1].read_bytes()[:400])
    with pytest.raises(VideoError, match=r"walk.00001\.jpg: damaged or unreadable"):
        walk.read_frame(1)
    walk.frames[1].write_text("<html>")
    with pytest.raises(VideoError, match=r"walk.00001\.jpg: damaged or unreadable"):
        davis.create("davis2017", root)


def test_arguments_that_make_no_sense_are_refused(root):
    with pytest.raises(VideoError, match=r"val\.txt: does not list run, expected some of walk, ride"):
        davis.create("davis2017", root, sequences=["ride", "run"])
    with pytest.raises(ValueError, match="sequences is empty"):
        davis.create("davis2017", root, sequences=[])
    with pytest.raises(ValueError, match="key is 'davis', expected"):
        davis.create("davis", root)


@real_data
def test_real_videos():
    found = davis.create("davis2016", REAL)
    assert found.counts == {"sequences": 4, "frames": 120, "objects": 4}
    assert found.note == "not the whole split: 4 of 20 sequences, 120 of 1376 frames, 4 of 20 objects"
    for sequence in found.sequences:
        assert sequence.read_frame(29).size == (854, 480)
        assert 0.001 < sequence.read_mask(29).mean() < 0.3
    with pytest.raises(VideoError, match=r"2017.val\.txt is not there"):
        davis.create("davis2017", REAL)


@real_data
def test_both_lists_of_2016_name_the_same_files(tmp_path):
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / part).symlink_to(REAL / part)
    shutil.copytree(REAL / "ImageSets/480p", tmp_path / "ImageSets/480p")
    by_names, by_pairs = davis.create("davis2016", REAL), davis.create("davis2016", tmp_path)
    for one, other in zip(by_names.sequences, by_pairs.sequences, strict=True):
        assert [path.relative_to(REAL) for path in one.frames] == [path.relative_to(tmp_path) for path in other.frames]
        assert [path.relative_to(REAL) for path in one.masks] == [path.relative_to(tmp_path) for path in other.masks]
