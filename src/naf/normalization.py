"""ImageNet normalisation, which guided upsamplers expect of their image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(image01: Tensor) -> Tensor:
    """Subtract the ImageNet mean and divide by the ImageNet standard deviation.

    Args:
        image01: RGB, (3, H, W) or (B, 3, H, W), float, values from 0 to 1 (a small overshoot of resizing is fine).

    Returns:
        Same shape, dtype and device; values about -2.1 to 2.6.

    Raises:
        TypeError: if it is no floating-point tensor.
        ValueError: if it has not three channels, or values that cannot be of a 0 … 1 image.

    Example:
        >>> import torch, naf
        >>> [round(x, 3) for x in naf.normalize(torch.full((3, 1, 1), 0.5)).flatten().tolist()]
        [0.066, 0.196, 0.418]
    """
    if not isinstance(image01, Tensor) or not image01.is_floating_point():
        kind = image01.dtype if isinstance(image01, Tensor) else type(image01).__name__
        raise TypeError(f"image01 is {kind}, expected float values from 0 to 1 (divide 8-bit images by 255)")
    if image01.ndim not in (3, 4) or image01.shape[-3] != 3:
        raise ValueError(f"image01 has shape {tuple(image01.shape)}, expected (3, H, W) or (B, 3, H, W)")
    if not torch.compiler.is_compiling() and image01.numel() and (image01.min() < -0.5 or image01.max() > 1.5):
        low, high = image01.min().item(), image01.max().item()
        raise ValueError(f"image01 has values from {low:g} to {high:g}, expected 0 to 1")
    return standardize(image01, IMAGENET_MEAN, IMAGENET_STD)


def standardize(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract a mean and divide by a standard deviation, channel by channel, (…, C, H, W); nothing is checked."""
    shift, scale = (torch.tensor(x, dtype=image.dtype, device=image.device)[:, None, None] for x in (mean, std))
    return (image - shift) / scale
