"""PHI-S: standardise features so that all channels have the same variance, by a rotation (arXiv 2410.01680).

A Hadamard matrix spreads the principal components evenly over the channels; one scale then serves them all. Nothing
is lost: the inverse is the transposed rotation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PhiS(nn.Module):
    """Standardisation of C channels; the identity until it is fitted or loaded.

    Args:
        channels: C.
    """

    mean: Tensor
    alpha: Tensor
    rotation: Tensor
    inv_rotation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("alpha", torch.ones(()))
        self.register_buffer("rotation", torch.eye(channels))
        self.register_buffer("inv_rotation", torch.eye(channels))

    def fit(self, mean: Tensor, covariance: Tensor) -> None:
        """Take mean and covariance of the features.

        Args:
            mean: (C,).
            covariance: (C, C), symmetric, positive semi-definite, not zero.

        Raises:
            ValueError: if the shapes are others, there is no variance, or no Hadamard matrix of C rows is known here.
        """
        channels = len(self.mean)
        if mean.shape != (channels,) or covariance.shape != (channels, channels):
            raise ValueError(
                f"mean and covariance have shapes {tuple(mean.shape)} and {tuple(covariance.shape)}, expected "
                f"({channels},) and ({channels}, {channels})"
            )
        variance, vectors = torch.linalg.eigh(covariance.double())
        if not variance.mean() > 0:
            raise ValueError("covariance has no positive trace, expected features that vary")
        rotation = hadamard(channels).to(vectors) / channels**0.5 @ vectors.mT
        self.mean.copy_(mean)
        self.alpha.copy_(variance.mean().rsqrt())
        self.rotation.copy_(rotation)
        self.inv_rotation.copy_(rotation.mT)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) → standardised, the same shape and dtype."""
        weight = (self.alpha * self.rotation).to(x.dtype)
        return F.conv2d(x - self.mean.to(x.dtype)[:, None, None], weight[:, :, None, None])

    def inverse(self, x: Tensor) -> Tensor:
        """Standardised features (B, C, h, w) → as they were."""
        weight = (self.inv_rotation / self.alpha).to(x.dtype)
        return F.conv2d(x, weight[:, :, None, None], self.mean.to(x.dtype))


def hadamard(size: int) -> Tensor:
    """A square matrix of ±1 with orthogonal rows, (size, size) float64.

    Paley's two constructions over prime fields, doubled as often as needed (Sylvester's).

    Raises:
        ValueError: if these give none of that size.
    """
    if size == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if size % 4 == 0 and _is_prime(size - 1):  # Paley's first: size - 1 is 3 modulo 4
        return _bordered(size - 1, -1) + torch.eye(size, dtype=torch.float64)
    half = size // 2
    if size % 4 == 0 and half % 4 == 2 and _is_prime(half - 1):  # Paley's second: half - 1 is 1 modulo 4
        plus, minus = torch.tensor([[[1, 1], [1, -1]], [[1, -1], [-1, -1]]], dtype=torch.float64)
        return torch.kron(_bordered(half - 1, 1), plus) + torch.kron(torch.eye(half, dtype=torch.float64), minus)
    if size % 2 == 0:
        return torch.kron(torch.tensor([[1, 1], [1, -1]], dtype=torch.float64), hadamard(half))
    raise ValueError(f"no Hadamard matrix is known here for this number of channels (left after halving: {size})")


def _bordered(prime: int, sign: int) -> Tensor:
    """The matrix of quadratic residues of differences, bordered by ones (the column by `sign`), zero diagonal."""
    residue = torch.full((prime,), -1.0, dtype=torch.float64)
    residue[torch.arange(1, prime).square() % prime] = 1
    residue[0] = 0
    index = torch.arange(prime)
    out = torch.zeros(prime + 1, prime + 1, dtype=torch.float64)
    out[0, 1:], out[1:, 0] = 1, sign
    out[1:, 1:] = residue[(index[:, None] - index) % prime]
    return out


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
