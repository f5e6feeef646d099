"""The contract of training objectives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from naf.training.example import Example
from naf.upsamplers.base import Upsampler


class Objective(nn.Module, ABC):
    """Maps an upsampler and an example to loss terms.

    What an objective learns beside the upsampler (a downsampler, an uncertainty) are its own parameters; they are
    trained and checkpointed with it, and not exported.
    """

    needs_extract: ClassVar[bool] = False
    """Whether it runs the backbone on images of its own: no feature cache, and no label maps."""
    needs_segments: ClassVar[bool] = False
    """Whether it takes `Example.segments`."""
    trains_restorers: ClassVar[bool] = False
    """Whether it calls a `naf.restoration.Restorer`, not an upsampler."""

    @abstractmethod
    def forward(self, upsampler: Upsampler, example: Example) -> dict[str, Tensor]:
        """Loss terms, 0-d; "loss" is their weighted sum, what is minimised."""

    def after_step(self, upsampler: Upsampler, step: int) -> None:
        """Called after each update of the weights; step from 0."""
        del upsampler, step
