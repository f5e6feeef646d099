"""Another look at the guidance, for AnyUp's consistency term: other colours, blur, compression, noise."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from naf.normalization import normalize
from naf.upsamplers.extractor import to_image01

_QUALITIES = (95, 80, 60, 40)  # of JPEG
_NOISE_SHARE, _NOISE = 0.6, 0.03


class _Step(NamedTuple):
    """A change of images of 0 … 1, made with a probability `share`; `strength` runs from 0 to 1."""

    share: float
    change: Callable[[Tensor, float], Tensor]


def _compress(image01: Tensor, strength: float) -> Tensor:
    quality = _QUALITIES[min(int(strength * len(_QUALITIES)), len(_QUALITIES) - 1)]
    decoded = []
    for pixels in (image01 * 255).round().byte().permute(0, 2, 3, 1).cpu():
        file = BytesIO()
        Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=quality)
        decoded.append(torch.from_numpy(np.array(Image.open(file))))
    return torch.stack(decoded).permute(0, 3, 1, 2).to(image01) / 255


_STEPS = (
    _Step(0.5, lambda image01, strength: transforms.adjust_brightness(image01, 0.8 + 0.4 * strength)),
    _Step(0.5, lambda image01, strength: transforms.adjust_contrast(image01, 0.8 + 0.4 * strength)),
    _Step(0.5, lambda image01, strength: transforms.adjust_saturation(image01, 0.7 + 0.6 * strength)),
    _Step(0.5, lambda image01, strength: transforms.adjust_hue(image01, -0.05 + 0.1 * strength)),
    _Step(0.1, lambda image01, _: transforms.rgb_to_grayscale(image01, 3)),
    _Step(0.35, lambda image01, strength: transforms.gaussian_blur(image01, [5, 5], [0.3 + 1.2 * strength] * 2)),
    _Step(1.0, _compress),
    _Step(0.1, lambda image01, _: transforms.autocontrast(image01)),
    _Step(0.075, lambda image01, _: transforms.equalize(image01)),
    _Step(0.1, lambda image01, _: transforms.adjust_sharpness(image01, 1.5)),
    _Step(0.05, lambda image01, _: transforms.posterize(image01, 5)),
    _Step(0.025, lambda image01, _: transforms.solarize(image01, 0.9)),
    _Step(0.01, lambda image01, _: transforms.invert(image01)),
)


@torch.no_grad()
def augmented_guidance(guidance: Tensor, generator: torch.Generator) -> Tensor:
    """The guidance after colour jitter, grey, blur, JPEG, contrast, sharpness, tone changes and noise.

    Kinds, probabilities and strengths are those of the authors' code, with a few differences: brightness, contrast,
    saturation and hue change one by one and in this order, there is no second colour distortion after them, qualities
    of JPEG are equally likely, and solarisation has its threshold at 0.9 of white (there 0.9 of 255). The images of a
    batch share their draws.

    Args:
        guidance: (B, 3, G, G), ImageNet-normalised.
        generator: on the CPU.

    Returns:
        (B, 3, G, G), ImageNet-normalised, without gradients.
    """
    image01 = to_image01(guidance)
    draws = torch.rand(len(_STEPS) + 1, 2, generator=generator).tolist()
    noise = _NOISE * torch.randn(guidance.shape[1:], generator=generator).to(guidance)
    for step, (share, strength) in zip(_STEPS, draws[:-1], strict=True):
        if share < step.share:
            image01 = step.change(image01, strength).clamp(0, 1)
    if draws[-1][0] < _NOISE_SHARE:
        image01 = (image01 + noise).clamp(0, 1)
    return normalize(image01)
