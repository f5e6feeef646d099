"""What a linear probe learns: the contract of segmentation and depth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from naf.data.labelled.geometry import Geometry


class ImageSet(Protocol):
    """The images of a split."""

    @property
    def names(self) -> list[str]:
        """Of the images, each another."""

    @property
    def note(self) -> str:
        """What a reader of results must know, else empty."""

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """Hash of which images these are."""

    def read_image(self, index: int) -> Image.Image:
        """RGB, 8 bits a channel."""


class Score(Protocol):
    """Metrics over a set of images, of one head."""

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Count predictions (B, K, H, W) against targets (B, H, W)."""

    def metrics(self) -> dict[str, float]:
        """By name, see :class:`naf.evaluation.record.EvaluationRecord`."""

    def details(self) -> Mapping[str, Any]:
        """For the record."""


class ProbeTask(ABC):
    """A task of dense prediction through one linear layer.

    Attributes:
        key: of the data set, for records.
        train: images that the layer learns from.
        val: images that it is scored on.
        outputs: K, values that the layer gives for each pixel.
    """

    key: str
    train: ImageSet
    val: ImageSet
    outputs: int

    @abstractmethod
    def target(self, images: ImageSet, index: int, size: int, geometry: Geometry) -> Tensor:
        """What is to be predicted of an image, (size, size)."""

    def labelled(self, targets: Tensor) -> Tensor:
        """Which pixels of targets are to be predicted, bool, same shape.

        Raises:
            ValueError: where pixels cannot be learned from one by one.
        """
        del targets
        raise ValueError(f"protocol.pixels is set, expected null: {type(self).__name__} learns from whole maps")

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, step: int) -> Tensor:
        """Of predictions (B, K, H, W) against targets (B, H, W) at a step of the training, from 0; differentiable."""

    @abstractmethod
    def score(self) -> Score:
        """An empty score."""
