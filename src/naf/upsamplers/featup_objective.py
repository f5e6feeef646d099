"""What FeatUp's implicit network is fitted to: the backbone's features of jittered views."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.upsamplers.featup_downsampler import AttentionDownsampler, make_patches
from naf.upsamplers.featup_views import Views

_MAGNITUDE, _VARIATION, _SHARPNESS = 0.001, 0.05, 0.1


class Objective(nn.Module):
    """Reconstruction with a learned scale, and three terms on the sharp map itself.

    Args:
        dim: channels of the features.
        kernel: side of the downsampler's patches, pixels.
        generator: of the first parameters, on the CPU.
    """

    def __init__(self, dim: int, kernel: int, generator: torch.Generator) -> None:
        super().__init__()
        self.kernel = kernel
        self.downsampler = AttentionDownsampler(1 + dim, kernel)
        self.outlier = nn.Linear(dim, 1)
        with torch.no_grad():
            for layer, share in ((self.downsampler.logit, 1.0), (self.outlier, 0.1)):
                bound = 1 / math.sqrt(layer.in_features)
                for parameter, factor in ((layer.weight, share), (layer.bias, 1.0)):
                    parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound * factor)

    def forward(self, hr: Tensor, targets: Tensor, views: Views, generator: torch.Generator | None = None) -> Tensor:
        """The loss.

        Args:
            hr: sharp features, (H, W, dim).
            targets: the backbone's features of the views, (n, h, w, dim).
            views: how the targets' images were made.
            generator: of the downsampler's dropout; None for none.

        Returns:
            0-d, the mean over the views.
        """
        magnitude = torch.linalg.vector_norm(hr, dim=2, keepdim=True)
        size, grid = (hr.shape[0], hr.shape[1]), (targets.shape[1], targets.shape[2])
        patches = make_patches(views, size, grid, self.kernel, hr)
        cells = self.downsampler(torch.cat([magnitude, hr], dim=2), patches, generator)  # (n, h, w, 1 + dim)
        loss: Tensor = (
            self._reconstruction(cells[..., 1:], targets)
            + _MAGNITUDE * (cells[..., 0] - torch.linalg.vector_norm(targets, dim=3)).square().mean()
            + _VARIATION * total_variation(magnitude[..., 0])
            + _SHARPNESS * (_blur(hr) - hr).square().mean()
        )
        return loss

    def _reconstruction(self, cells: Tensor, targets: Tensor) -> Tensor:
        return reconstruction_error(cells, targets, self.outlier(targets)).mean()


def reconstruction_error(cells: Tensor, targets: Tensor, log_scale: Tensor) -> Tensor:
    """Squared error where a learned scale of each cell says how far it counts: outliers count less.

    Args:
        cells: (…, C).
        targets: (…, C).
        log_scale: (…, 1), learned, before a shift by 0.1.

    Returns:
        (…, 1).
    """
    scale = (log_scale + 0.1).exp().clamp(min=1e-4)
    error: Tensor = (cells - targets).square().mean(-1, keepdim=True)
    return error / (2 * scale.square()) + scale.log()


def total_variation(x: Tensor) -> Tensor:
    """Squared differences of neighbours, summed over both axes of (…, H, W), a value."""
    return (x.diff(dim=-2).square().sum() + x.diff(dim=-1).square().sum()) / x.numel()


def _blur(x: Tensor) -> Tensor:
    """(H, W, C) under the Gaussian of 5 pixels and sigma 1, border reflected."""
    offset = torch.arange(-2, 3, dtype=x.dtype, device=x.device)
    weight = (-offset.square() / 2).exp()
    weight = weight / weight.sum()
    channels = x.shape[2]
    padded = F.pad(x.permute(2, 0, 1)[None], (2, 2, 2, 2), mode="reflect")
    down = F.conv2d(padded, weight[:, None].expand(channels, 1, 5, 1), groups=channels)
    across = F.conv2d(down, weight[None].expand(channels, 1, 1, 5), groups=channels)
    return across[0].permute(1, 2, 0)
