"""`naf upsample --stream`: stores that equal the files, killed and resumed runs, refusals."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from PIL import Image
from safetensors import safe_open
from skimage import data

from naf import pipeline
from naf.cli import app
from naf.upsamplers.naf import NAF
from tests.cli.test_verbs import ENVIRONMENT, picture

TALL = np.repeat(data.astronaut()[:, :48], 2, axis=0)[:600]
# The command where no image fits the memory budget, so that it is encoded in bands; killed after row 512.
KILLED = """
import os, signal
from naf.data.band_store import BandStore
from naf.upsamplers.naf import NAF
NAF.memory = lambda *_: 1 << 40
write = BandStore.write
def write_and_die(self, rows, band):
    write(self, rows, band)
    if rows.stop == 512:
        os.kill(os.getpid(), signal.SIGKILL)
BandStore.write = write_and_die
from naf.cli import main
main()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with tall.png in it."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(TALL).save("tall.png")
    return tmp_path


@pytest.fixture
def upsample(folder, capsys):
    """The verb in this process: what it prints."""

    def run(*arguments, status=0):
        assert (app(["upsample", *arguments, "-b", "hog"], standalone_mode=False) or 0) == status
        printed = capsys.readouterr()
        return printed.out + printed.err

    return run


def stored(path, name="features"):
    """Values and metadata of a complete map."""
    if str(path).endswith(".zarr"):
        array = zarr.open_group(path, mode="r")[name]
        assert array.attrs["complete"] is True
        return torch.from_numpy(array[:]), dict(array.attrs)
    with safe_open(path, "pt") as file:
        return file.get_tensor("features"), file.metadata()


@pytest.mark.parametrize("store", ["s.zarr", "s.safetensors"])
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(folder, upsample, monkeypatch, store):
    upsample("tall.png", "-o", "files")
    expected, about = stored("files/tall.safetensors")
    command = [sys.executable, "-c", KILLED, "upsample", "tall.png", "-b", "hog", "--stream", store]
    killed = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (folder / f"{store}.resume").is_dir()

    assert "upsampler 'naf', now 'bilinear'" in upsample("tall.png", "--stream", store, "-u", "bilinear", status=1)
    Image.fromarray(TALL // 2).save("tall.png")
    assert "another image or other weights" in upsample("tall.png", "--stream", store, status=1)
    Image.fromarray(TALL).save("tall.png")

    monkeypatch.setattr(NAF, "memory", lambda *_: 1 << 40)
    printed = upsample("tall.png", "--stream", store)
    assert "16 channels, 38x3 → 600x48 (x15.79, x16) from row 512 on" in printed
    actual, metadata = stored(store, "tall")
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    assert about.items() <= metadata.items()
    assert sorted(path.name for path in folder.iterdir()) == ["files", "out", store, "tall.png"]
    assert abs(picture("out/tall.png") - picture("files/tall.png")).max() <= 1


def test_several_photos_share_a_store_and_are_skipped_when_they_are_in_it(folder, upsample):
    Image.fromarray(data.chelsea()[:50, :70]).save("cat.png")
    arguments = ["cat.png", "tall.png", "--stream", "s.zarr", "--dtype", "float16"]
    upsample(*arguments, "--size", "40x30")
    assert stored("s.zarr", "cat")[0].shape == (16, 40, 30)
    assert stored("s.zarr", "tall")[0].dtype == torch.float16
    assert upsample(*arguments).count("skipped") == 2
    (folder / "out/cat.png").unlink()
    assert "→ out/cat.png (s.zarr was there and is kept)" in upsample(*arguments, "--size", "40x30")
    upsample(*arguments, "--overwrite", "--size", "50x30")
    assert stored("s.zarr", "cat")[0].shape == (16, 50, 30)


def test_the_picture_of_a_large_output_is_reduced(upsample):
    upsample("tall.png", "-u", "bilinear", "--stream", "s.zarr", "--size", "2500x90")
    upsample("tall.png", "-u", "bilinear", "--size", "2500x90", "-o", "whole")
    small, whole = picture("out/tall.png"), picture("whole/tall.png")
    assert small.shape == (1250, 45, 3)
    blocks = whole.reshape(1250, 2, 45, 2, 3)
    inside = (blocks.min((1, 3)) > 0) & (blocks.max((1, 3)) < 255)  # the whole picture is clamped before the mean
    assert inside.any()
    assert abs(small - blocks.mean((1, 3)))[inside].max() <= 1


def test_what_even_bands_cannot_hold_is_refused_before_it_is_made(upsample, monkeypatch):
    monkeypatch.setattr(pipeline, "available_mib", lambda: 10.0)
    printed = upsample("tall.png", "--stream", "s.zarr", "--size", "6000x480", status=1)
    assert "an output of 6000x480 needs" in printed
    assert not Path("s.zarr").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stream", "s.npy"], "expected .zarr or .safetensors"),
        (["--stream", "s.zarr", "--dtype", "bfloat16"], "zarr cannot hold bfloat16"),
        (["--stream", "s.safetensors", "tall.*"], "holds one photo, 2 are given"),
    ],
)
def test_bad_stores_are_refused_before_anything_is_made(folder, upsample, arguments, message):
    Image.fromarray(TALL).save("tall.jpg")
    with pytest.raises(ValueError, match=message):
        upsample("tall.png", *arguments)
    assert sorted(path.name for path in folder.iterdir()) == ["tall.jpg", "tall.png"]
