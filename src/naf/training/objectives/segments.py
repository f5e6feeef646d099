"""Feature maps refined by segments of the image."""

from __future__ import annotations

import torch
from torch import Tensor


def refine(features: Tensor, segments: Tensor, factor: float) -> Tensor:
    """Features moved towards their mean in each segment.

    Args:
        features: (B, C, H, W).
        segments: (B, H, W), ids, any integers.
        factor: 0 leaves the features, 1 makes them constant in a segment.

    Returns:
        (B, C, H, W).
    """
    refined = []
    for each, ids in zip(features.flatten(2), segments.flatten(1), strict=True):
        _, index, counts = torch.unique(ids, return_inverse=True, return_counts=True)
        sums = each.new_zeros(each.shape[0], len(counts)).index_add_(1, index, each)
        refined.append(torch.lerp(each, (sums / counts)[:, index], factor))
    return torch.stack(refined).view_as(features)
