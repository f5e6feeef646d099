"""Contour accuracy F of DAVIS, as the official toolkit has it (Perazzi et al., CVPR 2016; Martin et al., PAMI 2004).

Boundaries are one pixel wide; those of one mask count as found where the other's are within a tolerance.
"""

from __future__ import annotations

import math

import numpy as np

TOLERANCE = 0.008  # of the image's diagonal


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower right neighbour.

    In the last row only right neighbours are looked at, in the last column only lower ones.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool.
    """
    boundary = np.zeros_like(mask)
    boundary[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    boundary[:-1] |= mask[:-1] ^ mask[1:]
    boundary[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return boundary


def contour_accuracy(truth: np.ndarray, prediction: np.ndarray) -> float:
    """F: harmonic mean of the shares of boundary pixels that the other boundary is near to.

    Args:
        truth: (H, W) bool.
        prediction: likewise.

    Returns:
        From 0 to 1; 1 if neither has a boundary, 0 if one of them has none.
    """
    true, predicted = boundary_map(truth), boundary_map(prediction)
    if not true.any() and not predicted.any():
        return 1.0
    return match_boundaries(true, predicted)


def match_boundaries(true: np.ndarray, predicted: np.ndarray) -> float:
    """F of two boundaries, (H, W) bool, tolerance from their size; 0 if either is empty."""
    number_true, number_predicted = np.count_nonzero(true), np.count_nonzero(predicted)
    if not number_true or not number_predicted:
        return 0.0
    radius = math.ceil(TOLERANCE * math.hypot(*true.shape))
    precision = np.count_nonzero(predicted & dilate(true, radius)) / number_predicted
    recall = np.count_nonzero(true & dilate(predicted, radius)) / number_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """Pixels within a distance of the mask's, dy² + dx² ≤ radius².

    The disc is a stack of rows, so its rows' dilations are shifted and united: time does not depend on the content.

    Args:
        mask: (H, W) bool.
        radius: pixels, at least 0.

    Returns:
        (H, W) bool.
    """
    height, width = mask.shape
    wide, reach = mask.copy(), 0  # the mask, dilated along its rows by `reach`
    out = np.zeros_like(mask)
    for dy in range(radius, -1, -1):
        for dx in range(reach + 1, min(math.isqrt(radius**2 - dy**2), width - 1) + 1):
            wide[:, dx:] |= mask[:, :-dx]
            wide[:, :-dx] |= mask[:, dx:]
            reach = dx
        if dy < height:
            out[dy:] |= wide[: height - dy]
            out[: height - dy] |= wide[dy:]
    return out
