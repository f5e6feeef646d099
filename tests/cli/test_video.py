"""`naf video`: what it writes and says, how it goes on when it was stopped."""

import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image

from naf.cli import main
from naf.clip import SEGMENT
from naf.visualization.clip import ClipFrames
from tests.cli.called import error_of_verb, invoke_verb
from tests.cli.test_verbs import ENVIRONMENT
from tests.data.video.clips import decoded, panned, write_video

FRAMES = SEGMENT + 3
# The command, killed as the second segment is begun.
KILLED = """
import os, signal, torch
from naf import clip
torch.set_num_threads({threads})
write = clip.write_segment
def write_or_die(path, pictures):
    if path.name == "000001.mp4":
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, pictures)
clip.write_segment = write_or_die
from naf.cli import main
main()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a folder of frames in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "walk").mkdir()
    for number, frame in enumerate(panned(FRAMES)):
        Image.fromarray(frame).save(tmp_path / f"walk/{number}.png")
    return tmp_path


def test_a_folder_becomes_a_labelled_video(folder):
    said = invoke_verb("video", "walk", "-b", "hog")
    assert f"{FRAMES} frames of 64x96, 0.44 s" in said
    assert f"wrote out/walk_naf.mp4: {FRAMES} frames, " in said
    frames, seconds = decoded("out/walk_naf.mp4")
    assert len(frames) == FRAMES
    assert frames[0].shape[1] == 1916  # photo, coarse and upsampled: the width of Full HD
    assert seconds == pytest.approx([number / 25 for number in range(FRAMES)])
    assert [file.name for file in (folder / "out").iterdir()] == ["walk_naf.mp4"]


def test_options_choose_size_rate_frames_and_name(folder):
    arguments = ["walk/", "-b", "hog", "-u", "bilinear", "--layout", "result", "--scale", "0.5", "--fps", "10"]
    invoke_verb("video", *arguments, "--every", "2", "-o", "made/half.mp4")
    frames, seconds = decoded("made/half.mp4")
    assert {frame.shape for frame in frames} == {(32, 48, 3)}
    assert seconds == pytest.approx([number / 5 for number in range(len(frames))])
    assert len(frames) == -(-FRAMES // 2)


def test_several_upsamplers_stand_side_by_side(folder):
    write_video(folder / "clip.mkv", panned(2))
    invoke_verb("video", "clip.mkv", "-b", "hog", "-u", "nearest,bilinear", "--theme", "dark")
    frames, _ = decoded("out/clip_nearest_bilinear.mp4")
    assert len(frames) == 2
    assert frames[0].shape[0] > 1100  # two rows of two
    assert frames[0][2, 2].max() < 60


def test_an_interrupted_run_says_so_in_one_line_and_goes_on(folder, monkeypatch, capsys):
    make, calls = ClipFrames.make, []

    def interrupt(self, *arguments):
        calls.append(arguments)
        if len(calls) == SEGMENT + 2:
            raise KeyboardInterrupt
        return make(self, *arguments)

    monkeypatch.setattr(ClipFrames, "make", interrupt)
    arguments = ["video", "walk", "-b", "hog", "-u", "bilinear"]
    monkeypatch.setattr(sys, "argv", ["naf", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130
    said = capsys.readouterr().err
    assert said == f"stopped: out/walk_bilinear.mp4.partial keeps {SEGMENT} frames, the same command goes on there\n"
    assert not (folder / "out/walk_bilinear.mp4").exists()
    assert f"{FRAMES} frames from frame {SEGMENT} on" in invoke_verb(*arguments)
    assert len(decoded("out/walk_bilinear.mp4")[0]) == FRAMES


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(folder):
    arguments = ["video", "walk", "-b", "hog", "-u", "bilinear"]
    invoke_verb(*arguments, "-o", "whole.mp4")
    code = KILLED.format(threads=torch.get_num_threads())  # sums of other threads round otherwise
    command = [sys.executable, "-c", code, *arguments, "-o", "killed.mp4"]
    killed = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (folder / "killed.mp4.partial").is_dir()
    assert not (folder / "killed.mp4").exists()
    assert f"from frame {SEGMENT} on" in invoke_verb(*arguments, "-o", "killed.mp4")
    assert (folder / "killed.mp4").read_bytes() == (folder / "whole.mp4").read_bytes()
    assert not list(folder.glob("*.partial"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.mp4"], "none.mp4: no such file or folder"),
        (["text.mp4"], "text.mp4: is no video that can be read"),
        (["empty"], "folder empty holds no image"),
        (["walk", "-u", "nonsense"], "nonsense"),
        (["walk", "--fps", "0"], "fps is 0, expected frames a second"),
        (["clip.mp4", "--fps", "5"], "clip.mp4 is no folder of frames"),
        (["walk", "-u", "nearest,bilinear", "--layout", "result"], "layout 'result' shows one upsampler"),
        (["walk", "--size", "5"], "--size is '5', expected HxW"),
        (["clip.mp4", "-o", "clip.mp4"], "clip.mp4 exists: --overwrite replaces it"),
        (["clip.mp4", "-o", "clip.mp4", "--overwrite"], "would take the place of clip.mp4"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(folder, monkeypatch, capsys, arguments, words):
    write_video(folder / "clip.mp4", panned(2))
    (folder / "text.mp4").write_text("no video")
    (folder / "empty").mkdir()
    assert words in error_of_verb("video", monkeypatch, capsys, *arguments, "-b", "hog")


def test_the_missing_extra_is_named(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    said = error_of_verb("video", monkeypatch, capsys, "walk", "-b", "hog")
    assert "pip install 'naf-upsampler[video]'" in said
