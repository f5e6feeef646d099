"""Image files as tensors: orientation, bit depth, transparency and colour mode handled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2", ".avif"}
)
ORIENTATION = 0x0112
"""EXIF and TIFF tag."""


class ImageError(ValueError):
    """An image file that is missing, damaged or no image."""


def read_image(path: str | Path) -> Tensor:
    """An image file as RGB.

    EXIF orientation is applied, grey is repeated to three channels, transparent pixels are laid over white. 16-bit
    grey and 16-bit RGB TIFF keep their depth; Pillow reads other 16-bit colour (PNG, CMYK) as 8 bit. Of an animation
    the first frame is taken.

    Args:
        path: the file, in any format that Pillow reads; 16-bit RGB TIFF through tifffile.

    Returns:
        (3, H, W) float32, values from 0 to 1.

    Raises:
        ImageError: if the file is missing, is no image, is damaged or too large to be decoded safely.
    """
    path = Path(path)
    # Opened as a file: given a path, Pillow maps grey TIFFs into memory and turns them wrongly.
    with decoding(path), path.open("rb") as file, Image.open(file) as image:
        deep = _read_deep_tiff(path, image) if image.format == "TIFF" else None
        array = _to_array(ImageOps.exif_transpose(image)) if deep is None else deep
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1).contiguous()


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Whatever fails in the block fails as :class:`ImageError` that names the file; one raised there stays as it is."""
    if not path.is_file():
        raise ImageError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: is no image that Pillow can read, whatever its name says") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ImageError(f"{path}: too large to be decoded safely: {error}") from error
    except Exception as error:  # decoders fail on damaged files in every way
        raise ImageError(f"{path}: damaged or unreadable: {error}") from error


@contextmanager
def tiff_decoding() -> Iterator[None]:
    """What tifffile lacks is named as what to install."""
    try:
        yield
    except ValueError as error:
        if "imagecodecs" in str(error):
            raise ValueError("16-bit TIFF with this compression needs `pip install imagecodecs`") from error
        raise


def turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, C) as the EXIF orientation says it is to be seen."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def _to_array(image: Image.Image) -> np.ndarray:
    """(H, W, 3) float32 from 0 to 1."""
    if image.mode.startswith("I"):  # 16-bit grey, as "I;16…" or widened to "I"
        values = np.asarray(image)
        grey = _unit(values.astype(np.float32) / 65535)
        if "transparency" in image.info:
            grey = np.where(values == image.info["transparency"], np.float32(1), grey)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        return np.repeat(_unit(np.asarray(image, dtype=np.float32))[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255


def _read_deep_tiff(path: Path, header: Image.Image) -> np.ndarray | None:
    """An RGB TIFF of 16 or 32 bits a channel, which Pillow would cut to 8; None for every other.

    Pillow has read the header, so its limit on the number of pixels has been applied.
    """
    import tifffile

    with tiff_decoding(), tifffile.TiffFile(path) as file:
        page = file.pages.first
        samples = page.samplesperpixel
        if page.dtype not in (np.uint16, np.uint32) or page.photometric != 2 or samples not in (3, 4):  # 2: RGB
            return None
        array = page.asarray()
        if page.planarconfig == 2:  # channel by channel
            array = np.moveaxis(array, 0, -1)
        is_alpha = samples == 4 and tuple(page.extrasamples)[:1] in ((1,), (2,))
        is_premultiplied = is_alpha and page.extrasamples[0] == 1
    values = array.astype(np.float32) / np.iinfo(array.dtype).max
    rgb = values[..., :3]
    if is_alpha:
        alpha = values[..., 3:]
        rgb = rgb * (1 if is_premultiplied else alpha) + (1 - alpha)
    return turn(np.clip(rgb, 0, 1), header.getexif().get(ORIENTATION, 1))


def _unit(array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise ValueError(f"values from {array.min():g} to {array.max():g}, expected 0 to 1 after scaling")
    return array
