"""Fourier codes of coordinates and colours with learned phases, as FeatUp and LoftUp define them.

Frequencies reach e^10, so one float32 rounding of an input moves a phase by about 1e-3. The order of operations is
therefore that of the official code (multiply, add the phase, sine), tables come from the CPU on every device, and
nothing here may be computed in half precision or under autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LOWEST, _HIGHEST = -2, 10  # exponents of the frequencies


def fourier_frequencies(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """exp(-2) … exp(10) in `count` steps of equal ratio, (count,)."""
    return torch.linspace(_LOWEST, _HIGHEST, count, dtype=dtype).exp().to(device)


def coordinates(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Positions along an axis from -1 to 1, both ends included, (size,); one position alone is -1."""
    return torch.linspace(-1, 1, size, dtype=dtype).to(device)


def grid_coordinates(
    size: tuple[int, int], rows: slice, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Row and column coordinates of some rows of a grid, each (rows, W).

    Args:
        size: of the whole grid, (H, W).
        rows: which of its rows.
        dtype: float32 or float64.
        device: where the result lies.
    """
    row, col = (coordinates(side, dtype, device) for side in size)
    down, across = torch.meshgrid(row[rows], col, indexing="ij")
    return down, across


def fourier_code(x: Tensor, phases: Tensor) -> Tensor:
    """Sines and cosines of every channel at every frequency.

    Args:
        x: (…, F), float32 or float64.
        phases: (2, F, n) for n frequencies, dtype of x: added before the sine and before the cosine. Each (F, n) block
            is read in memory order as (n, F), as the official weights need it.

    Returns:
        (…, 2 * n * F): n * F sines, frequency slowest, then as many cosines.
    """
    frequencies = fourier_frequencies(phases.shape[2], x.dtype, x.device)
    products = (x[..., None, :] * frequencies[:, None]).flatten(-2)  # (…, n * F)
    sine, cosine = phases.reshape(2, -1)
    return torch.cat([(products + sine).sin(), (products + cosine).cos()], dim=-1)
