"""Reading a photo as its file holds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from naf.data.image import ORIENTATION, ImageError, decoding, turn
from naf.data.photo_file import png, tiff
from naf.data.photo_file.about import PROFILE, kept_dpi, kept_exif
from naf.data.photo_file.photo import Photo

# What Pillow's modes of 8 bits or fewer are read as; those left out hold something else than grey or RGB.
_MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "YCbCr": "RGB",
}
_GREATEST = 65535
_ON_ITS_SIDE = (5, 6, 7, 8)  # orientations


def read_photo(path: str | Path) -> Photo:
    """A photo with the values as stored and what else its file says.

    It is turned as its Exif orientation says. Palettes become RGB, and a colour or palette entry that stands for
    transparent becomes an alpha channel. Of animations and TIFFs of several pages the first is taken.

    Args:
        path: PNG and TIFF of 8 or 16 bits a value; other formats that Pillow reads, with 8 bits of colour (those that
            hold more are cut) or 16 of grey.

    Raises:
        ImageError: if the file is missing, is no image, is damaged, too large to be decoded safely, or holds something
            else than grey or RGB of 8 or 16 bits (CMYK, float).
    """
    path = Path(path)
    with decoding(path), path.open("rb") as file:
        deep = tiff.read_deep(path, file)
        if deep is not None:
            exif = tiff.read_directory(file)
            orientation = exif.get(ORIENTATION, 1)
            samples, profile, dpi = turn(deep, orientation), exif.get(PROFILE), kept_dpi(_dpi(exif))
        else:
            opened = png.read_deep(file)
            with Image.open(file) if opened is None else opened[1] as image:
                exif = image.getexif()
                orientation = exif.get(ORIENTATION, 1)
                if opened is None:
                    samples = _samples(path, image)
                else:
                    samples = turn(_with_key(opened[0], image.info.get("transparency")), orientation)
                # Of a TIFF without a resolution, Pillow says 1.
                dpi = kept_dpi(_dpi(exif) if image.format == "TIFF" else image.info.get("dpi"))
                profile = image.info.get("icc_profile")
        samples = np.ascontiguousarray(samples)
        about = kept_exif(exif, samples.shape[1], samples.shape[0])
    if dpi is not None and orientation in _ON_ITS_SIDE:
        dpi = dpi[::-1]
    return Photo(samples, profile or None, about, dpi)


def _samples(path: Path, image: Image.Image) -> np.ndarray:
    """(H, W, S) of what Pillow opened, upright."""
    key = image.info.get("transparency")
    if image.mode.startswith("I") and image.format != "TIFF":  # 16-bit grey, also widened to "I"
        values = np.asarray(ImageOps.exif_transpose(image))
        if values.min() >= 0 and values.max() <= _GREATEST:
            return _with_key(values.astype(np.uint16)[..., None], key)
    mode = _MODES.get(image.mode)
    if mode is None:
        raise ImageError(f"{path}: holds {image.mode} values, expected grey or RGB of 8 or 16 bits: convert it first")
    if key is not None and not mode.endswith("A"):
        mode += "A"
    return np.atleast_3d(np.asarray(ImageOps.exif_transpose(image).convert(mode)))


def _with_key(samples: np.ndarray, key: int | tuple[int, ...] | None) -> np.ndarray:
    """16-bit samples with alpha 0 where the colour is the one that stands for transparent, if there is one."""
    if key is None:
        return samples
    alpha = np.where((samples == np.asarray(key)).all(-1, keepdims=True), 0, _GREATEST).astype(np.uint16)
    return np.concatenate([samples, alpha], -1)


def _dpi(exif: Image.Exif) -> tuple[object, object] | None:
    """Of a TIFF, which may count by the centimetre."""
    unit = {2: 1, 3: 2.54}.get(exif.get(296, 2))
    if unit is None or 282 not in exif or 283 not in exif:
        return None
    return exif[282] * unit, exif[283] * unit
