"""Attention weights of methods that are linear in the features and treat all channels alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from naf.upsamplers.base import Attention

Span = tuple[int, int]


def impulse_attention(
    pixel: Callable[[Tensor], Tensor], batch: int, grid: tuple[int, int], rows: Span, cols: Span, like: Tensor
) -> Attention:
    """Weights of coarse cells at one output pixel: what the pixel becomes when one cell is 1 and all others are 0.

    Args:
        pixel: gives the output pixel, (B, n), of features (B, n, h, w).
        batch: B.
        grid: (h, w).
        rows: first and last row that can have weight.
        cols: first and last column that can have weight.
        like: tells dtype and device.

    Returns:
        The weights, one head.
    """
    row, col = (torch.arange(first, last + 1, device=like.device) for first, last in (rows, cols))
    cells = torch.cartesian_prod(row, col)
    impulses = torch.zeros(len(cells), *grid, dtype=like.dtype, device=like.device)
    impulses[torch.arange(len(cells), device=like.device), cells[:, 0], cells[:, 1]] = 1
    weights = pixel(impulses.expand(batch, -1, -1, -1))
    return Attention(weights.unflatten(1, (1, len(row), len(col))), row, col)
