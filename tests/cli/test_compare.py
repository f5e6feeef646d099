"""What `naf compare` puts on its sheets; test_verbs.py calls it as a user does."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

import naf
from naf.cli import compare, sheets
from naf.visualization import PCAColors, to_image
from tests.cli.called import error_of_verb, invoke_verb, record_sheets


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "cat.png"
    Image.fromarray(data.chelsea()[:64, 100:228]).save(path)
    return path


@pytest.fixture
def drawn(monkeypatch):
    return record_sheets(monkeypatch, compare)


def test_a_sheet_says_what_was_measured_where(photo, drawn):
    invoke_verb("compare", photo, "-u", "nearest, naf,nearest", "-b", "hog", "-o", photo.parent, "--size", "32x64")
    [(panels, options)] = drawn
    assert [panel.title for panel in panels] == ["photo", "coarse features", "nearest", "naf"]
    assert options["title"] == "cat.png"
    assert options["subtitle"].startswith("backbone hog, 16 channels · ")
    assert f", {torch.get_num_threads()} thread" in options["subtitle"]
    for panel, grid in zip(panels[1:], ["4×8", "32×64", "32×64"], strict=True):
        size, time, memory = panel.caption.split("\t")
        assert size == grid
        assert float(time.removesuffix(" ms").removesuffix(" s")) >= 0
        assert memory.startswith("+")
        assert memory.endswith(" MiB")


def test_all_pictures_have_one_basis(photo, drawn):
    invoke_verb("compare", photo, "-u", "bilinear", "-b", "hog", "-o", photo.parent)
    [(panels, _)] = drawn
    image = naf.data.read_image(photo)[None]
    coarse = naf.backbones.create("hog")(image)
    colors = PCAColors.fit(coarse)
    expected = [colors.image(coarse), colors.image(naf.create("bilinear")(None, coarse, (64, 128)))]
    for panel, picture in zip(panels, [to_image(image[0]), *expected], strict=True):
        assert np.abs(np.subtract(panel.image, picture, dtype=int)).max() <= 1


@pytest.mark.parametrize(("theme", "low", "high"), [("light", 250, 255), ("dark", 0, 40)])
def test_paper_is_that_of_the_theme(photo, theme, low, high):
    invoke_verb("compare", photo, "-u", "nearest", "-b", "hog", "-o", photo.parent, "--theme", theme)
    with Image.open(photo.parent / "cat_compare.png") as sheet:
        assert all(low <= value <= high for value in sheet.convert("RGB").getpixel((2, 2)))


def test_an_unknown_theme_is_refused_before_any_work(photo):
    invoke_verb("compare", photo, "--theme", "sepia", "-o", photo.parent / "out", status=2)
    assert not (photo.parent / "out").exists()


def test_an_output_beyond_the_memory_is_refused_before_it_is_made(photo, monkeypatch, capsys):
    monkeypatch.setattr("naf.pipeline.available_mib", lambda: 20.0)
    arguments = (photo, "-u", "nearest", "-b", "hog", "-o", photo.parent, "--size", "1024x1024")  # 16 channels: 64 MiB
    said = error_of_verb("compare", monkeypatch, capsys, *arguments)
    assert "an output of 1024x1024 needs 0.1 GiB" in said
    invoke_verb("compare", photo, "-u", "nearest", "-b", "hog", "-o", photo.parent, "--size", "512x512")


@pytest.mark.parametrize(
    ("given", "message"), [(" , ", "expected names separated by commas"), ("naf,biliner", "bilinear")]
)
def test_bad_names_end_with_one_line(photo, monkeypatch, capsys, given, message):
    assert message in error_of_verb("compare", monkeypatch, capsys, photo, "-u", given)


@pytest.mark.parametrize(("threads", "words"), [(1, ", 1 thread · "), (8, ", 8 threads · ")])
def test_the_setting_names_half_precision_and_threads(monkeypatch, threads, words):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    about = sheets.setting(naf.backbones.create("hog"), torch.device("cpu"), torch.bfloat16, "a note")
    assert "16 channels in bfloat16" in about
    assert words in about
    assert about.endswith(" · a note")
