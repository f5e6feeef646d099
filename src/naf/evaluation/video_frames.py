"""Frames of a video as backbones and upsamplers take them, in the two protocols there are.

The paper's text (arXiv 2511.18452, Table 5): squares of 448, features upsampled twofold. The authors' released code:
native frames, no upsampling, and half the reach.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from naf.normalization import normalize


@dataclass(frozen=True)
class VideoProtocol:
    """Settings of label propagation; the defaults are the paper's.

    Attributes:
        name: of the protocol that the other values follow.
        image_size: side of the square that frames are resized to; None: native frames, rounded down to whole patches.
        upsampling: of the features, a whole factor.
        topk: affinities kept of all contexts together.
        radius: of the neighborhood, in cells of the upsampled features.
        context: predicted frames before the current one that labels are taken from, besides the first frame.
        temperature: of the affinities.

    Raises:
        ValueError: for values that make no sense.
    """

    image_size: int | None = 448
    upsampling: int = 2
    topk: int = 20
    radius: int = 24
    context: int = 7
    temperature: float = 0.1
    name: str = "paper"

    def __post_init__(self) -> None:
        least = {"image_size": 1, "upsampling": 1, "topk": 1, "radius": 0, "context": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if not (name == "image_size" and value is None) and value < low:
                raise ValueError(f"protocol.{name} is {value}, expected at least {low}")
        if not self.temperature > 0:
            raise ValueError(f"protocol.temperature is {self.temperature}, expected a number above 0")

    def settings(self) -> dict[str, Any]:
        """As plain values, for a record."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


def frame_size(native: tuple[int, int], protocol: VideoProtocol, patch: int) -> tuple[int, int]:
    """(rows, columns) of the frames that the backbone sees, whole patches.

    Args:
        native: of the video.
        protocol: settings.
        patch: of the backbone, pixels.

    Raises:
        ValueError: if the image size is not whole patches, or the frame is smaller than one.
    """
    if protocol.image_size is None:
        if min(native) < patch:
            raise ValueError(f"frames have {native} pixels, expected at least one patch of {patch}")
        return native[0] // patch * patch, native[1] // patch * patch
    if protocol.image_size % patch:
        raise ValueError(f"image_size is {protocol.image_size}, expected a multiple of the patch, {patch}")
    return protocol.image_size, protocol.image_size


def label_grid(native: tuple[int, int], protocol: VideoProtocol, patch: int) -> tuple[int, int]:
    """(rows, columns) of the upsampled features and of the labels; see `frame_size`."""
    height, width = frame_size(native, protocol, patch)
    return height // patch * protocol.upsampling, width // patch * protocol.upsampling


def prepare_frame(image: Image.Image, protocol: VideoProtocol, patch: int) -> Tensor:
    """A frame as the backbone takes it.

    Squares are resized by Pillow, bicubic; native frames as tensors, bilinear.

    Args:
        image: RGB.
        protocol: settings.
        patch: of the backbone, pixels.

    Returns:
        (3, H, W) float32, values from 0 to 1.

    Raises:
        ValueError: if the image size is not whole patches, or the frame is smaller than one.
    """
    size = frame_size((image.height, image.width), protocol, patch)
    if protocol.image_size is not None:
        return _to_tensor(image.resize(size[::-1], Image.Resampling.BICUBIC))
    image01 = _to_tensor(image)
    return F.interpolate(image01[None], size=size, mode="bilinear", align_corners=False)[0]


def prepare_guidance(image01: Tensor, grid: tuple[int, int]) -> Tensor:
    """The image that guides the upsampler: ImageNet-normalised, brought bicubically to the output grid.

    Args:
        image01: frames as the backbone sees them, (B, 3, H, W), values from 0 to 1.
        grid: of the labels, (rows, columns).

    Returns:
        (B, 3, rows, columns).
    """
    return F.interpolate(normalize(image01), size=grid, mode="bicubic", align_corners=False)


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
