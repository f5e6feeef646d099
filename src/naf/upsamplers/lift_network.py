"""LiFT's layers, and what they share: parameters under the official names, their folded forms, a doubled image."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.rows import FoldedConv, fold_batch_norm

IMAGE_CHANNELS = 32


class ImageMaps(NamedTuple):
    """What one pass uses of the image.

    Attributes:
        fine: at the pass's output size, (B, 32, 2h, 2w).
        coarse: at its input size, (B, 32, h, w).
    """

    fine: Tensor
    coarse: Tensor


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class Up(nn.Module):
    """A transposed convolution that doubles the resolution, and convolutions of its output beside the image's map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2)
        self.conv_1 = DoubleConv(inputs // 2 + IMAGE_CHANNELS, outputs)


def halving(inputs: int) -> list[nn.Module]:
    """A convolution that halves the resolution, batch norm and ReLU."""
    return [nn.Conv2d(inputs, IMAGE_CHANNELS, 3, 2, 1), nn.BatchNorm2d(IMAGE_CHANNELS), nn.ReLU()]


def folded(layers: nn.Sequential, dtype: torch.dtype) -> list[FoldedConv]:
    """Convolutions with their batch norms, of layers that are (convolution, batch norm, ReLU) again and again."""
    pairs = zip(layers[::3], layers[1::3], strict=True)
    return [fold_batch_norm(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm), dtype) for conv, norm in pairs]


def doubled_rows(image: Tensor, start: int, stop: int) -> Tensor:
    """Rows start … stop - 1 of the image at twice its size, bilinear."""
    first, last = max(start // 2 - 1, 0), min((stop + 1) // 2 + 1, image.shape[2])
    doubled = F.interpolate(image[:, :, first:last], scale_factor=2, mode="bilinear", align_corners=False)
    return doubled[:, :, start - 2 * first : stop - 2 * first]
