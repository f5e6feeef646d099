"""Depth from bins: the head of the depth probe gives weights of distances, whose mean is the depth.

As in Probe3D (El Banani et al., CVPR 2024) and JAFAR: weights max(z, 0) + 0.1, distances evenly spaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

MIN_DEPTH = 1e-3
MAX_DEPTH = 10.0

_FLOOR = 0.1  # weight that each bin has at least
_BAND = 1 << 22  # values of the logits that are worked on at once


def decode_bins(logits: Tensor, *, min_depth: float = MIN_DEPTH, max_depth: float = MAX_DEPTH) -> Tensor:
    """Mean distance of the bins, weighted by max(z, 0) + 0.1.

    Nothing of the size of the logits is made but their gradient; the logits themselves are kept for it.

    Args:
        logits: (B, K, H, W), any floating dtype; K bins, at least 2.
        min_depth: distance of the first bin, metres.
        max_depth: distance of the last bin, metres.

    Returns:
        (B, 1, H, W), metres, between min_depth and max_depth; float32, or float64 for such logits.

    Raises:
        ValueError: if the logits have another shape or dtype, or the distances are not 0 <= min_depth < max_depth.
    """
    if logits.ndim != 4 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(
            f"logits are {tuple(logits.shape)} {logits.dtype}, expected floating numbers (B, K, H, W) of K >= 2 bins"
        )
    if not 0 <= min_depth < max_depth < float("inf"):
        raise ValueError(f"depths from {min_depth} to {max_depth}, expected 0 <= min_depth < max_depth")
    depth: Tensor = _BinMean.apply(logits, min_depth, max_depth)
    return depth


class _BinMean(torch.autograd.Function):
    """The mean and its gradient, a band of rows at a time: plain operations would keep three more K-channel maps."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, min_depth: float, max_depth: float) -> Tensor:
        """The mean of (B, K, H, W) logits, (B, 1, H, W)."""
        centers = _centers(logits, min_depth, max_depth)
        depth = centers.new_empty(len(logits), 1, *logits.shape[2:])
        total = torch.empty_like(depth)
        columns = centers.reshape(1, -1, 1, 1)
        # No matrix product: autocast and TF32 would round it to millimetres.
        for rows in _bands(logits):
            weights = logits[:, :, rows].relu().to(centers.dtype).add_(_FLOOR)
            total[:, :, rows] = weights.sum(1, keepdim=True)
            depth[:, :, rows] = weights.mul_(columns).sum(1, keepdim=True) / total[:, :, rows]
        ctx.save_for_backward(logits, depth, total)
        ctx.range = min_depth, max_depth
        return depth

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Slope of the mean by z_k: (c_k - depth) / sum of weights where z_k > 0."""
        logits, depth, total = ctx.saved_tensors
        centers = _centers(logits, *ctx.range).reshape(1, -1, 1, 1)
        scaled = grad / total
        result = torch.empty_like(logits)
        for rows in _bands(logits):
            band = (centers - depth[:, :, rows]).mul_(scaled[:, :, rows])
            result[:, :, rows] = torch.ops.aten.threshold_backward(band, logits[:, :, rows], 0)
        return result, None, None


def _centers(logits: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """Distances of the bins, (K,), in the dtype in which is summed."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return torch.linspace(min_depth, max_depth, logits.shape[1], dtype=dtype, device=logits.device)


def _bands(logits: Tensor) -> Iterator[slice]:
    batch, bins, height, width = logits.shape
    step = max(1, _BAND // max(1, batch * bins * width))
    return (slice(start, start + step) for start in range(0, height, step))
