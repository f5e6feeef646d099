"""Denoisers that learn nothing, to compare with: a median, a bilateral filter, scikit-image's non-local means.

They are told the kind of noise and its level, which a network must see for itself. What to make of the level was fitted
on photos of no test set, see :data:`FITTED`. Noisy values beyond 0 … 1 stay as they are: cut off, they would be biased.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.float32]
Settings = Mapping[str, float]


def noisy(pixels: Pixels) -> Pixels:
    """The image as it is: the floor of every comparison."""
    return pixels


def median(pixels: Pixels, *, size: int) -> Pixels:
    """Median of a square around each value, channel by channel.

    Args:
        pixels: (H, W, 3).
        size: of the square, pixels.
    """
    from scipy.ndimage import median_filter

    filtered: Pixels = median_filter(pixels, (size, size, 1), mode="mirror")
    return filtered


def bilateral(pixels: Pixels, *, sigma_color: float, sigma_spatial: float) -> Pixels:
    """Mean of the pixels around, weighted by nearness and likeness (Tomasi and Manduchi, ICCV 1998).

    Written here since scikit-image 0.26 lays its table of distances askew over the window, which costs near 2 dB at
    level 0.5.

    Args:
        pixels: (H, W, 3).
        sigma_color: of the Euclidean distance between colours, 0 … 1 scale.
        sigma_spatial: of the distance, pixels; the window reaches three of them.
    """
    reach = math.ceil(3 * sigma_spatial)
    height, width = pixels.shape[:2]
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    around = torch.from_numpy(np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), "symmetric")).permute(2, 0, 1)
    around = around.contiguous()
    total, weights = torch.zeros_like(image), torch.zeros(height, width)
    for down in range(2 * reach + 1):
        for across in range(2 * reach + 1):
            other = around[:, down : down + height, across : across + width]
            far = ((down - reach) ** 2 + (across - reach) ** 2) / (2 * sigma_spatial**2)
            weight = (other - image).square().sum(0).div_(-2 * sigma_color**2).sub_(far).exp_()
            total.addcmul_(other, weight[None])
            weights += weight
    filtered: Pixels = (total / weights).permute(1, 2, 0).numpy()
    return filtered


def nl_means(pixels: Pixels, *, h: float, sigma: float, patch_size: int, patch_distance: int) -> Pixels:
    """Mean of the pixels around, weighted by likeness of the patches about them (Buades et al., CVPR 2005).

    Args:
        pixels: (H, W, 3).
        h: of the distance between patches, 0 … 1 scale.
        sigma: standard deviation of the noise, which is taken off the distances; 0 for none.
        patch_size: side of a patch, pixels.
        patch_distance: how far patches are looked for, pixels.
    """
    from skimage.restoration import denoise_nl_means

    filtered: Pixels = denoise_nl_means(
        pixels,
        h=h,
        sigma=sigma,
        patch_size=patch_size,
        patch_distance=patch_distance,
        fast_mode=True,
        channel_axis=-1,
    )
    return filtered


METHODS: Mapping[str, Callable[..., Pixels]] = {
    "noisy": noisy,
    "median": median,
    "bilateral": bilateral,
    "nl_means": nl_means,
}
"""By the names that commands use."""

# python experiments/fit_classical_denoisers.py --photos BSDS500/data/images/train; its mean PSNR behind each line.
FITTED: Mapping[tuple[str, str], Mapping[float, Settings]] = {
    ("gaussian", "median"): {
        0.1: {"size": 3},  # 23.77 dB
        0.2: {"size": 7},  # 21.36 dB
        0.3: {"size": 9},  # 20.52 dB
        0.4: {"size": 13},  # 19.96 dB
        0.5: {"size": 13},  # 19.51 dB
    },
    ("gaussian", "bilateral"): {
        0.1: {"sigma_color": 0.25, "sigma_spatial": 2},  # 26.93 dB
        0.2: {"sigma_color": 0.8, "sigma_spatial": 2},  # 23.25 dB
        0.3: {"sigma_color": 1.2, "sigma_spatial": 3},  # 21.78 dB
        0.4: {"sigma_color": 3.2, "sigma_spatial": 3},  # 20.98 dB
        0.5: {"sigma_color": 4, "sigma_spatial": 4},  # 20.49 dB
    },
    ("gaussian", "nl_means"): {
        0.1: {"h": 0.06, "sigma": 0.1, "patch_size": 3, "patch_distance": 5},  # 27.11 dB
        0.2: {"h": 0.09, "sigma": 0.2, "patch_size": 5, "patch_distance": 9},  # 24.16 dB
        0.3: {"h": 0.135, "sigma": 0.3, "patch_size": 5, "patch_distance": 9},  # 22.50 dB
        0.4: {"h": 0.18, "sigma": 0.4, "patch_size": 7, "patch_distance": 9},  # 21.46 dB
        0.5: {"h": 0.225, "sigma": 0.5, "patch_size": 7, "patch_distance": 9},  # 20.73 dB
    },
    ("salt-and-pepper", "median"): {
        0.1: {"size": 3},  # 26.37 dB
        0.2: {"size": 3},  # 24.33 dB
        0.3: {"size": 5},  # 23.23 dB
        0.4: {"size": 5},  # 22.48 dB
        0.5: {"size": 7},  # 21.79 dB
    },
    ("salt-and-pepper", "bilateral"): {
        0.1: {"sigma_color": 0.73, "sigma_spatial": 2},  # 23.17 dB
        0.2: {"sigma_color": 1.033, "sigma_spatial": 2},  # 21.15 dB
        0.3: {"sigma_color": 0.791, "sigma_spatial": 3},  # 19.52 dB
        0.4: {"sigma_color": 1.461, "sigma_spatial": 3},  # 18.12 dB
        0.5: {"sigma_color": 1.633, "sigma_spatial": 3},  # 16.87 dB
    },
    ("salt-and-pepper", "nl_means"): {
        0.1: {"h": 0.146, "sigma": 0, "patch_size": 5, "patch_distance": 5},  # 23.10 dB
        0.2: {"h": 0.207, "sigma": 0, "patch_size": 3, "patch_distance": 5},  # 21.16 dB
        0.3: {"h": 0.253, "sigma": 0, "patch_size": 3, "patch_distance": 5},  # 19.50 dB
        0.4: {"h": 0.292, "sigma": 0, "patch_size": 3, "patch_distance": 5},  # 18.05 dB
        0.5: {"h": 0.408, "sigma": 0, "patch_size": 3, "patch_distance": 5},  # 16.80 dB
    },
}
"""Settings by kind of noise and method, for each level that they were fitted for."""


def settings_for(name: str, kind: str, level: float) -> dict[str, float]:
    """The settings of a method for a level of noise: those that were fitted for the nearest one.

    Args:
        name: one of METHODS.
        kind: of the noise, see :data:`naf.restoration.noise.NOISES`.
        level: of the noise.

    Raises:
        ValueError: for a kind of noise that nothing was fitted for.
    """
    if name == "noisy":
        return {}
    if (kind, name) not in FITTED:
        raise ValueError(f"noise is {kind!r}, expected one that {name} was fitted for: {', '.join(_kinds(name))}")
    fitted = FITTED[kind, name]
    return dict(fitted[min(fitted, key=lambda known: abs(known - level))])


def denoise(name: str, image: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """An image denoised.

    Args:
        name: one of METHODS.
        image: (1, 3, H, W) float, 0 … 1 scale and noise.
        settings: of the method.

    Returns:
        (1, 3, H, W) float32 on the CPU, not clamped.
    """
    pixels = np.ascontiguousarray(image[0].detach().cpu().float().permute(1, 2, 0).numpy())
    done = METHODS[name](pixels, **settings)
    return torch.from_numpy(np.ascontiguousarray(done, np.float32)).permute(2, 0, 1)[None].contiguous()


def _kinds(name: str) -> list[str]:
    return [kind for kind, method in FITTED if method == name]
