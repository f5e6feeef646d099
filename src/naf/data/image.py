"""Image files as tensors: orientation, bit depth, transparency and colour mode handled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2", ".avif"}
)


class ImageError(ValueError):
    """An image file that is missing, damaged or no image."""


def read_image(path: str | Path) -> Tensor:
    """An image file as RGB.

    EXIF orientation is applied, grey is repeated to three channels, transparent pixels are laid over white, 16-bit
    values keep their depth (except 16-bit colour PNG, which Pillow reads as 8 bit), of an animation the first frame
    is taken.

    Args:
        path: the file, in any format that Pillow reads; 16-bit colour TIFF through tifffile.

    Returns:
        (3, H, W) float32, values from 0 to 1.

    Raises:
        ImageError: if the file is missing, is no image, is damaged or too large to be decoded safely.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    try:
        deep = _read_deep_tiff(path)
        if deep is not None:
            return torch.from_numpy(deep).permute(2, 0, 1).contiguous()
        with Image.open(path) as image:
            array = _to_array(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: is no image that Pillow can read, whatever its name says") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: too large to be decoded safely: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"{path}: damaged or unreadable: {error}") from error
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _to_array(image: Image.Image) -> np.ndarray:
    """(H, W, 3) float32 from 0 to 1."""
    if image.mode.startswith("I"):  # 16-bit grey, as "I;16…" or widened to "I"
        grey = np.asarray(image, dtype=np.float32) / 65535
        return np.repeat(_unit(grey)[..., None], 3, axis=2)
    if image.mode == "F":
        return np.repeat(_unit(np.asarray(image, dtype=np.float32))[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255


def _read_deep_tiff(path: Path) -> np.ndarray | None:
    """A TIFF of 16 or 32 bits a channel and three or four channels, which Pillow would cut to 8; else None."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            is_deep = page.dtype in (np.uint16, np.uint32) and page.ndim == 3 and page.shape[2] in (3, 4)
            array = page.asarray() if is_deep else None
    except tifffile.TiffFileError:
        return None  # Pillow says what is wrong
    return None if array is None else _unit(array[..., :3].astype(np.float32) / np.iinfo(array.dtype).max)


def _unit(array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise ValueError(f"values from {array.min():g} to {array.max():g}, expected 0 to 1 after scaling")
    return array
