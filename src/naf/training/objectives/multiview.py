"""FeatUp's reconstruction: sharp features must explain what the backbone sees in jittered views of the image."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.upsamplers.checks import whole_number
from naf.upsamplers.featup_downsampler import AttentionDownsampler, make_patches
from naf.upsamplers.featup_objective import reconstruction_error
from naf.upsamplers.featup_views import Jitter, draw_views, see


class MultiView(nn.Module):
    """Reconstruction of the backbone's features of views by a learned downsampler, with learned uncertainty.

    The images of a batch share views and dropout. The downsampler's logits see all channels; what it averages is a
    random projection of them, which commutes with the averaging.

    Args:
        channels: of the features.
        kernel: side of the downsampler's patches, pixels; patches overlap where the stride is smaller.
        views: how many a step.
        jitter: how far they differ from the image.

    Raises:
        ValueError: if one of the first three is no positive integer.
    """

    def __init__(self, channels: int, kernel: int, views: int, jitter: Jitter) -> None:
        super().__init__()
        self.channels, self.kernel = whole_number("channels", channels, 1), whole_number("kernel", kernel, 1)
        self.views, self.jitter = whole_number("views", views, 1), jitter
        self.downsampler = AttentionDownsampler(channels, kernel)
        self.uncertainty = nn.Linear(channels, 1)
        with torch.no_grad():
            for parameter in self.uncertainty.parameters():
                parameter.mul_(0.1)

    def forward(
        self,
        hr: Tensor,
        image01: Tensor,
        extract: Callable[[Tensor], Tensor],
        projection: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Errors of the views.

        Args:
            hr: sharp features, (B, C, H, W), float32 or float64.
            image01: (B, 3, H, W), values from 0 to 1.
            extract: images → features (N, C, h, w) in the space of `hr`, any dtype.
            projection: (C, d).
            generator: of views and dropout, on the CPU; dropout acts in training mode.

        Returns:
            (views,), mean over images and cells; negative where the error is small.

        Raises:
            ValueError: if the features have other channels, or the image is smaller than the kernel.
        """
        size = hr.shape[2], hr.shape[3]
        if hr.shape[1] != self.channels:
            raise ValueError(f"the features have {hr.shape[1]} channels, the objective was made for {self.channels}")
        if min(size) < self.kernel:
            raise ValueError(f"the image has sides {size}, expected at least the downsampler's kernel, {self.kernel}")
        views = draw_views(self.views, generator, self.jitter)
        seed = int(torch.randint(1 << 62, (), generator=generator))
        with torch.autocast(hr.device.type, enabled=False):
            seen = torch.cat([see(image, views) for image in image01]).clamp(0, 1)  # (B * n, 3, H, W)
        targets = extract(seen).to(hr.dtype).unflatten(0, (-1, self.views)).permute(0, 1, 3, 4, 2)  # (B, n, h, w, C)
        errors = []
        with torch.autocast(hr.device.type, enabled=False):
            grid = targets.shape[2], targets.shape[3]
            patches = make_patches(views, size, grid, self.kernel, hr)
            for sharp, target in zip(hr.permute(0, 2, 3, 1).contiguous(), targets, strict=True):
                dropout = torch.Generator().manual_seed(seed) if self.training else None
                cells = self.downsampler(sharp, patches, dropout, values=sharp @ projection)
                error = reconstruction_error(cells, target @ projection, self.uncertainty(target))
                errors.append(error.mean((1, 2, 3)))
        return torch.stack(errors).mean(0)


def random_projection(channels: int, dim: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """(channels, dim), normal columns scaled to length one, dtype and device of `like`."""
    return F.normalize(torch.randn(channels, dim, generator=generator), dim=0).to(like)


def project(features: Tensor, projection: Tensor) -> Tensor:
    """(B, C, H, W) with (C, d) → (B, d, H, W), also under autocast in the dtype of the features."""
    with torch.autocast(features.device.type, enabled=False):
        return (features.movedim(1, -1) @ projection).movedim(-1, 1)
