"""What an upsampler needs of a backbone; `naf.backbones.Backbone` offers it, and so may any other object."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor

from naf.normalization import IMAGENET_MEAN, IMAGENET_STD, standardize


class Extracted(Protocol):
    """What `extract` returns."""

    @property
    def features(self) -> Tensor:
        """(B, C, h, w), over the whole image."""


@runtime_checkable
class FeatureExtractor(Protocol):
    """Maps images to coarse features.

    Attributes:
        stride: input pixels a cell.
        channels: C of the features.
    """

    stride: int
    channels: int

    def extract(self, image01: Tensor) -> Extracted:
        """Features of images (B, 3, H, W), float, values from 0 to 1."""

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """The size (H', W') that it brings an image of (H, W) to before anything else."""


def check_extractor(backbone: Any) -> FeatureExtractor:
    """`backbone` itself.

    Raises:
        TypeError: if it lacks what an upsampler needs of it.
    """
    if not isinstance(backbone, FeatureExtractor):
        raise TypeError(
            f"backbone is a {type(backbone).__name__}, expected what naf.backbones.create gives, or an object with "
            "extract, input_size, stride and channels"
        )
    return backbone


def to_image01(image: Tensor) -> Tensor:
    """An ImageNet-normalised image back at 0 … 1, clamped: the inverse of `naf.normalize`."""
    negative = [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    return standardize(image, negative, [1 / std for std in IMAGENET_STD]).clamp(0, 1)


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, antialiased where it reduces; (B, C, H, W) of float32 or float64."""
    height, width = image.shape[2:]
    if (height, width) == size:
        return image
    reduces = size[0] < height or size[1] < width
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=reduces)
