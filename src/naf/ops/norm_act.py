"""Convolutions with group norm and SiLU between them: the inference path of NAF's image encoder on the CPU.

Group norm needs statistics of the whole map, everything else is local. So a map is kept as
bands of rows, and each layer walks over them: a band is normalised, activated, reflect-padded and convolved while it
is in cache, takes the place of its input, and its sums are added up for the next layer's statistics. One map is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_BAND_BYTES = 2 << 20  # a band for each thread: input and output of a convolution stay in its cache


class NormActConv(NamedTuple):
    """Parameters of one step: group norm → SiLU → convolution (1x1, or 3x3 with reflect padding)."""

    norm_weight: Tensor
    norm_bias: Tensor
    conv_weight: Tensor
    conv_bias: Tensor


def conv_stack(
    image: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    steps: Sequence[NormActConv],
    out: Tensor,
    *,
    groups: int,
    eps: float,
) -> None:
    """One convolution, then every step of `steps`, written to `out`. No gradients.

    Args:
        image: (C, H, W), sides at least 2 for 3x3 kernels.
        conv_weight: first convolution, (D, C, s, s), s 1 or 3 (reflect padding).
        conv_bias: (D,).
        steps: the following layers, D → D channels.
        out: (Ho, Wo, D), any strides, dtype of the weights; the map is averaged to its size (adaptive pooling).
        groups: groups of each norm.
        eps: added to each variance.
    """
    height, width = image.shape[1:]
    padding = conv_weight.shape[-1] // 2
    rows = _band_rows(height, width * len(conv_weight) * out.element_size())
    padded = F.pad(image[None], (padding,) * 4, mode="reflect") if padding else image[None]
    conv_weight = conv_weight.contiguous(memory_format=torch.channels_last)
    moments = Moments()
    bands: list[Tensor] = []
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        bands.append(_conv(padded[0, :, start : stop + 2 * padding].permute(1, 2, 0), conv_weight, conv_bias))
        moments.add(bands[-1])
    for step in steps:
        moments = _norm_act_conv_(bands, step, *moments.affine(step.norm_weight, step.norm_bias, groups, eps))
    if (height, width) == out.shape[:2]:
        for index, band in enumerate(bands):
            out[index * rows : index * rows + len(band)] = band
    else:
        _average(bands, rows, out)


def _band_rows(height: int, row_bytes: int) -> int:
    bands = max(1, round(height * row_bytes / (_BAND_BYTES * torch.get_num_threads())))
    return -(-height // bands)


def _average(bands: list[Tensor], rows: int, out: Tensor) -> None:
    """Adaptive average pooling of a map in bands of `rows` rows to (Ho, Wo, D), without joining the bands."""
    height = sum(len(band) for band in bands)
    for first in range(0, len(out), rows):
        chunk = out[first : first + rows]
        means = []
        for row in range(first, first + len(chunk)):
            start, stop = row * height // len(out), -(-(row + 1) * height // len(out))
            parts = [
                bands[index][max(start - index * rows, 0) : stop - index * rows]
                for index in range(start // rows, (stop - 1) // rows + 1)
            ]
            means.append((torch.cat(parts) if len(parts) > 1 else parts[0]).mean(0))
        pooled = F.adaptive_avg_pool2d(torch.stack(means).permute(2, 0, 1)[None], (len(chunk), chunk.shape[1]))
        chunk.copy_(pooled[0].permute(1, 2, 0))


def _conv(band: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(H, W, C) → (H', W', D), valid positions only."""
    return F.conv2d(band.permute(2, 0, 1)[None], weight, bias)[0].permute(1, 2, 0)


def _norm_act_conv_(bands: list[Tensor], step: NormActConv, scale: Tensor, shift: Tensor) -> Moments:
    """One step on a map in bands (rows, W, D), each replaced by its result; returns the moments of the new map."""
    weight = step.conv_weight.contiguous(memory_format=torch.channels_last)
    padding = weight.shape[-1] // 2
    moments = Moments()
    above: Tensor | None = None  # the activated row above the band, whose own band is replaced by now
    for index, band in enumerate(bands):
        rows, width, channels = band.shape
        active = band.new_empty(rows + 2 * padding, width + 2 * padding, channels)
        inner = active[padding : padding + rows, padding : padding + width]
        F.silu(torch.addcmul(shift, band, scale, out=inner), inplace=True)
        if padding:
            if above is not None:
                active[0] = above
            if index + 1 < len(bands):
                below = active[-1, 1:-1]
                F.silu(torch.addcmul(shift, bands[index + 1][0], scale, out=below), inplace=True)
            else:
                active[-1] = active[-3]
            if above is None:
                active[0] = active[2]
            active[:, 0] = active[:, 2]
            active[:, -1] = active[:, -3]
            above = active[-2].clone()
        bands[index] = _conv(active, weight, step.conv_bias)
        moments.add(bands[index])
    return moments


class Moments:
    """Mean and variance of each channel over bands of a map.

    Sums are taken about the first band's mean, in the map's dtype over a band and in float64 over bands, so a
    channel mean that is large against its spread costs no digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self.pivot = self.total = self.square = torch.empty(0)

    def add(self, band: Tensor) -> None:
        """Count in a band (…, D)."""
        pixels = band.reshape(-1, band.shape[-1])
        if not self.count:
            self.pivot = pixels.mean(0)
            self.total = self.square = torch.zeros_like(self.pivot, dtype=torch.float64)
        centred = pixels - self.pivot
        self.count += len(pixels)
        self.total = self.total + centred.sum(0)
        self.square = self.square + centred.square_().sum(0)

    def affine(self, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
        """Scale and shift of each channel that normalise its group and apply the norm's weight and bias."""
        offset = self.total / self.count
        variance = self.square / self.count - offset.square()
        mean = (self.pivot.double() + offset).unflatten(0, (groups, -1))
        group_mean = mean.mean(1, keepdim=True)
        spread = variance.unflatten(0, (groups, -1)) + (mean - group_mean).square()
        deviation = (spread.mean(1, keepdim=True) + eps).sqrt()
        scale = (weight.double().unflatten(0, (groups, -1)) / deviation).flatten()
        shift = bias.double() - group_mean.expand_as(mean).flatten() * scale
        return scale.to(weight.dtype), shift.to(weight.dtype)
