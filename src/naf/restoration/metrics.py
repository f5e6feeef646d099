"""PSNR and SSIM of restored images, in two definitions whose figures must not be mixed.

- standard: of each image, then the mean over images, as torchmetrics 1.9 has them by default; SSIM with an 11x11
  Gaussian window of sigma 1.5 and images mirrored beyond the border. (scikit-image leaves the border out.)
- released: as NAF's repository measures. PSNR of each batch as a whole, SSIM with sigma 11/6 and zeros beyond the
  border, both averaged over batches.

Both clamp the restored image to 0 … 1. All is computed in float64 on the CPU: variances of flat areas are differences
of nearly equal numbers, and results do not depend on the device.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.restoration.similarity import gaussian_mean, similarity_map

_REACH = 5  # of the window to each side


def psnr(restored: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, standard.

    Args:
        restored: (B, C, H, W), 0 … 1 scale; clamped here.
        clean: likewise, 0 to 1.

    Returns:
        (B,) float64, dB; infinite where the two are alike.

    Raises:
        ValueError: if the two have other shapes.
    """
    restored, clean = _pair(restored, clean)
    return _decibel((restored - clean).square().mean((1, 2, 3)))


def ssim(restored: Tensor, clean: Tensor) -> Tensor:
    """Structural similarity of each image, standard.

    Args:
        restored: (B, C, H, W), 0 … 1 scale, at least 6 pixels on each side; clamped here.
        clean: likewise, 0 to 1.

    Returns:
        (B,) float64, at most 1.

    Raises:
        ValueError: if the two have other shapes, or are too small.
    """
    restored, clean = _pair(restored, clean)
    if min(restored.shape[2:]) <= _REACH:
        raise ValueError(f"images are {tuple(restored.shape[2:])} pixels, expected at least {_REACH + 1} on each side")
    restored, clean = (F.pad(x, (_REACH,) * 4, mode="reflect") for x in (restored, clean))
    return similarity_map(restored, clean, partial(gaussian_mean, sigma=1.5, padding=0)).mean((1, 2, 3))


def psnr_released(restored: Tensor, clean: Tensor) -> Tensor:
    """As :func:`psnr`, of the whole batch as if it were one image; 0-d."""
    restored, clean = _pair(restored, clean)
    return _decibel((restored - clean).square().mean())


def ssim_released(restored: Tensor, clean: Tensor) -> Tensor:
    """As :func:`ssim` with the released window and zeros beyond the border, mean over the batch; 0-d, any size."""
    restored, clean = _pair(restored, clean)
    return similarity_map(restored, clean, partial(gaussian_mean, sigma=11 / 6, padding=_REACH)).mean()


class RestorationMetrics:
    """Both definitions over batches that come one after the other.

    Attributes:
        values: of each image ("psnr", "ssim") or each batch ("psnr_released", "ssim_released"), in their order.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, restored: Tensor, clean: Tensor) -> None:
        """Measure a batch, (B, C, H, W) each.

        Raises:
            ValueError: as :func:`ssim`.
        """
        for measure in (psnr, ssim, psnr_released, ssim_released):
            found = measure(restored, clean).reshape(-1).tolist()
            self.values.setdefault(measure.__name__, []).extend(found)

    def compute(self) -> dict[str, float]:
        """Means; PSNR in dB, SSIM at most 1.

        Raises:
            ValueError: if nothing was measured.
        """
        if not self.values:
            raise ValueError("no image was measured, expected at least one")
        return {name: math.fsum(values) / len(values) for name, values in self.values.items()}


def _pair(restored: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    if restored.ndim != 4 or restored.shape != clean.shape:
        raise ValueError(
            f"restored is {tuple(restored.shape)}, clean {tuple(clean.shape)}, expected (B, C, H, W) for both"
        )
    made, true = (x.detach().cpu().double() for x in (restored, clean))
    return made.clamp(0, 1), true


def _decibel(squared_error: Tensor) -> Tensor:
    return -10 * torch.log10(squared_error)
