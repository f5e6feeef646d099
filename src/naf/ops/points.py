"""Attention of many single output positions, with nothing gathered for each of them.

The same numbers as :func:`naf.ops.attention.attend_points`, which copies k x k keys and values for each position.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.attention import is_none, point_cells, point_scores, point_weights
from naf.ops.attention_blocked import compute_dtype

_DENSE = 32  # a product with all cells costs less than gathering a share of them, down to one in so many


def scores_at(q: Tensor, k: Tensor, rows: Tensor, cols: Tensor, scale: float) -> Tensor:
    """Scaled scores of single positions, minus infinity where a position has no cell.

    Args:
        q: queries, (B, n, N, d).
        k: keys, (B, n, h, w, d).
        rows: coarse rows of each position, (N, kh) int64; -1 stands for none.
        cols: coarse columns of each position, (N, kw) int64, likewise.
        scale: factor on q·k.

    Returns:
        (B, n, N, kh * kw).
    """
    cells = point_cells(rows, cols, k.shape[3])
    if k.shape[2] * k.shape[3] > _DENSE * cells.shape[1]:
        return point_scores(q, k, rows, cols, scale)
    dtype = compute_dtype(q, k)
    scores = (q.to(dtype) * scale) @ k.to(dtype).flatten(2, 3).mT
    near = scores.gather(-1, cells.expand(*scores.shape[:2], -1, -1))
    return near.masked_fill(is_none(rows, cols), -math.inf)


def average_at(scores: Tensor, v: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Softmax-weighted means of the values at single positions.

    Args:
        scores: (B, n, N, kh * kw), of :func:`scores_at`.
        v: values, (B, n, h, w, e), or (B, 1, h, w, e) shared by all heads.
        rows: as :func:`scores_at`.
        cols: likewise.

    Returns:
        (B, n, N, e) or (B, 1, N, e), dtype of v.
    """
    weights = point_weights(scores, v)
    cells, maps = point_cells(rows, cols, v.shape[3]), v.to(weights.dtype).flatten(2, 3).contiguous()
    means = [
        F.embedding_bag(cells, values, mode="sum", per_sample_weights=share.contiguous())
        for values, share in zip(maps.flatten(0, 1), weights.flatten(0, 1), strict=True)
    ]
    stacked: Tensor = torch.stack(means).unflatten(0, maps.shape[:2])
    return stacked.to(v.dtype)
