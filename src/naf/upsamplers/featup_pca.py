"""Principal components of a backbone's features: FeatUp's implicit network is fitted to fewer channels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PCA(NamedTuple):
    """An orthonormal basis of the directions of most variance.

    Attributes:
        components: (dim, C), orthonormal rows.
        mean: (C,).
    """

    components: Tensor
    mean: Tensor

    def reduce(self, features: Tensor) -> Tensor:
        """(…, C) → (…, dim)."""
        return (features.to(self.mean) - self.mean) @ self.components.mT


def fit_pca(features: Tensor, dim: int) -> PCA:
    """The first `dim` components.

    Args:
        features: (N, C).
        dim: at most C.

    Returns:
        In float32 on the CPU. Signs are fixed: the largest coefficient of a component is positive.
    """
    x = features.double().cpu()
    mean = x.mean(0)
    directions = torch.linalg.eigh((x - mean).mT @ (x - mean)).eigenvectors.mT.flip(0)[:dim]
    peak = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return PCA((directions * peak.sign()).float(), mean.float())
