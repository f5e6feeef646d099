"""Ways from NAF's queries to its keys, one a coarse cell (NAF, table 6, where "average" is the paper's choice)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KeyPooling = Literal["average", "max", "conv", "bilinear"]


def pool_keys(queries: Tensor, grid: tuple[int, int], pooling: KeyPooling) -> Tensor:
    """Keys of a coarse grid; the queries themselves where they are on that grid.

    Args:
        queries: (B, Ho, Wo, dim), after RoPE.
        grid: (h, w), at most (Ho, Wo).
        pooling: "average" or "max" over the pixels of each cell (adaptive pooling), "bilinear" for interpolation at
            the cell's centre. "conv" averages; :func:`convolve_keys` follows.

    Returns:
        (B, h, w, dim).
    """
    if tuple(queries.shape[1:3]) == grid:
        return queries
    x = queries.permute(0, 3, 1, 2)
    if pooling == "max":
        x = F.adaptive_max_pool2d(x, grid)
    elif pooling == "bilinear":
        x = F.interpolate(x, grid, mode="bilinear", align_corners=False)
    else:
        x = F.adaptive_avg_pool2d(x, grid)
    return x.permute(0, 2, 3, 1)


def convolve_keys(keys: Tensor, conv: nn.Conv2d, order: Tensor | None) -> Tensor:
    """A 1x1 convolution of keys (B, h, w, dim).

    Args:
        keys: their channels may be in another order than those of the encoder.
        conv: dim → dim.
        order: encoder channel at each position of the keys, (dim,); None where it is the same.
    """
    assert conv.bias is not None
    weight, bias = conv.weight.flatten(1).to(keys.dtype), conv.bias.to(keys.dtype)
    if order is not None:
        weight, bias = weight[order][:, order], bias[order]
    with torch.autocast(keys.device.type, enabled=False):
        return F.linear(keys, weight, bias)
