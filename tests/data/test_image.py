"""Image files of every kind users have."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps

from naf.data import ImageError, read_image


def write(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def with_orientation(array, exif):
    image = Image.fromarray(array)
    image.info["exif"] = exif.tobytes()
    return image


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_an_8_bit_png_is_read_exactly(tmp_path, rgb):
    image = read_image(write(tmp_path / "a.png", rgb))
    assert image.dtype == torch.float32
    assert torch.equal(image, torch.from_numpy(rgb).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["RGB.png", "RGB.tif", "L.tif", "I;16.tif"])
def test_exif_orientation_is_applied(tmp_path, rgb, kind, orientation):
    array = {"L.tif": rgb[..., 0], "I;16.tif": rgb[..., 0].astype(np.uint16) * 257}.get(kind, rgb)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path / f"a.{kind[-3:]}", array, exif=exif)
    turned = ImageOps.exif_transpose(with_orientation(rgb if array.ndim == 3 else rgb[..., 0], exif))
    expected = torch.from_numpy(np.array(turned.convert("RGB"))).permute(2, 0, 1) / 255
    torch.testing.assert_close(read_image(path), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_colour_tiff_is_turned_as_its_8_bit_twin(tmp_path, rgb, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    twin = read_image(write(tmp_path / "twin.tif", rgb, exif=exif))
    extratags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", rgb.astype(np.uint16) * 257, photometric="rgb", extratags=extratags)
    torch.testing.assert_close(read_image(tmp_path / "a.tif"), twin)


def test_16_bit_colour_tiff_may_be_planar_and_transparent(tmp_path):
    array = np.random.default_rng(0).integers(0, 65536, (4, 6, 4), dtype=np.uint16)
    values = array / 65535
    over_white = values[..., :3] * values[..., 3:] + 1 - values[..., 3:]
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").permute(1, 2, 0).numpy(), over_white, atol=1e-6)
    planes = np.ascontiguousarray(np.moveaxis(array[..., :3], -1, 0))
    tifffile.imwrite(tmp_path / "b.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_allclose(read_image(tmp_path / "b.tif").permute(1, 2, 0).numpy(), values[..., :3], atol=1e-6)


def test_the_limit_on_decoded_pixels_holds_for_every_format(tmp_path, rgb, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", rgb.astype(np.uint16), photometric="rgb")
    write(tmp_path / "a.png", rgb)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in ("a.tif", "a.png"):
        with pytest.raises(ImageError, match="too large to be decoded safely"):
            read_image(tmp_path / name)


@pytest.mark.filterwarnings("ignore")  # decoders warn of what they find
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp", "a.tif", "deep.tif"])
def test_damaged_files_fail_with_one_kind_of_error(tmp_path, name):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (24, 16, 3), dtype=np.uint8)
    path = tmp_path / name
    if name == "deep.tif":
        tifffile.imwrite(path, pixels.astype(np.uint16) * 257, photometric="rgb")
    else:
        write(path, pixels)
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    outcomes = set()
    for _ in range(150):
        damaged = whole.copy()
        where = random.integers(0, min(len(whole), 400), 3)
        damaged[where] = random.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            outcomes.add(read_image(path).shape[0])
        except ImageError as error:
            outcomes.add(name in str(error))
    assert outcomes <= {3, True}


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
