"""Neighborhood attention whose scores are multiplied by a factor of the distance, before the softmax (NAF, eq. 6).

The factor is a product of one for the row and one for the column. A plain path: bands of output rows against all
columns of the coarse rows that they use, by dense products; cells outside a pixel's neighborhood get a score of minus
infinity. Any device, differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from naf.ops.attention_blocked import compute_dtype
from naf.ops.neighborhood import Neighborhood

_SCORES = 1 << 22  # of a band


def factored_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    neighborhood: Neighborhood,
    row_factors: Tensor,
    col_factors: Tensor,
    *,
    scale: float,
) -> Tensor:
    """Mean of the coarse values around each fine position, weighted by softmax(factor * scale * q·k).

    Args:
        q: queries, (B, n, Ho, Wo, d).
        k: keys, (B, n, h, w, d).
        v: values, (B, n, h, w, e). One that is NaN or infinite makes the pixels that use it NaN.
        neighborhood: which coarse cells each output pixel attends to; a cell that occurs twice counts twice.
        row_factors: (n, Ho, h).
        col_factors: (n, Wo, w).
        scale: factor on q·k.

    Returns:
        (B, n, Ho, Wo, e), dtype of v, laid out in memory as (B, Ho, Wo, n, e).
    """
    dtype = compute_dtype(q, k, v)
    row_counts, col_counts = (
        _log_counts(table, size).to(dtype).to(q.device)
        for table, size in zip((neighborhood.rows, neighborhood.cols), neighborhood.grid, strict=True)
    )
    q, k, values = q.to(dtype), k.to(dtype), v.to(dtype)
    bad = None
    if not (torch.compiler.is_compiling() or v.isfinite().all()):
        bad = (~v.isfinite()).to(dtype)
        values = values.nan_to_num(0, 0, 0)
    bands = []
    for start, stop, first, last in _bands(q, neighborhood):
        rows, near = slice(start, stop), slice(first, last)
        factors = row_factors[:, rows, None, near, None] * col_factors[:, None, :, None, :]  # (n, rows, Wo, near, w)
        log_counts = row_counts[rows, None, near, None] + col_counts[None, :, None, :]
        content = q[:, :, rows].flatten(2, 3) @ k[:, :, near].flatten(2, 3).mT  # (B, n, pixels, cells)
        scores = content * (scale * factors).flatten(3).flatten(1, 2) + log_counts.flatten(2).flatten(0, 1)
        band = scores.softmax(-1) @ values[:, :, near].flatten(2, 3)
        if bad is not None:
            uses = log_counts.isfinite().to(dtype).flatten(2).flatten(0, 1)
            band = band.masked_fill(uses @ bad[:, :, near].flatten(2, 3) > 0, torch.nan)
        bands.append(band.to(v.dtype).unflatten(2, (stop - start, -1)).permute(0, 2, 3, 1, 4))
    return torch.cat(bands, dim=1).permute(0, 3, 1, 2, 4)


def _log_counts(table: Tensor, size: int) -> Tensor:
    """Logarithm of how often each of `size` cells occurs in each row of a table, (positions, size)."""
    counts = torch.zeros(len(table), size, device=table.device)
    return counts.scatter_add_(1, table, torch.ones(table.shape, device=table.device)).log()


def _bands(q: Tensor, neighborhood: Neighborhood) -> list[tuple[int, int, int, int]]:
    """Output rows start … stop - 1 and the coarse rows first … last - 1 that they use."""
    h, w = neighborhood.grid
    cells = min(h, neighborhood.kernel[0] + 1) * w
    step = max(1, _SCORES // (q.shape[0] * q.shape[1] * q.shape[3] * cells))
    tables = ((start, neighborhood.rows[start : start + step]) for start in range(0, q.shape[2], step))
    return [(start, start + len(rows), int(rows.min()), int(rows.max()) + 1) for start, rows in tables]
