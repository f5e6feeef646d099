"""The loss with which JAFAR's repository trains its depth probe, for comparison with it.

NAF's own depth code is not released: the protocol "released" of the depth probe means JAFAR's pieces. Its gradient
loss takes differences along the batch and the channel instead of the rows and columns. It is identically zero for up
to two images and compares different images with more, so what trains there is this loss alone.
"""

from __future__ import annotations

from torch import Tensor

from naf.evaluation.depth_loss import log_difference

WARM_UP = 100  # steps


def jafar_depth_loss(prediction: Tensor, target: Tensor, step: int) -> Tensor:
    """sqrt(var(g) + 0.15 mean(g)²) over the valid pixels of the batch; without the variance in the first 100 steps.

    The variance is the unbiased one. g as in `naf.evaluation.depth_loss`.

    Args:
        prediction: (B, 1, H, W), metres, above 0; B of 1 or 2, where the official gradient loss is zero.
        target: (B, 1, H, W), metres, after `mask_target`.
        step: of the training, from 0.

    Returns:
        A number; 0 where fewer than two pixels are valid.

    Raises:
        ValueError: if the two have other shapes, or there are more than two images.
    """
    g, valid = log_difference(prediction, target)
    if len(prediction) > 2:
        raise ValueError(f"batch of {len(prediction)}, expected 1 or 2: beyond, JAFAR's loss compares different images")
    inside = g[valid]
    if len(inside) < 2:
        return g.sum() * 0
    square = 0.15 * inside.mean() ** 2
    if step >= WARM_UP:
        square = square + inside.var()
    # At 0, where the root has no slope, the gradient is to be 0.
    return square if square == 0 else square.sqrt()
