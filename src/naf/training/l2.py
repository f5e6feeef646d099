"""The paper's objective."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from naf.training.example import Example
from naf.training.objective import Objective
from naf.training.objectives.similarity import in_output_space
from naf.upsamplers.base import Upsampler


class L2(Objective):
    """Mean squared error over all elements, in float32, features not normalised (NAF, section 3.2).

    Of upsamplers with a norm of their own see :func:`naf.training.objectives.similarity.in_output_space`.
    """

    def forward(self, upsampler: Upsampler, example: Example) -> dict[str, Tensor]:
        """The one term, "loss"."""
        predicted = upsampler(example.guidance, example.features, example.target.shape[2:])
        return {"loss": F.mse_loss(predicted.float(), in_output_space(upsampler, example.target))}
