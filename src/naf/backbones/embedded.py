"""The backbone that the package carries: a small convolutional network, distilled from others on some 600 photos.

How it was trained, on what, and what it is worth: `assets/backbone.md` and `experiments/distill_backbone.py`.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.backbones.base import Backbone
from naf.normalization import IMAGENET_MEAN, IMAGENET_STD, standardize
from naf.weights import load_checkpoint

WEIGHTS = Path(__file__).parents[1] / "assets" / "backbone.safetensors"
CHANNELS = {16: 384, 8: 192}


class EmbeddedBackbone(Backbone):
    """Learned features with no download: 384 channels at stride 16 or 192 at stride 8.

    Channels are signed, about zero mean and unit variance over photos. Cell (i, j) is centred on the pixels that it
    stands for.

    Args:
        stride: 16 or 8 pixels a cell.
        max_side: the network sees at most this many pixels on the longer side.

    Raises:
        ValueError: for another stride.

    Example:
        >>> import torch, naf
        >>> naf.backbones.create("embedded", stride=8)(torch.rand(1, 3, 64, 96)).shape
        torch.Size([1, 192, 8, 12])
    """

    name = "embedded"

    def __init__(self, *, stride: int = 16, max_side: int | None = None) -> None:
        super().__init__(max_side)
        if stride not in CHANNELS:
            raise ValueError(f"stride is {stride!r}, expected 16 or 8 pixels a cell")
        self.stride, self.channels = stride, CHANNELS[stride]
        self.network = EmbeddedNetwork()
        load_checkpoint(self.network, WEIGHTS)
        self.network.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def _features(self, image01: Tensor) -> Tensor:
        image = standardize(image01.to(self.network.coarse.weight.dtype), IMAGENET_MEAN, IMAGENET_STD)
        middle, deep = self.network.trunk(image.contiguous(memory_format=torch.channels_last))
        if self.stride == 16:
            return self.network.coarse_features(deep)
        return self.network.fine_features(middle, deep)


class EmbeddedNetwork(nn.Module):
    """Convolutions alone: the norms of the training are folded into them.

    Halvings have even kernels with equal padding on all sides, so a coarse position is centred on the pixels that it
    stands for. `middle` works at strides 2, 4 and 8, `deep` at stride 16; its 7 x 7 kernels see some 400 pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            Block(64, expansion=3),
            nn.Conv2d(64, 128, 4, stride=2, padding=1),
            Block(128, expansion=3),
            Block(128, expansion=3),
        )
        self.deep = nn.Sequential(nn.Conv2d(128, 192, 2, stride=2), *(Block(192, expansion=4) for _ in range(4)))
        self.coarse = nn.Conv2d(192, CHANNELS[16], 1)
        self.fine = nn.Conv2d(128, CHANNELS[8], 1)
        self.context = nn.Conv2d(192, CHANNELS[8], 1)

    def trunk(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised image (B, 3, H, W), sides in multiples of 8 → (B, 128, H/8, W/8), (B, 192, ⌈H/16⌉, ⌈W/16⌉)."""
        middle = self.middle(image)
        odd_rows, odd_columns = middle.shape[2] % 2, middle.shape[3] % 2
        return middle, self.deep(F.pad(middle, (0, odd_columns, 0, odd_rows), mode="replicate"))

    def coarse_features(self, deep: Tensor) -> Tensor:
        """(B, 384, H/16, W/16)."""
        features: Tensor = self.coarse(deep)
        return features

    def fine_features(self, middle: Tensor, deep: Tensor) -> Tensor:
        """(B, 192, H/8, W/8): what stride 8 sees, plus the context of stride 16."""
        height, width = middle.shape[2:]
        context = F.interpolate(self.context(deep), scale_factor=2, mode="bilinear", align_corners=False)
        features: Tensor = self.fine(middle) + context[:, :, :height, :width]
        return features


class Block(nn.Module):
    """x + 1x1(ReLU(1x1(depthwise 7x7(x)))): ConvNeXt's order (Liu et al., CVPR 2022), which is quick on a CPU."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.expand = nn.Conv2d(channels, expansion * channels, 1)
        self.project = nn.Conv2d(expansion * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        out: Tensor = x + self.project(F.relu(self.expand(self.spatial(x))))
        return out
