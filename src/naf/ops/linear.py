"""Linear layers and layer norms on tokens, in the tokens' dtype.

On the CPU, products with float32 tokens go through 1x1 convolutions, whose library (oneDNN) was measured to be twice
as fast as that of matrix products on AMD processors; it is the same sum.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def runs_on_convolutions(x: Tensor) -> bool:
    """Whether convolutions are the faster products: float32 on the CPU, in a plain call."""
    is_plain = not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))
    return is_plain and x.device.type == "cpu" and x.dtype == torch.float32


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Product x @ weight.T + bias.

    Args:
        x: tokens, (B, n, C).
        weight: (D, C).
        bias: (D,) or None.

    Returns:
        (B, n, D), contiguous.
    """
    if not runs_on_convolutions(x):
        return F.linear(x, weight, bias)
    return F.conv2d(x[:, None].permute(0, 3, 1, 2), weight[:, :, None, None], bias)[:, :, 0].mT


def project(x: Tensor, layer: nn.Linear | nn.Conv2d) -> Tensor:
    """A linear layer or 1x1 convolution on tokens (B, n, C), in the dtype of x."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return linear(x, layer.weight.to(x.dtype).flatten(1), bias)


def normalize(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Layer norm over the last dimension, in the dtype of x."""
    return F.layer_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)
