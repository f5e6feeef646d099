"""Images, label maps and depth maps brought to a square: the geometry of the probing papers.

"crop" resizes the shorter side and crops the centre, as the official code does; "square" resizes both sides. Images are
resized as 8 bit by Pillow, bilinear with antialiasing; labels and depth take the nearest pixel.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Geometry = Literal["crop", "square"]


def resize_image(image: Image.Image, size: int, geometry: Geometry = "crop") -> Tensor:
    """An image brought to a square.

    Args:
        image: mode RGB.
        size: side of the square, in pixels.
        geometry: "crop" or "square".

    Returns:
        (3, size, size) float32, values from 0 to 1.

    Raises:
        ValueError: if an argument is not what is expected.
    """
    if image.mode != "RGB":
        raise ValueError(f"image has mode {image.mode}, expected RGB")
    pixels = np.array(_bring(image, size, geometry, Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div(255)


def resize_label(label: NDArray[np.uint8], size: int, geometry: Geometry = "crop") -> Tensor:
    """A label map brought to a square, each pixel the nearest one.

    Args:
        label: (H, W) uint8.
        size: side of the square, in pixels.
        geometry: "crop" or "square".

    Returns:
        (size, size) int64.

    Raises:
        ValueError: if an argument is not what is expected.
    """
    return torch.from_numpy(_nearest("label", label, np.uint8, size, geometry)).long()


def resize_depth(depth: NDArray[np.float32], size: int, geometry: Geometry = "crop") -> Tensor:
    """A depth map brought to a square, each pixel the nearest one: no depth is made up between two.

    Args:
        depth: (H, W) float32.
        size: side of the square, in pixels.
        geometry: "crop" or "square".

    Returns:
        (size, size) float32, of the same unit.

    Raises:
        ValueError: if an argument is not what is expected.
    """
    return torch.from_numpy(_nearest("depth", depth, np.float32, size, geometry))


def _nearest(name: str, values: NDArray[Any], dtype: type[np.generic], size: int, geometry: Geometry) -> NDArray[Any]:
    if values.ndim != 2 or values.dtype != dtype:
        raise ValueError(f"{name} is {values.dtype} of shape {values.shape}, expected {dtype.__name__} (H, W)")
    return np.array(_bring(Image.fromarray(values), size, geometry, Image.Resampling.NEAREST))


def _bring(image: Image.Image, size: int, geometry: Geometry, resampling: Image.Resampling) -> Image.Image:
    if geometry not in get_args(Geometry):
        raise ValueError(f"geometry is {geometry!r}, expected {' or '.join(map(repr, get_args(Geometry)))}")
    if size < 1:
        raise ValueError(f"size is {size}, expected at least 1")
    if geometry == "square":
        return image.resize((size, size), resampling)
    short = min(image.size)
    width, height = (size if side == short else int(size * side / short) for side in image.size)
    resized = image.resize((width, height), resampling)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return resized.crop((left, top, left + size, top + size))
