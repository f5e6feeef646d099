"""Contour accuracy F as the authors of NAF compute it (github.com/valeoai/NAF), for comparison with their table.

Their boundaries are two pixels wide, a Sobel magnitude above 0.1, matched where the Euclidean distance is within the
official tolerance. On the same masks their F is some points higher than that of the DAVIS toolkit.
"""

from __future__ import annotations

import numpy as np

from naf.evaluation.davis_boundary import match_boundaries


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """Pixels whose Sobel magnitude is above 0.1; at the border the image is mirrored about its outermost pixels.

    The kernels have whole numbers, so that above 0.1 means not 0.

    Args:
        mask: (H, W) bool, at least 2 x 2.

    Returns:
        (H, W) bool.
    """
    padded = np.pad(mask.view(np.int8), 1, mode="reflect")
    across = padded[:-2] + 2 * padded[1:-1] + padded[2:]  # (H, W + 2), smoothed along columns
    down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    boundary: np.ndarray = (across[:, 2:] != across[:, :-2]) | (down[2:] != down[:-2])
    return boundary


def contour_accuracy(truth: np.ndarray, prediction: np.ndarray) -> float:
    """F of two masks, (H, W) bool; unlike in the toolkit, 0 if neither has a boundary."""
    return match_boundaries(boundary_map(truth), boundary_map(prediction))
