"""A batch as an objective sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Example:
    """Images and features of one step, on the device of the upsampler.

    Attributes:
        image01: (B, 3, S, S), values from 0 to 1: the image that gives the targets.
        guidance: (B, 3, G, G), ImageNet-normalised: what the upsampler shall be guided by.
        features: (B, C, h, w), input, float32.
        target: (B, C, H, W), what the upsampler shall predict, float32.
        stride: pixels of `image01` a target cell.
        extract: the frozen source on other images, (B, 3, H', W') with values from 0 to 1 and sides a multiple of
            `stride` → (B, C, H'/stride, W'/stride), without gradients; None where the source has no such thing
            (label maps).
        segments: (B, S, S) int64, ids of the segments of `image01`; None where the data have none.
        generator: of what the step draws, on the CPU; the same in every process.
        step: from 0.
    """

    image01: Tensor
    guidance: Tensor
    features: Tensor
    target: Tensor
    stride: int
    extract: Callable[[Tensor], Tensor] | None
    segments: Tensor | None
    generator: torch.Generator
    step: int
