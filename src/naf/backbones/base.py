"""The contract of every backbone: an image with values from 0 to 1 in, a coarse feature map out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from naf.upsamplers.checks import check_finite, check_map


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """What a backbone gives, and how it lies on the image.

    Attributes:
        features: (B, C, h, w). They cover the whole image: cell (i, j) of h x w stands for its i-th and j-th part.
        stride: input pixels a cell.
        image_size: (H, W) of the image that was given.
        input_size: (H', W') that the network saw. Where it differs from image_size, the
            image was resized to it: stretched by at most half a stride a side, reduced to max_side, or brought to the
            one size that the network takes.
    """

    features: Tensor
    stride: int
    image_size: tuple[int, int]
    input_size: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w)."""
        return self.features.shape[2], self.features.shape[3]


class Backbone(nn.Module, ABC):
    """Maps images to features; normalises and sizes them as the network needs.

    Attributes:
        name: what `naf.backbones.create` was asked for.
        stride: input pixels a cell.
        channels: C of the features.
        note: one line for the user where another backbone than the asked one was taken, else empty.
    """

    name: str
    stride: int
    channels: int
    note: str = ""
    fixed_size: tuple[int, int] | None = None

    def __init__(self, max_side: int | None = None) -> None:
        super().__init__()
        if max_side is not None and max_side < 1:
            raise ValueError(f"max_side is {max_side!r}, expected a positive number of pixels or None")
        self.max_side = max_side

    def forward(self, image01: Tensor) -> Tensor:
        """Features of a batch of images.

        Args:
            image01: RGB (B, 3, H, W), float, values from 0 to 1, any size.

        Returns:
            (B, C, h, w); see :meth:`extract` for how they lie on the image.

        Raises:
            TypeError: for non-float input.
            ValueError: for another shape, or values outside 0 … 1.
        """
        return self.extract(image01).features

    def extract(self, image01: Tensor) -> FeatureMap:
        """Features with their grid, stride and the size that the network saw; arguments as :meth:`forward`."""
        check_map("image01", image01, 3)
        check_finite("image01", image01)
        low, high = image01.min().item(), image01.max().item()
        if low < -0.01 or high > 1.01:
            raise ValueError(
                f"image01 has values from {low:g} to {high:g}, expected 0 to 1: backbones normalise themselves"
            )
        size = (image01.shape[2], image01.shape[3])
        input_size = self.input_size(size)
        resized = image01
        if input_size != size:
            resized = F.interpolate(
                image01.float(), size=input_size, mode="bilinear", align_corners=False, antialias=True
            ).clamp(0, 1)
        return FeatureMap(self._features(resized), self.stride, size, input_size)

    def input_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """The size that the network sees for an image: whole strides, at most max_side, or its one fixed size."""
        if self.fixed_size is not None:
            return self.fixed_size
        shrink = min(1.0, self.max_side / max(image_size)) if self.max_side else 1.0
        height, width = (max(1, round(side * shrink / self.stride)) * self.stride for side in image_size)
        return height, width

    @abstractmethod
    def _features(self, image01: Tensor) -> Tensor:
        """Features (B, C, h, w) of images whose size is a multiple of the stride."""
