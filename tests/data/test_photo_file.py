"""Photos written again as they came: values bit for bit, and what else the file says."""

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps
from PIL.TiffImagePlugin import IFDRational

from naf.data import ImageError
from naf.data.photo_file import Photo, check_target, read_photo, write_photo
from naf.data.photo_file.about import exif_bytes

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF, GPS, ORIENTATION = 0x8769, 0x8825, 0x0112
KINDS = [(depth, samples) for depth in (8, 16) for samples in (1, 2, 3, 4)]


def drawn(depth, samples, size=(9, 7)):
    kind = {8: np.uint8, 16: np.uint16}[depth]
    return np.random.default_rng(samples).integers(0, 2**depth, (*size, samples), dtype=kind)


def exif_of(tags=None):
    camera = {0x9003: "2024:01:02 03:04:05", 0x829A: IFDRational(1, 250), 0xA002: 7, 0xA003: 9}
    return {0x010F: "Canon", 0x013B: "Zoe", EXIF: camera, GPS: {1: "N", 2: (48.0, 51.0, 24.0)}, **(tags or {})}


# The same file again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize(("depth", "samples"), KINDS)
@pytest.mark.parametrize("size", [(9, 7), (1, 1), (300, 5)])
def test_what_is_read_is_what_was_written(tmp_path, depth, samples, suffix, size):
    values = drawn(depth, samples, size)
    write_photo(tmp_path / f"a{suffix}", Photo(values, PROFILE, exif_of(), (300.0, 150.0)))
    photo = read_photo(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(photo.samples, values)
    assert (photo.samples.dtype, photo.depth) == (values.dtype, depth)
    assert (photo.is_grey, photo.has_alpha) == (samples < 3, samples in (2, 4))
    assert photo.profile == PROFILE
    assert photo.dpi == pytest.approx((300, 150), abs=0.02)  # PNG counts whole pixels a metre
    assert photo.exif[0x010F] == "Canon"
    assert photo.exif[EXIF][0x9003] == "2024:01:02 03:04:05"
    assert photo.exif[EXIF][0x829A] == IFDRational(1, 250)
    assert photo.exif[GPS][2] == (48, 51, 24)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize(("depth", "samples"), KINDS)
def test_an_image_that_nothing_was_done_to_keeps_every_bit(depth, samples):
    values = np.arange(2**depth).astype(drawn(depth, 1).dtype)
    photo = Photo(np.repeat(values.reshape(16, -1, 1), samples, 2))
    image = photo.image
    assert (image.shape[0], image.dtype) == (3, torch.float32)
    assert (image.min(), image.max()) == (0, 1)
    np.testing.assert_array_equal(photo.with_image(image).samples, photo.samples)


@pytest.mark.filterwarnings("ignore:.*TorchVision are deprecated")
@pytest.mark.parametrize(("depth", "samples"), KINDS)
def test_other_programs_read_what_was_written(tmp_path, depth, samples):
    values = drawn(depth, samples)
    for name in ("a.png", "a.tif"):
        write_photo(tmp_path / name, Photo(values, PROFILE, exif_of()))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif").reshape(values.shape), values)
    io = pytest.importorskip("torchvision.io", reason="the independent PNG decoder is torchvision's")
    coded = torch.frombuffer(bytearray((tmp_path / "a.png").read_bytes()), dtype=torch.uint8)
    decoded = io.decode_image(coded, io.ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("how", [0, 1, 2])
def test_16_bit_png_of_other_programs_is_read(tmp_path, samples, how):
    """Filters none, left, up; the colour types of the standard."""
    values = drawn(16, samples)
    height, width = values.shape[:2]
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    before = np.zeros_like(rows)
    if how == 1:
        before[:, 2 * samples :] = rows[:, : -2 * samples]
    elif how == 2:
        before[1:] = rows[:-1]
    data = b"".join(bytes([how]) + row.tobytes() for row in rows - before)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[samples], 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, part in ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")):
        content += struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png").samples, values)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_tiff_of_other_programs_is_read(tmp_path, byteorder, samples, planar):
    values = drawn(16, samples)
    stored = np.moveaxis(values, -1, 0) if planar == "separate" else values
    if samples == 1:
        stored, planar = values[..., 0], None
    kind = {"photometric": "rgb" if samples > 2 else "minisblack", "byteorder": byteorder, "compression": "zlib"}
    kind |= {"extrasamples": ["unassalpha"]} if samples in (2, 4) else {}
    tifffile.imwrite(tmp_path / "a.tif", np.ascontiguousarray(stored), planarconfig=planar, metadata=None, **kind)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").samples, values)


def test_white_may_be_zero(tmp_path):
    values = drawn(16, 1)
    tifffile.imwrite(tmp_path / "a.tif", 65535 - values[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").samples, values)


# Orientation, profile, Exif -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("name", "depth", "samples"),
    [
        ("a.jpg", 8, 1),
        ("a.jpg", 8, 3),
        *((name, *kind) for name in ("a.png", "a.tif") for kind in ((8, 1), (8, 4), (16, 1), (16, 2), (16, 3))),
    ],
)
def test_a_turned_photo_is_upright_and_says_so(tmp_path, name, depth, samples, orientation):
    photo = Photo(drawn(depth, samples), PROFILE, exif_of({ORIENTATION: orientation}), (300.0, 150.0))
    write_photo(tmp_path / name, photo)
    stored = read_photo(tmp_path / name).samples
    if name == "a.jpg":
        with Image.open(tmp_path / name) as image:
            expected = np.atleast_3d(np.asarray(ImageOps.exif_transpose(image)))
    else:
        upright = []
        for channel in np.moveaxis(photo.samples, -1, 0):
            picture = Image.fromarray(channel.astype(np.int32))
            picture.info["exif"] = exif_bytes({ORIENTATION: orientation})
            upright.append(np.asarray(ImageOps.exif_transpose(picture)))
        expected = np.stack(upright, -1)
    np.testing.assert_array_equal(stored, expected)
    write_photo(tmp_path / "again.png", read_photo(tmp_path / name))
    again = read_photo(tmp_path / "again.png")
    np.testing.assert_array_equal(again.samples, expected)
    with Image.open(tmp_path / "again.png") as image:
        assert image.getexif().get(ORIENTATION, 1) == 1
        sides = image.getexif().get_ifd(EXIF)
        assert (sides[0xA003], sides[0xA002]) == expected.shape[:2]
    assert again.profile == PROFILE
    assert again.dpi == pytest.approx((300, 150) if orientation < 5 else (150, 300), abs=0.02)


def test_only_what_still_holds_is_kept(tmp_path):
    exif = exif_of({ORIENTATION: 6, 0x0100: 4000, 0x0201: 123})  # the sensor's width, and where a thumbnail lies
    write_photo(tmp_path / "a.jpg", Photo(drawn(8, 3), None, exif))
    kept = read_photo(tmp_path / "a.jpg").exif
    assert set(kept) == {0x010F, 0x013B, EXIF, GPS}
    assert read_photo(tmp_path / "a.jpg").profile is None


def test_a_tiff_tells_of_itself_and_nothing_of_its_storage_goes_along(tmp_path):
    extra = [(271, "s", 0, "Canon", True), (33432, "s", 0, "me", True)]
    about = {"resolution": (100, 50), "resolutionunit": "CENTIMETER", "iccprofile": PROFILE, "extratags": extra}
    for values in (drawn(16, 3), drawn(8, 3)):
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", software=False, metadata=None, **about)
        photo = read_photo(tmp_path / "a.tif")
        assert dict(photo.exif) == {271: "Canon", 33432: "me"}
        assert (photo.profile, photo.dpi) == (PROFILE, pytest.approx((254, 127)))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_big_tiff_tells_of_itself_too(tmp_path, depth):
    values, extra = drawn(depth, 3), [(271, "s", 0, "Canon", True), (ORIENTATION, "H", 1, 6, True)]
    about = {"resolution": (300, 150), "resolutionunit": "INCH", "iccprofile": PROFILE, "extratags": extra}
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", bigtiff=True, byteorder="<", **about)
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.samples, np.rot90(values, -1))
    assert (photo.exif[271], photo.profile, photo.dpi) == ("Canon", PROFILE, (150, 300))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_big_tiff_of_the_other_byte_order_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", drawn(16, 3), photometric="rgb", bigtiff=True, byteorder=">")
    with pytest.raises(ImageError, match="no image that Pillow can read"):
        read_photo(tmp_path / "a.tif")


@pytest.mark.parametrize("depth", [8, 16])
def test_a_tiff_without_a_resolution_has_none(tmp_path, depth):
    write_photo(tmp_path / "a.tif", Photo(drawn(depth, 3)))
    assert read_photo(tmp_path / "a.tif").dpi is None


@pytest.mark.parametrize("kind", [{}, {"imagej": True}, {"ome": True}])
def test_a_description_of_all_pages_does_not_go_along_with_the_first(tmp_path, kind):
    pages = np.stack([drawn(16, 1)[..., 0]] * 3)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", **kind)
    write_photo(tmp_path / "b.tif", read_photo(tmp_path / "a.tif"))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), pages[0])


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_damaged_exif_does_not_cost_the_photo(tmp_path):
    values = drawn(8, 3)
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif_bytes(exif_of())[:60])
    photo = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.samples, values)
    write_photo(tmp_path / "b.png", photo)


# Kinds --------------------------------------------------------------------------------------------------------------


def test_palettes_and_keys_become_colour_with_alpha(tmp_path):
    palette = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "palette.png", transparency=1)
    samples = read_photo(tmp_path / "palette.png").samples
    assert samples.tolist() == [[[10, 20, 30, 255], [40, 50, 60, 0]], [[70, 80, 90, 255], [10, 20, 30, 255]]]
    grey = np.array([[5, 6], [7, 5]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png", transparency=6)
    assert read_photo(tmp_path / "grey.png").alpha.tolist() == [[255, 0], [255, 255]]
    deep = grey.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png", transparency=6 * 257)
    photo = read_photo(tmp_path / "deep.png")
    np.testing.assert_array_equal(photo.colour[..., 0], deep)
    assert photo.alpha.tolist() == [[65535, 0], [65535, 65535]]


def test_a_colour_key_of_a_deep_png_becomes_alpha(tmp_path):
    values = drawn(16, 3)
    write_photo(tmp_path / "a.png", Photo(values))
    content = (tmp_path / "a.png").read_bytes()
    key = b"tRNS" + values[2, 3].astype(">u2").tobytes()
    chunk = struct.pack(">I", 6) + key + struct.pack(">I", zlib.crc32(key))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])  # behind the header
    photo = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.colour, values)
    expected = np.full((9, 7), 65535)
    expected[2, 3] = 0
    np.testing.assert_array_equal(photo.alpha, expected)


def test_colour_under_transparency_and_alpha_stay_as_stored():
    photo = Photo(np.array([[[200, 100, 50, 0], [1, 2, 3, 128]]], np.uint8))
    torch.testing.assert_close(photo.image[:, 0, 0] * 255, torch.tensor([200.0, 100.0, 50.0]))
    changed = photo.with_image(torch.ones(3, 1, 2))
    assert changed.samples.tolist() == [[[255, 255, 255, 0], [255, 255, 255, 128]]]
    assert photo.samples[0, 0, 0] == 200


def test_values_are_clamped_rounded_and_grey_is_the_mean():
    image = torch.tensor([-0.4, 0.5, 1.7])[:, None, None]
    assert Photo(np.zeros((1, 1, 3), np.uint8)).with_image(image).samples.tolist() == [[[0, 128, 255]]]
    grey = torch.tensor([0.1, 0.2, 0.6])[:, None, None]
    assert Photo(np.zeros((1, 1, 1), np.uint16)).with_image(grey).samples.tolist() == [[[round(0.3 * 65535)]]]


@pytest.mark.parametrize(
    ("image", "message"), [(torch.ones(3, 2, 1), "expected"), (torch.full((3, 1, 2), torch.nan), "6 values")]
)
def test_another_shape_and_nan_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        Photo(np.zeros((1, 2, 3), np.uint8)).with_image(image)


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "a.jpg"), ("F", "a.tif"), ("I", "a.tif"), ("LAB", "a.tif")])
def test_other_kinds_of_values_are_refused(tmp_path, mode, name):
    Image.new(mode, (4, 4)).save(tmp_path / name)
    with pytest.raises(ImageError, match=rf"{name}: holds {mode} values, expected grey or RGB"):
        read_photo(tmp_path / name)


@pytest.mark.parametrize("extra", [["assocalpha"], ["unspecified"], ["unassalpha", "unspecified"]])
def test_channels_of_another_meaning_are_refused(tmp_path, extra):
    values = drawn(16, 3 + len(extra)) if len(extra) == 1 else np.zeros((9, 7, 5), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=extra)
    with pytest.raises(ImageError, match=r"a\.tif: holds more than grey or RGB"):
        read_photo(tmp_path / "a.tif")


def test_jpeg_is_refused_where_it_would_lose_something(tmp_path):
    photo = Photo(drawn(8, 3))
    write_photo(tmp_path / "a.jpg", photo)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "JPEG"
    for other, lost in ((Photo(drawn(8, 4)), "alpha"), (Photo(drawn(16, 1)), "16 bits")):
        with pytest.raises(ValueError, match=rf"b\.jpg: JPEG cannot hold this photo's {lost}"):
            write_photo(tmp_path / "b.jpg", other)
    with pytest.raises(ValueError, match=r"suffix '.webp', expected .png"):
        check_target(tmp_path / "b.webp", photo)
    assert not list(tmp_path.glob("b*"))


# Damage -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # decoders warn of what they find
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "deep.png", "grey.png", "deep.tif"])
def test_damaged_files_fail_with_one_kind_of_error(tmp_path, name):
    random = np.random.default_rng(0)
    path = tmp_path / name
    values = drawn(8 if name.startswith("a") else 16, 1 if name.startswith("grey") else 3, (24, 16))
    write_photo(path, Photo(values, PROFILE[:64], exif_of()))
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    outcomes = set()
    for _ in range(100):
        damaged = whole.copy()
        damaged[random.integers(0, min(len(whole), 600), 3)] = random.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            outcomes.add(read_photo(path).samples.ndim)
        except ImageError as error:
            outcomes.add(name in str(error))
    assert outcomes <= {3, True}
    path.write_bytes(whole[: len(whole) // 2].tobytes())
    with pytest.raises(ImageError, match=name):
        read_photo(path)


def test_missing_files_and_too_large_ones_are_named(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        read_photo(tmp_path / "gone.png")
    (tmp_path / "text.tif").write_text("no picture")
    with pytest.raises(ImageError, match=r"text\.tif: is no image"):
        read_photo(tmp_path / "text.tif")
    for name in ("a.png", "a.tif"):
        write_photo(tmp_path / name, Photo(drawn(16, 3)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in ("a.png", "a.tif"):
        with pytest.raises(ImageError, match=rf"{name}: too large to be decoded safely"):
            read_photo(tmp_path / name)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.tif"
    write_photo(path, Photo(drawn(8, 3)))
    before = path.read_bytes()
    bad = replace(Photo(drawn(8, 3)), exif={0x010F: object()})
    with pytest.raises((TypeError, AttributeError)):
        write_photo(path, bad)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.tif"]
