"""JAFAR's objective (arXiv 2506.11136 and the official training script)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from naf.training.example import Example
from naf.training.objective import Objective
from naf.training.objectives.similarity import cosine_distance, in_output_space, min_max_error, similarity_loss
from naf.upsamplers.base import Upsampler

_BLUR_SHARE, _NOISE_SHARE, _NOISE = 0.5, 0.3, 0.02


class JAFARObjective(Objective):
    """Cosine distance and scaled squared error to the target, and consistency under noisy guidance.

    The consistency term upsamples the target's features to the size of the guidance, once under the guidance itself
    (without gradients) and once under a noisy one. Terms: `cosine`, `min_max`, `consistency`.

    Differences from the official script: noise that would be added to the guidance in place leaves the guidance of
    the other terms alone, and the images of a batch share their draws.

    Args:
        consistency: weight of the consistency term.
    """

    def __init__(self, consistency: float = 0.1) -> None:
        super().__init__()
        self.consistency = consistency

    def forward(self, upsampler: Upsampler, example: Example) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`."""
        target = in_output_space(upsampler, example.target)
        prediction = upsampler(example.guidance, example.features, target.shape[2:])
        noisy = noisy_guidance(example.guidance, example.generator)
        terms = {
            "cosine": cosine_distance(prediction, target),
            "min_max": min_max_error(prediction, target),
            "consistency": consistency(upsampler, example.guidance, noisy, example.target),
        }
        loss = terms["cosine"] + terms["min_max"] + self.consistency * terms["consistency"]
        return {"loss": loss, **terms}


def consistency(upsampler: Upsampler, guidance: Tensor, other: Tensor, features: Tensor) -> Tensor:
    """How far features upsampled to the size of the guidance change with the guidance.

    Args:
        upsampler: whose gradients come from the other guidance alone.
        guidance: (B, 3, G, G), ImageNet-normalised.
        other: the same, disturbed.
        features: (B, C, h, w).

    Returns:
        0-d.
    """
    with torch.no_grad():
        clean = upsampler(guidance, features, guidance.shape[2:])
    return similarity_loss(upsampler(other, features, guidance.shape[2:]), clean)


def noisy_guidance(guidance: Tensor, generator: torch.Generator) -> Tensor:
    """A disturbed guidance.

    Blurred (Gaussian of 5 pixels, sigma 1) with a probability of 0.5, normal noise of deviation 0.02 added with 0.3,
    and clamped to 0 … 1 always: the official script does so although the image is normalised, which cuts all that is
    darker than the mean.

    Args:
        guidance: (B, 3, G, G), ImageNet-normalised.
        generator: on the CPU.

    Returns:
        (B, 3, G, G), a new tensor.
    """
    blurs, adds = torch.rand(2, generator=generator).tolist()
    noise = _NOISE * torch.randn(guidance.shape[1:], generator=generator).to(guidance)
    if blurs < _BLUR_SHARE:
        guidance = transforms.gaussian_blur(guidance, [5, 5], [1.0, 1.0])
    if adds < _NOISE_SHARE:
        guidance = guidance + noise
    return guidance.clamp(0, 1)
