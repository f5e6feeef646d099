"""Affinity matrices of feature maps, compared without making them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def affinity_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of the matrices of cosines between all pairs of positions.

    With N x C matrices A and B of unit rows, D = A - B and S = A + B,
    |A A^T - B B^T|^2 = (<S^T S, D^T D> + <S^T D, (S^T D)^T>) / 2: C x C matrices in place of N x N ones.

    Args:
        a: (B, C, H, W).
        b: (B, C, H, W).

    Returns:
        0-d, mean over pairs and images.
    """
    with torch.autocast(a.device.type, enabled=False):
        dtype = torch.promote_types(a.dtype, torch.float32)
        a, b = (F.normalize(x.to(dtype).flatten(2), dim=1) for x in (a, b))  # (B, C, N)
        total, difference = a + b, a - b
        mixed = total @ difference.mT
        squares = (total @ total.mT) * (difference @ difference.mT) + mixed * mixed.mT
        return squares.sum((1, 2)).mean() / (2 * a.shape[2] ** 2)
