"""The figure of a spectrum."""

import io
import subprocess
import sys

import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from naf.visualization import spectrum_panels
from naf.visualization.spectrum import Spectrum
from naf.visualization.spectrum_figure import spectrum_figure
from naf.visualization.spectrum_panels import Scene
from naf.visualization.theme import find_theme
from tests.helpers import randn, small
from tests.visualization.test_spectrum import encode

PHOTO = randn(3, 40, 48).sigmoid()


def found(name="naf", grid=(10, 12), output=(40, 48), pixel=(17, 30)):
    upsampler = small(name)
    return Spectrum.of_guidance(upsampler, encode(upsampler, grid, output, (40, 48)), *pixel)


def scene(spectrum):
    return Scene(spectrum.of_head(None), find_theme("light"), is_dark=False)


def texts(figure):
    own = [text.get_text() for text in figure.texts]
    return own + [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_is_drawn_on_the_theme_without_a_missing_glyph(theme):
    figure, file = spectrum_figure(found(), PHOTO, theme=theme, title="naf"), io.BytesIO()
    figure.savefig(file, dpi=50)
    picture = Image.open(file).convert("RGB")
    assert picture.size == (600, 390)
    assert "#{:02x}{:02x}{:02x}".format(*picture.getpixel((2, 2))) == find_theme(theme).paper
    assert to_hex(figure.get_facecolor()) == find_theme(theme).paper


def test_the_headline_says_what_is_drawn():
    assert "naf  ·  pixel (17, 30)  ·  10x12 → 40x48  ·  mean of 4 heads" in texts(
        spectrum_figure(found(), title="naf")
    )
    assert "pixel (17, 30)  ·  10x12 → 40x48  ·  head 2 of 4" in texts(spectrum_figure(found(), head=1))
    assert "pixel (17, 30)  ·  10x12 → 40x48  ·  one head" in texts(spectrum_figure(found("naf+")))


def test_the_waves_of_both_cells_end_at_their_scores():
    spectrum = found()
    mean = spectrum.of_head(None)
    shown = texts(spectrum_figure(spectrum, PHOTO))
    for number, cell in enumerate(scene(spectrum).examples, 1):
        assert f"cell {number}: {mean.scores[0][cell]:.1f}" in shown
    chain = next(axes for axes in spectrum_figure(spectrum, PHOTO).axes if axes.get_xlabel().startswith("score, "))
    ends = sorted(line.get_xdata()[-1] for line in chain.lines if len(line.get_xdata()) > 2)
    assert ends == pytest.approx(sorted(float(mean.scores[0][cell]) for cell in scene(spectrum).examples))


@pytest.mark.parametrize("pixel", [(0, 0), (17, 30), (39, 47), (0, 25)])
def test_the_two_cells_are_on_a_line_through_the_pixel_the_better_one_first(pixel):
    drawn = scene(found(pixel=pixel))
    first, second = drawn.examples
    assert first[0] == second[0] or first[1] == second[1]
    assert drawn.centre not in (first, second)
    assert drawn.spectrum.scores[0][first] > drawn.spectrum.scores[0][second]


def test_content_that_differs_on_one_side_is_what_the_cells_show():
    upsampler = small("naf+")
    image = torch.zeros(1, 3, 40, 48)
    image[..., 24:] = 2.0  # the pixel's side is the right one
    with torch.no_grad():
        guidance = upsampler.encode(image, (40, 48), (10, 12))
    drawn = scene(Spectrum.of_guidance(upsampler, guidance, 20, 26))
    first, second = drawn.examples
    assert first[0] == second[0]  # left and right of the pixel
    assert drawn.distance(first) > 0 > drawn.distance(second)
    assert drawn.distance(first) > -drawn.distance(second) - 0.75  # not because it is nearer


def test_the_photo_may_be_missing():
    assert len(spectrum_figure(found()).axes) == len(spectrum_figure(found(), PHOTO).axes) - 1


@pytest.mark.parametrize(("grid", "output"), [((1, 1), (5, 5)), ((1, 3), (4, 9)), ((2, 1), (7, 3)), ((9, 9), (16, 16))])
def test_windows_of_any_shape_are_drawn(grid, output):
    figure = spectrum_figure(found("naf+", grid, output, (1, 2)), PHOTO)
    figure.savefig(io.BytesIO(), dpi=40)
    assert ("cell 2" in " ".join(texts(figure))) == (max(grid) > 2)


def test_a_cell_that_occurs_twice_shows_the_sum_of_its_weights():
    spectrum = found("naf", (8, 8), (15, 15), (7, 7)).of_head(None)
    assert len(spectrum.rows.unique()) < len(spectrum.rows)
    shown = spectrum_panels._by_cell(spectrum)
    assert shown.shape == (len(spectrum.rows.unique()), len(spectrum.cols.unique()))
    assert shown.sum() == pytest.approx(1)
    first = spectrum.weights[0][spectrum.rows == spectrum.rows.min()][:, spectrum.cols == spectrum.cols.min()]
    assert shown[0, 0] == pytest.approx(float(first.sum()))


@pytest.mark.parametrize("photo_size", [(40, 48), (100, 90), (13, 17)])
def test_the_photo_lies_where_its_pixels_are(photo_size):
    spectrum = found(pixel=(5, 40))
    rows = torch.arange(photo_size[0]).float()[None, :, None].expand(3, *photo_size) / photo_size[0]
    part, (left, right, bottom, top) = spectrum_panels._photo(spectrum, rows)
    assert left <= spectrum.col_offsets.min() - 0.5 + 1e-9
    assert right >= spectrum.col_offsets.max() + 0.5 - 1e-9
    # The photo's value is the height in the image, from which the distance in cells follows.
    height = (bottom - top) / part.shape[1]
    expected = part[0, :, 0].double() * 10 - (5 + 0.5) / 4
    centres = top + height * torch.arange(part.shape[1], dtype=torch.float64)
    torch.testing.assert_close(centres, expected, rtol=0, atol=1e-5)


def test_pyplot_is_left_alone():
    code = (
        "import sys, torch, naf\n"
        "from naf.visualization.spectrum import spectrum\n"
        "from naf.visualization.spectrum_figure import spectrum_figure\n"
        "upsampler = naf.create('naf', weights=None, dim=32)\n"
        "spectrum_figure(spectrum(upsampler, torch.rand(1, 3, 16, 16), (4, 4), (16, 16), 3, 3))\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"theme": "grey"}, "theme is 'grey', expected one of 'light', 'dark'"),
        ({"head": 7}, "head is 7, expected an integer from 0 to 3"),
        ({"image01": PHOTO[None]}, r"image01 has shape \(1, 3, 40, 48\), expected \(3, H, W\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        spectrum_figure(found(), **options)


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match="figures need matplotlib: pip install matplotlib"):
        spectrum_figure(found())
