"""Photos that strangers hand in: checked before they are decoded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from naf.benchmark.measure import available_mib
from naf.data.image import ImageError, read_image

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""As Pillow names them. Others are refused: some run programs (EPS) or hold no photo."""
LEAST_SIDE = 16
_BYTES_A_PIXEL = 32  # while decoding: 8-bit and float pixels, and a copy
_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")
_IMAGE_DEPTH = 32997  # TIFF tag: slices of a volume, which the number of pixels does not count


class PhotoError(ValueError):
    """A photo that cannot or shall not be opened, in one line for the user."""


@dataclass(frozen=True)
class Photo:
    """A photo that has been checked and decoded once.

    A handle: the pixels lie in the workbench's cache and are read again from the file where they have left it.

    Attributes:
        key: hash of the file's content.
        name: of the file, for people.
        path: where it lies.
        size: (H, W), as it is to be seen.
        format: e.g. "JPEG".
    """

    key: str
    name: str
    path: Path
    size: tuple[int, int]
    format: str


@dataclass(frozen=True)
class Header:
    """What a file says before it is decoded.

    Attributes:
        key: hash of the file's content.
        format: as Pillow names it.
        size: (H, W) as stored, before the EXIF orientation.
    """

    key: str
    format: str
    size: tuple[int, int]


def read_header(path: Path, name: str, *, max_pixels: int, max_bytes: int) -> Header:
    """Check a file without decoding it.

    Args:
        path: the file.
        name: how to call it in messages.
        max_pixels: most rows times columns.
        max_bytes: most bytes of the file.

    Raises:
        PhotoError: if it is missing, empty, too large, of an unknown format or damaged in its header.
    """
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError:
        size = None
    if size is None:
        raise PhotoError(f"{name}: no such file")
    if size == 0:
        raise PhotoError(f"{name}: the file is empty")
    if size > max_bytes:
        raise PhotoError(f"{name}: the file has {size / 2**20:.0f} MiB, expected at most {max_bytes / 2**20:.0f}")
    with path.open("rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        # Every format is looked for, as at decoding: a file shall not be taken for one here and for another there.
        with path.open("rb") as file, Image.open(file) as image:
            header = Header(key, image.format or "", (image.height, image.width))
            depth = image.getexif().get(_IMAGE_DEPTH, 1) if image.format == "TIFF" else 1
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoError(f"{name}: too many pixels, expected at most {max_pixels / 1e6:.4g} million") from error
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            if file.read(12)[4:] in _HEIC:
                raise PhotoError(f"{name}: HEIC cannot be read here: export the photo as JPEG or PNG") from error
        raise PhotoError(f"{name}: this is no photo, whatever its name says; expected {_list()}") from error
    except Exception as error:  # headers can be damaged in every way
        raise PhotoError(f"{name}: damaged or unreadable: {_line(error)}") from error
    if header.format not in FORMATS:
        raise PhotoError(f"{name}: a file of format {header.format} is not taken, expected {_list()}")
    height, width = header.size
    if height * width > max_pixels:
        raise PhotoError(
            f"{name}: {width} x {height} are {height * width / 1e6:.4g} million pixels, expected at most "
            f"{max_pixels / 1e6:.4g} million: make the photo smaller first"
        )
    if min(height, width) < LEAST_SIDE:
        raise PhotoError(f"{name}: {width} x {height} pixels, expected at least {LEAST_SIDE} on each side")
    if depth != 1:
        raise PhotoError(f"{name}: a volume of {depth} slices, expected a photo")
    free = available_mib()
    if free is not None and height * width * _BYTES_A_PIXEL / 2**20 > free:
        raise PhotoError(f"{name}: too large for the memory that is free: make the photo smaller first")
    return header


def decode(path: Path, name: str) -> Tensor:
    """The pixels of a file whose header has been checked, (3, H, W) float32, values from 0 to 1.

    Raises:
        PhotoError: if it is damaged.
    """
    try:
        return read_image(path)
    except ImageError as error:
        reason = _line(error).removeprefix(f"{path}: ").replace(str(path), name)
        raise PhotoError(f"{name}: {reason}") from error


def _list() -> str:
    return "JPEG, PNG, WebP, TIFF, GIF, BMP, PPM, JPEG 2000 or AVIF"


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
