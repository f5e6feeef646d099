"""`naf similarity`: cosine similarity with chosen pixels."""

import numpy as np
import pytest
import torch.nn.functional as F
from PIL import Image
from skimage import data

import naf
from naf.cli import similarity
from naf.visualization import heat_image, heat_range, mark
from tests.cli.called import error_of_verb, invoke_verb, record_sheets


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "cat.png"
    Image.fromarray(data.chelsea()[60:124, 100:228]).save(path)  # 64 rows, 128 columns
    return path


@pytest.fixture
def drawn(monkeypatch):
    return record_sheets(monkeypatch, similarity)


def test_pictures_are_the_cosine_with_the_features_of_the_pixel(photo, drawn):
    folder = photo.parent / "out"
    points = ["--point", "100,20", "--point", "3,60"]
    said = invoke_verb(
        "similarity", photo, *points, "-u", "nearest,bilinear", "-b", "hog", "--size", "32x96", "-o", folder
    )
    assert f"wrote {folder / 'cat_similarity.png'}" in said
    [(panels, options)] = drawn
    assert [panel.title for panel in panels[:4]] == ["x 100, y 20", "coarse features", "nearest", "bilinear"]
    assert options["columns"] == len(panels) / 2 == 4

    image = naf.data.read_image(photo)[None]
    coarse = naf.backbones.create("hog")(image)  # (1, C, 4, 8)
    maps = [coarse, *(naf.create(name)(None, coarse, (32, 96)) for name in ("nearest", "bilinear"))]
    cells = [((1, 6), (10, 75)), ((3, 0), (30, 2))]  # of the two points, on the coarse and on the output grid
    for number, (x, y) in enumerate([(100, 20), (3, 60)]):
        heats = []
        for features, cell in zip(maps, [cells[number][0], *2 * [cells[number][1]]], strict=True):
            vector = features[0, :, *cell]
            heats.append(F.cosine_similarity(features[0], vector[:, None, None], dim=0))
        low, high = heat_range(*heats)
        for panel, heat in zip(panels[4 * number + 1 : 4 * number + 4], heats, strict=True):
            factor = -(-960 // heat.shape[1])
            resample = Image.Resampling.NEAREST if panel.is_coarse else Image.Resampling.BICUBIC
            size = (heat.shape[1] * factor, heat.shape[0] * factor)
            expected = mark(heat_image(heat, low, high).resize(size, resample), y, x, (64, 128))
            difference = np.abs(np.asarray(panel.image, dtype=int) - np.asarray(expected, dtype=int))
            assert difference.max() <= 3
        assert panels[4 * number].scale.high == f"{high:.2f}".replace("-", "−")


@pytest.mark.parametrize(("full", "grid"), [(64, 64), (64, 4), (100, 7), (7, 100), (5, 1), (3, 2)])
def test_a_pixel_maps_to_the_position_that_holds_its_centre(full, grid):
    for pixel in range(full):
        row, col = similarity.position_on((grid, 1), (pixel, 0), (full, 1))
        assert row / grid <= (pixel + 0.5) / full < (row + 1) / grid
        assert col == 0


def test_the_marked_pixel_is_brightest_also_for_a_trained_upsampler(photo, drawn):
    invoke_verb("similarity", photo, "-p", "40,30", "-u", "naf", "-b", "hog", "-o", photo.parent / "out")
    [(panels, _)] = drawn
    sharp = np.asarray(panels[2].image.convert("L"))
    middle = sharp[int(30.5 / 64 * sharp.shape[0]), int(40.5 / 128 * sharp.shape[1])]
    assert middle >= np.quantile(sharp, 0.98)


def test_existing_sheets_stay_unless_overwriting_is_asked_for(photo, monkeypatch, capsys):
    folder = photo.parent / "out"
    target = folder / "cat_similarity.png"
    folder.mkdir()
    target.write_bytes(b"mine")
    arguments = (photo, "-p", "40,30", "-u", "nearest", "-b", "hog", "-o", folder)
    assert "--overwrite replaces it" in error_of_verb("similarity", monkeypatch, capsys, *arguments)
    assert target.read_bytes() == b"mine"
    invoke_verb("similarity", *arguments, "--overwrite", "--theme", "dark")
    with Image.open(target) as sheet:
        assert max(sheet.convert("RGB").getpixel((2, 2))) < 40
    assert [path.name for path in folder.iterdir()] == [target.name]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("128,0", "lies outside of cat.png, expected X from 0 to 127 and Y from 0 to 63"),
        ("0,64", "lies outside"),
        ("-1,5", "lies outside"),
        ("5", "expected X,Y"),
        ("5,6,7", "expected X,Y"),
        ("a,b", "expected X,Y"),
        ("1.5,2", "expected X,Y"),
        ("²,1", "expected X,Y"),
        ("", "expected X,Y"),
    ],
)
def test_bad_points_end_with_one_line(photo, monkeypatch, capsys, point, message):
    arguments = (photo, f"--point={point}", "-b", "hog", "-o", photo.parent / "out")
    said = error_of_verb("similarity", monkeypatch, capsys, *arguments)
    assert message in said
    assert f"--point {point}" in said or repr(point) in said
    assert not (photo.parent / "out").exists()


def test_a_point_is_needed(photo):
    invoke_verb("similarity", photo, status=2)
