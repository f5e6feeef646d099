"""Convolutions with group norm and SiLU between them: the inference path of NAF's image encoder on the CPU.

Group norm needs statistics of the whole map, everything else is local. So a map is kept as
bands of rows, and each layer walks over them: a band is normalised, activated, reflect-padded and convolved while it
is in cache, takes the place of its input, and its sums are added up for the next layer's statistics. One map is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.buffers import new_buffer

_BAND_BYTES = 3 << 20  # a band for each thread: input and output of a convolution stay in its cache


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
    *,
    groups: int,
    eps: float,
    pool: tuple[int, int] = (1, 1),
) -> Iterator[tuple[int, Tensor]]:
    """One convolution, then every step of `steps`; the result in bands of rows, top to bottom. No gradients.

    Args:
        image: (C, H, W), sides at least 2 for 3x3 kernels, dtype of the weights.
        conv_weight: first convolution, (D, C, s, s), s 1 or 3 (reflect padding).
        conv_bias: (D,).
        steps: the following layers, D → D channels, at least one.
        groups: groups of each norm.
        eps: added to each variance.
        pool: rows and columns that are averaged to one, divisors of H and W. Averaging is linear: a 3x3 kernel and
            the averaging become one larger kernel at a stride, a 1x1 convolution follows the averaging.

    Yields:
        (first row, band), the band (rows, W / pool[1], D), contiguous; rows count after pooling.
    """
    height, width = image.shape[1:]
    padding = conv_weight.shape[-1] // 2
    row_bytes = width * len(conv_weight) * image.element_size()
    rows = -(-_band_rows(height, row_bytes) // pool[0]) * pool[0]
    padded = F.pad(image[None], (padding,) * 4, mode="reflect") if padding else image[None]
    conv_weight = conv_weight.contiguous(memory_format=torch.channels_last)
    x = new_buffer((height, width, len(conv_weight)), image.dtype, image.device)
    active = x.new_empty(min(rows, height) + 2 * padding, width + 2 * padding, x.shape[2])
    moments = Moments()
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        band = padded[:, :, start : stop + 2 * padding].contiguous(memory_format=torch.channels_last)
        moments.add(_store(x, start, F.conv2d(band, conv_weight, conv_bias)[0].permute(1, 2, 0)))
    for step in steps[:-1]:
        affine = moments.affine(step.norm_weight, step.norm_bias, groups, eps)
        moments = Moments()
        for start, made in _norm_act_conv(x, active, rows, affine, step.conv_weight, step.conv_bias):
            moments.add(_store(x, start, made))
    step = steps[-1]
    affine = moments.affine(step.norm_weight, step.norm_bias, groups, eps)
    for start, made in _norm_act_conv(x, active, rows, affine, step.conv_weight, step.conv_bias, pool):
        yield start // pool[0], made


def _band_rows(height: int, row_bytes: int) -> int:
    bands = max(1, round(height * row_bytes / (_BAND_BYTES * torch.get_num_threads())))
    return -(-height // bands)


def _store(x: Tensor, start: int, band: Tensor) -> Tensor:
    x[start : start + len(band)] = band
    return band


def _norm_act_conv(
    x: Tensor,
    active: Tensor,
    rows: int,
    affine: tuple[Tensor, Tensor],
    weight: Tensor,
    bias: Tensor,
    pool: tuple[int, int] = (1, 1),
) -> Iterator[tuple[int, Tensor]]:
    """One step on a map, band by band; the receiver may put each band in the place of its input.

    Args:
        x: (H, W, D).
        active: scratch for a padded band.
        rows: of a band, a multiple of pool[0].
        affine: scale and shift of the norm, (D,) each.
        weight: (D, D, s, s).
        bias: (D,).
        pool: as :func:`conv_stack`.

    Yields:
        (first row of the input, band of the result).
    """
    height, width, _ = x.shape
    scale, shift = affine
    padding = weight.shape[-1] // 2
    averages_first = pool != (1, 1) and not padding
    weight = _with_averaging(weight, pool).contiguous(memory_format=torch.channels_last)
    above: Tensor | None = None  # the activated row above the band, whose own band may be replaced by now
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        below = min(stop + padding, height)
        band = active[: stop - start + 2 * padding]
        inner = band[padding : padding + below - start, padding : padding + width]
        F.silu(torch.addcmul(shift, x[start:below], scale, out=inner), inplace=True)
        if padding:
            band[0, 1:-1] = band[2, 1:-1] if above is None else above
            if stop == height:
                band[-1] = band[-3]
            band[:, 0], band[:, -1] = band[:, 2], band[:, -3]
            above = band[-2, 1:-1].clone()
        tokens = band[None].permute(0, 3, 1, 2)  # channels last also for the one image of a 1x1 convolution
        if averages_first:
            made = F.conv2d(F.avg_pool2d(tokens, pool), weight, bias)
        else:
            made = F.conv2d(tokens, weight, bias, stride=pool)
        yield start, made.permute(0, 2, 3, 1)[0]


def _with_averaging(weight: Tensor, pool: tuple[int, int]) -> Tensor:
    """A 3x3 kernel followed by averaging over `pool` as one kernel, (D, C, pool[0] + 2, pool[1] + 2)."""
    if pool == (1, 1) or weight.shape[-1] == 1:
        return weight
    box = weight.new_full((1, 1, *pool), 1 / (pool[0] * pool[1]))
    wide = F.conv2d(weight.flatten(0, 1)[:, None], box, padding=(pool[0] - 1, pool[1] - 1))
    folded: Tensor = wide[:, 0].unflatten(0, weight.shape[:2])
    return folded


def average(bands: Iterable[tuple[int, Tensor]], height: int, size: tuple[int, int]) -> Iterator[tuple[int, Tensor]]:
    """Adaptive average pooling of a map in bands, without joining them.

    Args:
        bands: (first row, (rows, W, D)), top to bottom.
        height: rows of the map.
        size: (Ho, Wo), any.

    Yields:
        (first row, band (rows, Wo, D)) of the result.
    """
    kept: Tensor | None = None
    first = done = 0  # first map row of `kept`; result rows made
    for start, band in bands:
        kept = band if kept is None else torch.cat([kept, band])
        stop = start + len(band)
        means = []
        while done < size[0] and (span := adaptive_span(done, height, size[0]))[1] <= stop:
            means.append(kept[span[0] - first : span[1] - first].mean(0))
            done += 1
        unused = adaptive_span(done, height, size[0])[0]
        kept, first = kept[unused - first :], unused
        if means:
            pooled = F.adaptive_avg_pool2d(torch.stack(means)[None].permute(0, 3, 1, 2), (len(means), size[1]))
            yield done - len(means), pooled.permute(0, 2, 3, 1)[0]


def adaptive_span(index: int, size: int, goal: int) -> tuple[int, int]:
    """First and last (exclusive) of `size` positions that adaptive pooling to `goal` averages at an index."""
    return index * size // goal, -(-(index + 1) * size // goal)


class Moments:
    """Mean and variance of each channel over bands of a map.

    Within a band, the spread is taken about the band's own mean in the map's dtype (at least float32); bands are
    combined in float64. So a channel mean that is large against its spread costs no digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.square = torch.zeros(())

    def add(self, band: Tensor) -> None:
        """Count in a band (…, D)."""
        pixels = band.reshape(-1, band.shape[-1])
        # Buffers of their own make the sums of half-precision maps float32.
        dtype = torch.promote_types(band.dtype, torch.float32)
        running = {f"running_{name}": pixels.new_zeros(pixels.shape[1], dtype=dtype) for name in ("mean", "var")}
        mean, variance = (x.double() for x in torch.batch_norm_update_stats(pixels, momentum=1.0, **running))
        offset = mean - self.mean
        total = self.count + len(pixels)
        self.square = self.square + variance * len(pixels) + offset.square() * (self.count * len(pixels) / total)
        self.mean = self.mean + offset * (len(pixels) / total)
        self.count = total

    def affine(self, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
        """Scale and shift of each channel that normalise its group and apply the norm's weight and bias."""
        mean = self.mean.unflatten(0, (groups, -1))
        group_mean = mean.mean(1, keepdim=True)
        spread = (self.square / self.count).unflatten(0, (groups, -1)) + (mean - group_mean).square()
        deviation = (spread.mean(1, keepdim=True) + eps).sqrt()
        scale = (weight.double().unflatten(0, (groups, -1)) / deviation).flatten()
        shift = bias.double() - group_mean.expand_as(mean).flatten() * scale
        return scale.to(weight.dtype), shift.to(weight.dtype)
