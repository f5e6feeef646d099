"""TIFF (revision 6.0): 16 bits a value, which Pillow reads of grey only, and a writer for 8 and 16 that keeps Exif."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from naf.data.image import ImageError, tiff_decoding
from naf.data.photo_file.about import PROFILE
from naf.data.photo_file.photo import Photo

_BIG = b"II+\0"  # BigTIFF; of the other byte order Pillow reads none
_MAGIC = (b"II*\0", b"MM\0*", _BIG)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_UNASSOCIATED = 2  # alpha, not multiplied into the colour
_SEPARATE = 2  # one plane after the other
_DEFLATE, _DIFFERENCES, _INCH, _UNDEFINED = 8, 2, 2, 7


def read_deep(path: Path, file: BinaryIO) -> np.ndarray | None:
    """The first page's values as stored, (H, W, S) uint16; None for a file that is no TIFF of 16 bits, grey or RGB.

    Args:
        path: for messages.
        file: the same, opened; the position goes back to the start.

    Raises:
        ImageError: for channels that are neither colour nor unassociated alpha.
    """
    is_tiff = file.read(4) in _MAGIC
    file.seek(0)
    if not is_tiff:
        return None
    import tifffile

    with tiff_decoding(), tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        is_deep = page.dtype == np.uint16 and page.bitspersample == 16
        if not is_deep or page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
            file.seek(0)
            return None
        if page.imagewidth * page.imagelength > 2 * (Image.MAX_IMAGE_PIXELS or np.inf):
            raise Image.DecompressionBombError(f"{page.imagewidth} x {page.imagelength} pixels")
        extra = [int(kind) for kind in page.extrasamples]
        if extra not in ([], [_UNASSOCIATED]) or page.imagedepth != 1:
            raise ImageError(
                f"{path}: holds more than grey or RGB with unassociated alpha (its ExtraSamples are {extra}): convert "
                "it first"
            )
        values = page.asarray()
        if page.samplesperpixel > 1 and page.planarconfig == _SEPARATE:
            values = np.moveaxis(values, 0, -1)
    file.seek(0)
    samples = values.reshape(*values.shape[:2], -1).astype(np.uint16)
    if page.photometric == _WHITE_IS_ZERO:
        samples[..., 0] = 65535 - samples[..., 0]
    return samples


def read_directory(file: BinaryIO) -> Image.Exif:
    """The tags of the first page of a TIFF that :func:`read_deep` takes."""
    exif, header = Image.Exif(), file.read(16)
    file.seek(0)
    if header.startswith(_BIG):  # Pillow must be told, and where the page is
        exif.bigtiff, exif.endian = True, "<"
        exif.load_from_fp(file, *struct.unpack("<Q", header[8:]))
    else:
        exif.load_from_fp(file)
    return exif


def write(path: Path, photo: Photo) -> None:
    """Write a photo, compressed without loss, in one strip."""
    height, width, samples = photo.samples.shape
    values = photo.samples.astype(photo.samples.dtype.newbyteorder("<"))
    values[:, 1:] -= values[:, :-1].copy()  # modulo 2 ** depth
    strip = zlib.compress(values.tobytes())
    directory = ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
    for tag, value in photo.exif.items():
        directory[tag] = dict(value) if isinstance(value, Mapping) else value
    directory[256], directory[257] = width, height
    directory[258] = (photo.depth,) * samples
    directory[259], directory[317] = _DEFLATE, _DIFFERENCES
    directory[262] = _BLACK_IS_ZERO if photo.is_grey else _RGB
    directory[273], directory[278], directory[279] = (
        0,
        height,
        len(strip),
    )  # the directory moves the strip behind itself
    directory[277] = samples
    if photo.has_alpha:
        directory[338] = _UNASSOCIATED
    if photo.dpi:
        (directory[282], directory[283]), directory[296] = photo.dpi, _INCH
    if photo.profile:
        directory.tagtype[PROFILE] = _UNDEFINED
        directory[PROFILE] = photo.profile
    with path.open("wb") as file:
        directory.save(file)
        file.write(strip)
