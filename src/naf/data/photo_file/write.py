"""Writing a photo in the format that the name of the file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from naf.data.atomic import replace_file
from naf.data.photo_file import png, tiff
from naf.data.photo_file.about import exif_bytes
from naf.data.photo_file.photo import Photo

_JPEG = (".jpg", ".jpeg")
_SUFFIXES = (".png", ".tif", ".tiff", *_JPEG)
_JPEG_QUALITY = 95


def check_suffix(path: Path) -> None:
    """Refuse a format that is not written.

    Raises:
        ValueError: for another suffix than .png, .tif, .tiff, .jpg, .jpeg.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{path} has suffix {path.suffix!r}, expected {', '.join(_SUFFIXES)}")


def check_target(path: Path, photo: Photo) -> None:
    """Refuse a file that could not hold the photo.

    Raises:
        ValueError: as :func:`check_suffix`, and for JPEG where the photo has 16 bits or alpha.
    """
    check_suffix(path)
    if path.suffix.lower() in _JPEG and (photo.has_alpha or photo.depth == 16):
        lost = "alpha" if photo.has_alpha else "16 bits a value"
        raise ValueError(f"{path}: JPEG cannot hold this photo's {lost}: take .png or .tif")


def write_photo(path: Path, photo: Photo) -> None:
    """Write a photo, whole or not at all; PNG and TIFF without loss, JPEG at quality 95 and full colour resolution.

    Args:
        path: where to; replaced if there. The suffix says the format.
        photo: with all that its file said.

    Raises:
        ValueError: as :func:`check_target`.
        OSError: if it cannot be written.
    """
    check_target(path, photo)
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        replace_file(path, lambda temporary: tiff.write(temporary, photo))
    elif photo.depth == 16:
        replace_file(path, lambda temporary: png.write_deep(temporary, photo))
    else:
        picture = Image.fromarray(photo.samples[..., 0] if photo.samples.shape[2] == 1 else photo.samples)
        options: dict[str, Any] = {
            "format": "PNG",
            "icc_profile": photo.profile,
            "exif": exif_bytes(photo.exif),
        }
        if photo.dpi:
            options["dpi"] = photo.dpi
        if suffix in _JPEG:
            options |= {"format": "JPEG", "quality": _JPEG_QUALITY, "subsampling": 0}
        replace_file(path, lambda temporary: picture.save(temporary, **options))
