"""Means over cells: the exact area average of pixels, for grids of any size."""

from __future__ import annotations

import torch
from torch import Tensor


def cell_means(values: Tensor, cells: int, blur: float = 0.0) -> Tensor:
    """Average the pixels of each cell; a pixel that two cells share counts for each by its part there.

    Args:
        values: (B, C, S, S), float.
        cells: of the grid on each side.
        blur: standard deviation, in cells, of a Gaussian over the grid; its weights are normalised at the border.

    Returns:
        (B, C, cells, cells) float32, also under autocast; constants stay constant.
    """
    matrix = _overlap(values.shape[-1], cells)
    if blur > 0:
        matrix = _gaussian(cells, blur) @ matrix
    with torch.autocast(values.device.type, enabled=False):
        weight = matrix.to(values.device, torch.float32)
        return weight @ values.float() @ weight.T


def _overlap(pixels: int, cells: int) -> Tensor:
    """Share of each pixel in the mean of each cell, (cells, pixels) float64."""
    edge = torch.arange(cells + 1, dtype=torch.float64)[:, None] * (pixels / cells)
    pixel = torch.arange(pixels, dtype=torch.float64)
    part = (torch.minimum(edge[1:], pixel + 1) - torch.maximum(edge[:-1], pixel)).clamp(min=0)
    return part / part.sum(dim=1, keepdim=True)


def _gaussian(cells: int, sigma: float) -> Tensor:
    """Weights of all cells for each, (cells, cells) float64; rows sum to one."""
    index = torch.arange(cells, dtype=torch.float64)
    return torch.softmax(-(index[:, None] - index).square() / (2 * sigma**2), dim=1)
