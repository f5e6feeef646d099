"""The losses of the depth probe, as in Probe3D (El Banani et al., CVPR 2024): 10 scale-invariant + 0.5 gradient.

A pixel counts where the target is above 0. g is log(prediction + 0.001) - log(target + 0.001), natural.
"""

from __future__ import annotations

import torch
from torch import Tensor

from naf.evaluation.depth_head import MAX_DEPTH

_OFFSET = 1e-3  # keeps the logarithm finite, metres
_STRIDES = (1, 2, 4, 6)  # the fourth is 6 in the official code, not 8
_APART = 2  # pixels between the two ends of a difference


def mask_target(depth: Tensor, max_depth: float = MAX_DEPTH) -> Tensor:
    """Depth whose values beyond the range count as missing.

    Nothing is clipped: from below that would make missing pixels valid ones of 1 mm, from above it would hide those to
    be ignored.

    Args:
        depth: metres, any shape; 0 is missing. It is left as it is.
        max_depth: metres; values above become 0.

    Returns:
        A new tensor of the same shape.
    """
    return depth.masked_fill(depth > max_depth, 0)


def depth_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """10 · scale_invariant_loss + 0.5 · gradient_loss; arguments, result and errors as there."""
    return 10 * scale_invariant_loss(prediction, target) + 0.5 * gradient_loss(prediction, target)


def scale_invariant_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """sqrt(mean(g²) - 0.85 mean(g)²) over the valid pixels of the whole batch.

    Args:
        prediction: (B, 1, H, W), metres, above 0.
        target: (B, 1, H, W), metres, after `mask_target`.

    Returns:
        A number; 0 where no pixel is valid.

    Raises:
        ValueError: if the two have other shapes.
    """
    g, valid = log_difference(prediction, target)
    count = valid.sum().clamp(min=1)
    return _root((g * g).sum() / count - 0.85 * (g.sum() / count) ** 2)


def gradient_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Absolute differences of g between pixels two apart, down and to the right, both of them valid.

    Taken of the maps at strides 1, 2, 4 and 6, divided by the number of valid pixels there, and added up. Arguments,
    result and errors as in `scale_invariant_loss`.
    """
    full, full_valid = log_difference(prediction, target)
    loss = full.new_zeros(())
    for stride in _STRIDES:
        g, valid = full[..., ::stride, ::stride], full_valid[..., ::stride, ::stride]
        down = (g[..., _APART:, :] - g[..., :-_APART, :]).abs() * (valid[..., _APART:, :] & valid[..., :-_APART, :])
        right = (g[..., _APART:] - g[..., :-_APART]).abs() * (valid[..., _APART:] & valid[..., :-_APART])
        loss = loss + (down.sum() + right.sum()) / valid.sum().clamp(min=1)
    return loss


def log_difference(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """g, 0 outside the valid pixels, and the mask of these; both (B, 1, H, W). Arguments and errors as above."""
    if prediction.ndim != 4 or prediction.shape[1] != 1 or prediction.shape != target.shape:
        raise ValueError(
            f"prediction is {tuple(prediction.shape)}, target {tuple(target.shape)}, expected (B, 1, H, W) for both"
        )
    valid = target > 0
    g = (prediction + _OFFSET).log() - (target + _OFFSET).log()
    return torch.where(valid, g, 0), valid


def _root(square: Tensor) -> Tensor:
    # At 0, where the root has no slope, the gradient is to be 0.
    is_zero = square == 0
    return torch.where(is_zero, 1, square).sqrt().masked_fill(is_zero, 0)
