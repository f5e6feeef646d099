"""Structural similarity (Wang et al., IEEE TIP 2004) with any local mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_C1, _C2 = 0.01**2, 0.03**2  # for values from 0 to 1


def similarity_map(a: Tensor, b: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
    """Structural similarity at every position that a local mean gives a value for.

    Args:
        a: (B, C, H, W), values about 0 to 1.
        b: likewise.
        mean: local mean of such a map, channel by channel.

    Returns:
        (B, C, H', W'), -1 to 1, 1 where the two are alike.
    """
    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return luminance * (2 * covariance + _C2) / (variance_a + variance_b + _C2)


def box_mean(x: Tensor) -> Tensor:
    """Mean over 3x3 pixels; beyond the border are zeros, which count."""
    return F.avg_pool2d(x, 3, stride=1, padding=1)


def gaussian_mean(x: Tensor, sigma: float, padding: int) -> Tensor:
    """Mean over 11x11 pixels under a Gaussian.

    Args:
        x: (B, C, H, W).
        sigma: of the Gaussian, pixels.
        padding: zeros beyond each border.

    Returns:
        (B, C, H + 2 padding - 10, W + 2 padding - 10).
    """
    weight = torch.exp(-(torch.arange(-5, 6, dtype=x.dtype, device=x.device) ** 2) / (2 * sigma**2))
    weight = weight / weight.sum()
    maps = x.flatten(0, 1)[:, None]  # (B*C, 1, H, W)
    maps = F.conv2d(maps, weight[None, None, :, None], padding=(padding, 0))
    maps = F.conv2d(maps, weight[None, None, None, :], padding=(0, padding))
    out: Tensor = maps[:, 0].unflatten(0, x.shape[:2])
    return out
