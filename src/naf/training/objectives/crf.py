"""A dense conditional random field as a loss: near pixels of like colour shall have like features."""

from __future__ import annotations

import torch
from torch import Tensor

_APPEARANCE, _POSITION_SCALE, _COLOR_SCALE = 10.0, 0.1, 0.15
_SMOOTHNESS, _NEAR_SCALE = 3.0, 0.005


def crf_loss(image: Tensor, features: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Mean over pairs of sampled pixels of how alike they should be times how far apart their features are.

    Args:
        image: (B, 3, H, W), ImageNet-normalised.
        features: (B, C, H, W).
        samples: pixels drawn with replacement, the same in all images.
        generator: on the CPU.

    Returns:
        0-d: the mean of (10 exp(-p / 0.2 - c / 0.3) + 3 exp(-p / 0.01)) |f_i - f_j|^2 with p and c the squared
        distances of positions (as shares of the sides) and colours.
    """
    with torch.autocast(image.device.type, enabled=False):
        sides = torch.tensor(image.shape[2:])
        rows, cols = (torch.randint(int(side), (samples,), generator=generator) for side in sides)
        position = (torch.stack([rows, cols]) / sides[:, None]).T.to(image)
        index = (rows * sides[1] + cols).to(image.device)
        color, feature = (x.flatten(2)[:, :, index].mT for x in (image, features))  # (B, n, 3), (B, n, C)
        apart = torch.cdist(position, position).square()
        alike = _APPEARANCE * torch.exp(
            -apart / (2 * _POSITION_SCALE) - torch.cdist(color, color).square() / (2 * _COLOR_SCALE)
        ) + _SMOOTHNESS * torch.exp(-apart / (2 * _NEAR_SCALE))
        # sum_ij k_ij |f_i - f_j|^2 = 2 (sum_i (sum_j k_ij) |f_i|^2 - sum_ij k_ij f_i f_j): no distances are made. The
        # mean, which no distance sees, would only make the two sums cancel.
        feature = feature - feature.detach().mean(1, keepdim=True)
        total = alike.sum(2) * feature.square().sum(2) - (feature * (alike @ feature)).sum(2)
        return 2 * total.mean() / samples
