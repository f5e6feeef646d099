"""Folders of frames as clips: order, sizes, rates."""

import numpy as np
import pytest
from PIL import Image

from naf.data.image import ImageError
from naf.data.video import ClipError, open_clip
from tests.data.video.clips import panned


def write_frames(folder, names, frames=None):
    folder.mkdir()
    for name, frame in zip(names, frames or panned(len(names)), strict=True):
        Image.fromarray(frame).save(folder / name)
    return folder


def test_frames_come_in_natural_order(tmp_path):
    names = ["f1.png", "F2.png", "f10.png", "f010b.png", "f100.png"]
    folder = write_frames(tmp_path / "clip", names)
    (folder / ".hidden.png").touch()
    (folder / "notes.txt").touch()
    clip = open_clip(folder)
    assert [file.name for file in clip.files] == names
    for frame, expected in zip(clip.read(range(5)), panned(5), strict=True):
        np.testing.assert_array_equal((255 * frame).round().permute(1, 2, 0).numpy(), expected)
    assert len(list(clip.read([1, 4]))) == 2


@pytest.mark.parametrize(("fps", "seconds"), [(None, 0.2), (10, 0.5), (29.97, 5 / 29.97), (0.5, 10)])
def test_a_rate_sets_the_times(tmp_path, fps, seconds):
    clip = open_clip(write_frames(tmp_path / "clip", [f"{i}.png" for i in range(5)]), fps=fps)
    assert clip.seconds == pytest.approx(seconds, rel=1e-4)
    assert clip.times == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 2000])
def test_a_rate_that_makes_no_sense_is_refused(tmp_path, fps):
    folder = write_frames(tmp_path / "clip", ["1.png"])
    with pytest.raises(ValueError, match=r"fps is .*, expected frames a second"):
        open_clip(folder, fps=fps)


def test_the_orientation_of_photos_counts(tmp_path):
    folder = write_frames(tmp_path / "clip", ["1.png"])
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.rot90(panned(1)[0]).copy()).save(folder / "2.jpg", exif=turned)
    clip = open_clip(folder)
    assert clip.frame_size == (64, 96)
    assert all(frame.shape == (3, 64, 96) for frame in clip.read([0, 1]))


def test_a_frame_of_another_size_is_named(tmp_path):
    folder = write_frames(tmp_path / "clip", ["1.png", "2.png"])
    Image.fromarray(panned(1, 60)[0]).save(folder / "3.png")
    with pytest.raises(ClipError, match=r"3\.png has 60x96 pixels, 1\.png has 64x96: expected frames of one size"):
        open_clip(folder)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ClipError, match=r"holds no image \(looked for .*\.png"):
        open_clip(tmp_path)


@pytest.mark.parametrize("share", [0, 0.5])
def test_damage_names_the_file_before_the_work(tmp_path, share):
    folder = write_frames(tmp_path / "clip", ["1.jpg", "2.jpg"])
    content = (folder / "2.jpg").read_bytes()
    (folder / "2.jpg").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError, match=r"2\.jpg: (damaged|is no image)"):
        open_clip(folder)


def test_the_hash_is_of_content_and_order(tmp_path):
    frames = panned(2)
    names = {"a": ("1.png", "2.png"), "b": ("x3.png", "x4.png")}
    same = [open_clip(write_frames(tmp_path / folder, files, frames)) for folder, files in names.items()]
    other = open_clip(write_frames(tmp_path / "c", ["1.png", "2.png"], frames[::-1]))
    assert same[0].digest == same[1].digest != other.digest
