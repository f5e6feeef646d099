"""The folder of a video in the making: what it keeps, when it refuses, what it leaves."""

import pytest
import torch

from naf.data.video import WorkFolder

HASH, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def work(tmp_path):
    folder = WorkFolder(tmp_path / "a.mp4")
    folder.open({"input": HASH, "size": "1x2"})
    folder.keep({"weight": torch.arange(6.0).view(2, 3).T})
    for number in (0, 1, 3):
        folder.segment(number).touch()
    return folder


def test_the_same_settings_find_what_is_finished(work, tmp_path):
    again = WorkFolder(tmp_path / "a.mp4")
    again.open({"size": "1x2", "input": HASH})
    assert again.finished == 2  # the third is missing
    assert torch.equal(again.load()["weight"], torch.arange(6.0).view(2, 3).T)
    again.open({"size": "1x2", "input": HASH}, overwrite=True)
    assert again.finished == 2


def test_other_settings_are_named(work):
    with pytest.raises(
        ValueError, match=r"a\.mp4\.partial was begun with other settings \(other input; size '1x2', now 'none'\)"
    ):
        work.open({"input": OTHER})
    assert work.finished == 2
    work.open({"input": OTHER}, overwrite=True)
    assert (work.finished, work.load()) == (0, None)
    work.open({"input": OTHER})


def test_settings_that_cannot_be_read_are_other_settings(work):
    (work.path / "settings.json").write_text("{half")
    with pytest.raises(ValueError, match="other settings"):
        work.open({"input": HASH, "size": "1x2"})


def test_removing_leaves_what_is_not_ours(work):
    (work.path / ".000004.mp4.17.partial").touch()
    (work.path / "diary.txt").touch()
    work.remove()
    assert [file.name for file in work.path.iterdir()] == ["diary.txt"]
    with pytest.raises(ValueError, match=r"a\.mp4\.partial is in the way"):
        work.open({"input": HASH})
    (work.path / "diary.txt").unlink()
    work.open({"input": HASH})
    work.remove()
    assert not work.path.exists()


def test_a_file_in_its_place_is_not_touched(tmp_path):
    (tmp_path / "a.mp4.partial").write_text("mine")
    with pytest.raises(ValueError, match="in the way"):
        WorkFolder(tmp_path / "a.mp4").open({}, overwrite=True)
    assert (tmp_path / "a.mp4.partial").read_text() == "mine"
