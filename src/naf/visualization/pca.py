"""Features as colours: their first three principal components as red, green and blue."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from naf.visualization.positions import spread_positions


@dataclass(frozen=True, eq=False)
class PCAColors:
    """One basis and one colour scale for any number of maps, so that their colours compare.

    The basis is a linear head: `guidance.upsample_linear(features, colors.weight, colors.bias)` gives the colours
    of an upsampled map without making it.

    Attributes:
        weight: (3, C), principal directions over the range of their component.
        bias: (3,).
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> PCAColors:
        """The basis of a feature map.

        Args:
            features: (B, C, h, w). At most 4096 positions, evenly spread, are used.

        Returns:
            A basis in which the middle 98 % of each component cover 0 … 1. Signs are fixed: the largest coefficient
            of a direction is positive. With fewer than 3 channels or positions the last colours are constant.

        Raises:
            TypeError, ValueError: for what is no such map, or values that are not finite.
        """
        vectors = spread_positions(features)
        mean = vectors.mean(0)
        directions = torch.linalg.svd(vectors - mean, full_matrices=False).Vh[:3]
        directions = F.pad(directions, (0, 0, 0, 3 - len(directions)))
        peak = directions.gather(1, directions.abs().argmax(1, keepdim=True))
        directions = directions * peak.sign()
        components = (vectors - mean) @ directions.T
        low, high = (torch.quantile(components, q, dim=0) for q in (0.01, 0.99))
        span = torch.where(high - low > 1e-12, high - low, torch.inf)  # no spread: a constant colour
        weight = directions / span[:, None]
        return cls(weight, -(weight @ mean) - low / span)

    def project(self, features: Tensor) -> Tensor:
        """(B, C, H, W) → (B, 3, H, W), not clamped."""
        weight, bias = self.weight.to(features.device), self.bias.to(features.device)
        return F.conv2d(features.float(), weight[:, :, None, None], bias)

    def image(self, features: Tensor) -> Image.Image:
        """The first map of (B, C, H, W) as a picture."""
        return to_image(self.project(features[:1])[0])


def to_image(colors: Tensor) -> Image.Image:
    """(3, H, W), values from 0 to 1 (clamped), as a picture.

    Raises:
        ValueError: for another shape.
    """
    if colors.ndim != 3 or colors.shape[0] != 3:
        raise ValueError(f"picture has shape {tuple(colors.shape)}, expected (3, H, W)")
    return Image.fromarray((colors.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())
