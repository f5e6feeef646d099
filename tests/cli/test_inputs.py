"""What is given on the command line."""

import pytest
import torch

from naf.cli import inputs


def test_folders_globs_and_files_are_found_once_each(tmp_path, monkeypatch):
    for name in ("b.jpg", "a.PNG", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.png").touch()
    (tmp_path / "folder.jpg").mkdir()
    monkeypatch.chdir(tmp_path)
    found = inputs.find_photos([str(tmp_path), str(tmp_path / "**/*.png"), "b.jpg", "missing.png"])
    assert [path.name for path in found] == ["a.PNG", "b.jpg", "c.png", "missing.png"]


def test_a_folder_or_pattern_without_photos_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        inputs.find_photos([str(tmp_path)])
    with pytest.raises(ValueError, match="matches no file"):
        inputs.find_photos([str(tmp_path / "*.png")])


def test_results_are_named_after_the_photo(tmp_path):
    photos = [tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "b.png"]
    assert list(inputs.name_results(photos).values()) == ["a", "b.jpg", "b.png"]
    with pytest.raises(ValueError, match="would write the same files"):
        inputs.name_results([tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg"])


def test_output_sizes():
    assert inputs.output_size((300, 451), None, None) == (300, 451)
    assert inputs.output_size((300, 451), "480x640", None) == (480, 640)
    assert inputs.output_size((300, 451), None, 0.5) == (150, 226)
    with pytest.raises(ValueError, match="both given"):
        inputs.output_size((3, 4), "4x4", 2)


@pytest.mark.parametrize("size", ["480", "480x", "0x4", "-4x4", "4x4x4", "4.5x4", "axb", "²x4"])
def test_malformed_sizes_are_refused(size):
    with pytest.raises(ValueError, match="expected HxW"):
        inputs.output_size((3, 4), size, None)


@pytest.mark.parametrize("scale", [0.0, -1.0, 65.0, float("nan")])
def test_scales_out_of_range_are_refused(scale):
    with pytest.raises(ValueError, match="--scale is"):
        inputs.output_size((3, 4), None, scale)


def test_devices_and_dtypes():
    assert inputs.choose_device("cpu") == torch.device("cpu")
    assert inputs.choose_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or mps"):
        inputs.choose_device("abacus")
    with pytest.raises(ValueError, match="expected float32, float16, bfloat16"):
        inputs.choose_dtype("int8")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written to"):
        inputs.output_folder(tmp_path / "file" / "out")
