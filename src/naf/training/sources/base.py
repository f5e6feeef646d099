"""The contract of sources of features to train on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.data.feature_cache import FeatureCache
from naf.normalization import normalize
from naf.training.example import Example
from naf.training.photos import Batch, PhotoFolder
from naf.training.plan import Geometry

_OBJECTIVE = -2  # generator of a plan: of what the objective draws


class FeatureSource(nn.Module, ABC):
    """Makes examples from images; has no parameters to train and stays in evaluation mode.

    Attributes:
        stride: pixels a target cell.
        channels: of the features.
        weight: how often it is drawn, relative to other sources.
        geometry: sizes of its examples; None for those of the stage.
        photos: that it is trained on; None for those of the run.
    """

    can_extract: ClassVar[bool] = True
    """Whether it has features of any image."""

    stride: int
    channels: int

    def __init__(
        self, weight: float = 1.0, geometry: Geometry | None = None, photos: PhotoFolder | None = None
    ) -> None:
        super().__init__()
        self.weight, self.geometry, self.photos = weight, geometry, photos

    def train(self, mode: bool = True) -> FeatureSource:
        """Stay in evaluation mode, whatever is asked for."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def example(self, batch: Batch, cache: FeatureCache | None = None) -> Example:
        """What a training step needs of its images.

        The guidance is the image resized bilinearly without antialiasing, as in the official code.

        Args:
            batch: on the device of this source.
            cache: of the features of this source's backbone; None computes them each time.

        Raises:
            ValueError: for images that this source cannot take, or that lack the label maps it needs.
            CacheError: if features cannot be written.
        """
        features, target = self._pair(batch, cache)
        return Example(
            image01=batch.image01,
            guidance=normalize(resize(batch.image01, batch.plan.guidance_size)),
            features=features,
            target=target,
            stride=self.stride,
            extract=self.extract if self.can_extract else None,
            segments=batch.segments,
            generator=batch.plan.generator(_OBJECTIVE),
            step=batch.plan.step,
        )

    def extract(self, image01: Tensor) -> Tensor:
        """Features of any image, where `can_extract`.

        Args:
            image01: (B, 3, H, W), values from 0 to 1, sides multiples of `stride`.

        Returns:
            (B, C, H/stride, W/stride) float32, without gradients.
        """
        raise NotImplementedError(f"{type(self).__name__} has no features of images alone")

    @abstractmethod
    def _pair(self, batch: Batch, cache: FeatureCache | None) -> tuple[Tensor, Tensor]:
        """Input (B, C, h, w) and target (B, C, H, W), float32."""


def resize(image01: Tensor, side: int) -> Tensor:
    """Bilinear without antialiasing, as the official code makes guidance and reduced images; square."""
    if image01.shape[-1] == side:
        return image01
    return F.interpolate(image01, size=(side, side), mode="bilinear", align_corners=False)


def at_least_one(name: str, value: int) -> int:
    """The value, refused with a ValueError if below 1."""
    if value < 1:
        raise ValueError(f"{name} is {value}, expected at least 1")
    return value
