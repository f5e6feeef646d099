"""The objective of restorers."""

from __future__ import annotations

from torch import Tensor

from naf.restoration import Restorer
from naf.restoration.losses import RestorationLoss
from naf.training.example import Example
from naf.training.objective import Objective
from naf.upsamplers.base import Upsampler


class RestorationObjective(Objective):
    """How far a restored image is from the clean one, by :class:`naf.restoration.losses.RestorationLoss`.

    Args:
        l1: weight of the mean absolute error.
        l2: of the mean squared error.
        ssim: of 1 - SSIM.

    Raises:
        ValueError: for a negative weight, or where all are 0.
    """

    trains_restorers = True

    def __init__(self, l1: float = 1.0, l2: float = 5.0, ssim: float = 0.2) -> None:
        super().__init__()
        self.loss = RestorationLoss(l1, l2, ssim)

    def forward(self, upsampler: Upsampler | Restorer, example: Example) -> dict[str, Tensor]:
        """The terms, times their weights, and their sum."""
        return self.loss(upsampler(example.features), example.target)
