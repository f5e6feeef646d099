"""PNG of 16 bits a value (ISO/IEC 15948), of which Pillow reads the upper half of colour and writes grey only."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from naf.data.photo_file.about import exif_bytes
from naf.data.photo_file.photo import Photo

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by samples a pixel
_RAW_MODES = {2: "RGB", 4: None, 6: "RGBA"}  # Pillow's, by colour type; it has none of its own for grey with alpha
_BAND = 256  # rows that are compressed at a time
_UP = 2  # filter: the difference to the row above
_INCHES = 1 / 0.0254  # of a metre


def read_deep(file: BinaryIO) -> tuple[np.ndarray, Image.Image] | None:
    """The values of a PNG of 16 bits with more than grey; None for every other file.

    Returns:
        (H, W, S) uint16 as stored, and the image as Pillow loaded it, for what else it says.
    """
    start = file.read(26)
    file.seek(0)
    if not start.startswith(_SIGNATURE) or len(start) < 26 or start[24] != 16 or start[25] not in _RAW_MODES:
        return None

    def decode(raw: str) -> Image.Image:
        file.seek(0)
        image = Image.open(file)
        image.tile = [(*image.tile[0][:3], raw)]  # type: ignore[list-item]
        image.load()
        return image

    raw = _RAW_MODES[start[25]]
    if raw is None:
        image = decode("RGBA")  # four bytes a pixel as well
        return np.array(image).view(">u2").astype(np.uint16), image
    # Pillow keeps the upper byte of each value: read with the other byte order, that is the lower one.
    upper, image = np.array(decode(f"{raw};16B")), decode(f"{raw};16L")
    return upper.astype(np.uint16) << 8 | np.array(image), image


def write_deep(path: Path, photo: Photo) -> None:
    """Write a photo of 16 bits."""
    height, width, samples = photo.samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[samples], 0, 0, 0)
    with path.open("wb") as file:
        file.write(_SIGNATURE + _chunk(b"IHDR", header))
        if photo.profile:
            file.write(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(photo.profile)))
        if photo.exif:
            file.write(_chunk(b"eXIf", exif_bytes(photo.exif).removeprefix(b"Exif\0\0")))
        if photo.dpi:
            across, down = (round(value * _INCHES) for value in photo.dpi)
            file.write(_chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
        packer = zlib.compressobj()
        above = np.zeros(width * samples * 2, np.uint8)
        for start in range(0, height, _BAND):
            rows = photo.samples[start : start + _BAND].astype(">u2").reshape(-1, width * samples).view(np.uint8)
            filtered = np.full((len(rows), 1 + rows.shape[1]), _UP, np.uint8)
            filtered[:, 1:] = rows - np.concatenate([above[None], rows[:-1]])  # modulo 256
            above = rows[-1]
            file.write(_chunk(b"IDAT", packer.compress(filtered.tobytes())))
        file.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
