"""Image files of every kind users have."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from naf.data import ImageError, read_image


def write(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_an_8_bit_png_is_read_exactly(tmp_path, rgb):
    image = read_image(write(tmp_path / "a.png", rgb))
    assert image.dtype == torch.float32
    assert torch.equal(image, torch.from_numpy(rgb).permute(2, 0, 1) / 255)


def test_exif_orientation_is_applied(tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    path = write(tmp_path / "a.png", rgb, exif=exif)
    expected = torch.from_numpy(np.rot90(rgb, -1).copy()).permute(2, 0, 1) / 255
    assert torch.equal(read_image(path), expected)


def test_16_bit_grey_keeps_its_depth(tmp_path):
    grey = np.array([[0, 1, 257], [40000, 65534, 65535]], dtype=np.uint16)
    image = read_image(write(tmp_path / "a.png", grey))
    assert image.shape == (3, 2, 3)
    assert torch.equal(image[0], image[2])
    np.testing.assert_allclose(image[1].numpy(), grey / 65535, rtol=1e-6)


def test_16_bit_colour_tiff_keeps_its_depth(tmp_path):
    array = np.random.default_rng(0).integers(0, 65536, (4, 6, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").permute(1, 2, 0).numpy(), array / 65535, rtol=1e-6)


def test_8_bit_grey_is_repeated(tmp_path, rgb):
    image = read_image(write(tmp_path / "a.png", rgb[..., 0]))
    assert torch.equal(image[0] * 255, torch.from_numpy(rgb[..., 0]).float())
    assert torch.equal(image[0], image[1])


def test_transparent_pixels_are_laid_over_white(tmp_path):
    rgba = np.zeros((2, 2, 4), dtype=np.uint8)
    rgba[0, :, 3] = 255  # opaque black above, transparent black below
    image = read_image(write(tmp_path / "a.png", rgba))
    assert torch.equal(image[:, 0], torch.zeros(3, 2))
    assert torch.equal(image[:, 1], torch.ones(3, 2))


def test_a_transparent_palette_is_laid_over_white(tmp_path):
    palette = Image.fromarray(np.zeros((2, 2), dtype=np.uint8), mode=None).convert("P")
    palette.save(tmp_path / "a.png", transparency=0)
    assert torch.equal(read_image(tmp_path / "a.png"), torch.ones(3, 2, 2))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "1"])
def test_other_colour_modes_become_rgb(tmp_path, rgb, mode):
    path = tmp_path / ("a.png" if mode == "1" else "a.jpg")
    Image.fromarray(rgb).convert(mode).save(path)
    assert read_image(path).shape == (3, 5, 7)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)


def test_a_text_file_called_jpg_is_refused(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("not a picture")
    with pytest.raises(ImageError, match=r"a\.jpg: is no image"):
        read_image(path)


def test_a_truncated_jpeg_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = write(tmp_path / "whole.jpg", noise).read_bytes()
    path = tmp_path / "half.jpg"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"half\.jpg: damaged"):
        read_image(path)


def test_float_values_outside_0_to_1_are_refused(tmp_path):
    write(tmp_path / "a.tif", np.full((3, 3), 7.5, dtype=np.float32))
    with pytest.raises(ImageError, match=r"7\.5.*expected 0 to 1"):
        read_image(tmp_path / "a.tif")
