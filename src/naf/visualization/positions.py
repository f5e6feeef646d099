"""The positions of a feature map that a basis or clusters are fitted to."""

from __future__ import annotations

from torch import Tensor

from naf.upsamplers.checks import check_map

_SAMPLES = 4096


def spread_positions(features: Tensor) -> Tensor:
    """The vectors of at most 4096 positions, evenly spread.

    Args:
        features: (B, C, h, w).

    Returns:
        (positions, C), float32.

    Raises:
        TypeError: for what is no floating-point tensor.
        ValueError: for another shape, or values that are not finite.
    """
    check_map("features", features)
    vectors = features.detach().float().movedim(1, -1).flatten(0, -2)
    vectors = vectors[:: -(-len(vectors) // _SAMPLES)]
    if not vectors.isfinite().all():
        raise ValueError("features hold NaN or infinite values, expected finite ones")
    return vectors
