"""Photos that strangers hand in."""

import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from naf.app.photo import FORMATS, PhotoError, decode, read_header
from naf.data.image import read_image
from naf.data.samples import SAMPLES

LIMITS = {"max_pixels": 1_000_000, "max_bytes": 5 << 20}


def header(path, **limits):
    return read_header(path, "name.jpg", **{**LIMITS, **limits})


def error_of(path, **limits):
    with pytest.raises(PhotoError) as caught:
        header(path, **limits)
    said = str(caught.value)
    assert said.startswith("name.jpg: ")
    assert "\n" not in said
    return said.removeprefix("name.jpg: ")


def picture(size=(40, 30), mode="RGB"):
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def png_header(width, height):
    """A PNG that says it has this size, and next to nothing behind that."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("TIFF", "tif"),
        ("GIF", "gif"),
        ("BMP", "bmp"),
        ("PPM", "ppm"),
    ],
)
def test_usual_formats_are_taken_whatever_the_file_is_called(tmp_path, kind, suffix):
    path = tmp_path / "photo.txt"
    picture().save(path, format=kind)
    found = header(path)
    assert (found.format, found.size) == (kind, (30, 40))
    assert found.format in FORMATS
    assert found.key == hashlib.sha256(path.read_bytes()).hexdigest()
    torch.testing.assert_close(decode(path, "name.jpg"), read_image(path))


def test_a_sample_photo_passes():
    assert header(SAMPLES[0].path).size == (512, 512)


def test_the_file_is_looked_for():
    assert error_of(SAMPLES[0].path.parent / "none.png") == "no such file"
    assert error_of(SAMPLES[0].path.parent) == "no such file"


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    assert error_of(tmp_path / "a.png") == "the file is empty"


def test_a_file_of_too_many_bytes_is_refused_unread(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(bytes(3 << 20))
    assert error_of(path, max_bytes=2 << 20) == "the file has 3 MiB, expected at most 2"


@pytest.mark.parametrize("side", [2000, 12_000, 60_000])  # above our limit, above Pillow's warning, above its error
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, side, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png_header(side, side))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    said = error_of(path)
    assert "million" in said
    assert "expected at most 1 million" in said


def test_text_is_no_photo(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("GIF? no")
    assert error_of(path).startswith("this is no photo, whatever its name says; expected JPEG, PNG")


def test_a_phones_heic_is_told_what_to_do(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    assert error_of(path) == "HEIC cannot be read here: export the photo as JPEG or PNG"


def test_formats_that_run_programs_are_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n%%EOF\n")
    assert error_of(path).startswith("a file of format EPS is not taken")


def test_a_header_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png_header(40, 30)[:20])
    assert error_of(path).startswith(("damaged or unreadable", "this is no photo"))


def test_photos_of_a_few_pixels_are_refused(tmp_path):
    picture((40, 9)).save(tmp_path / "a.png")
    assert error_of(tmp_path / "a.png") == "40 x 9 pixels, expected at least 16 on each side"


def test_a_volume_is_refused(tmp_path):
    picture().save(tmp_path / "a.tif", tiffinfo={32997: 5000})
    assert error_of(tmp_path / "a.tif") == "a volume of 5000 slices, expected a photo"


def test_photos_beyond_the_free_memory_are_refused(tmp_path, monkeypatch):
    picture((400, 300)).save(tmp_path / "a.png")
    monkeypatch.setattr("naf.app.photo.available_mib", lambda: 1.0)
    assert error_of(tmp_path / "a.png") == "too large for the memory that is free: make the photo smaller first"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photo_that_breaks_off_is_told_by_its_shown_name(tmp_path, kind):
    buffer = io.BytesIO()
    picture((200, 200)).save(buffer, format=kind)
    path = tmp_path / "a3f9_upload"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(PhotoError, match=r"^name\.jpg: damaged or unreadable: ") as caught:
        decode(path, "name.jpg")
    assert "a3f9" not in str(caught.value)
