"""The layers of :mod:`naf.ops.norm_act` on a map that never exists as a whole, exactly, in one walk down its rows.

Layers are generators of bands, each pulling from the one below and keeping the rows that its next band reads again.
Group norm needs statistics of the whole map, so each norm costs a walk over all layers before it; their results, a
scale and a shift a channel, are all that is kept. No gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.buffers import new_buffer
from naf.ops.norm_act import Moments, NormActConv, adaptive_span

_BAND_BYTES = 2 << 20  # a band for each thread
_LEAST_ROWS = 8  # of a 3x3 convolution's band, which reads two rows more than it makes

Affine = tuple[Tensor, Tensor]


class RowWindow:
    """A few rows of a map whose bands come from top to bottom.

    Args:
        bands: consecutive bands (…, rows, W, C).
        first: the row that they begin with.

    Attributes:
        stop: the row below the last that came.
    """

    def __init__(self, bands: Iterator[Tensor], first: int) -> None:
        self._bands = bands
        self._held: list[Tensor] = []
        self._first = self.stop = first

    def parts(self, start: int, stop: int) -> list[Tensor]:
        """Rows start … stop - 1 as views of the bands that hold them."""
        while self.stop < stop:
            self._held.append(next(self._bands))
            self.stop += self._held[-1].shape[-3]
        found, top = [], self._first
        for band in self._held:
            bottom = top + band.shape[-3]
            if top < stop and bottom > start:
                found.append(band[..., max(start - top, 0) : stop - top, :, :])
            top = bottom
        return found

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows start … stop - 1, (…, stop - start, W, C): a view where they lie in one band."""
        found = self.parts(start, stop)
        return found[0] if len(found) == 1 else torch.cat(found, dim=-3)

    def drop(self, before: int) -> None:
        """Forget the bands that end at or above a row."""
        while self._held and self._first + self._held[0].shape[-3] <= before:
            self._first += self._held.pop(0).shape[-3]


def stack_bands(
    image: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    steps: Sequence[NormActConv],
    affines: Sequence[Affine],
    first: int = 0,
) -> Iterator[Tensor]:
    """The map behind a first convolution and the first `len(affines)` steps, in bands of rows.

    Args:
        image: (C, H, W), any float dtype, sides at least 2 for 3x3 kernels.
        conv_weight: first convolution, (D, C, s, s), s 1 or 3 (reflect padding).
        conv_bias: (D,).
        steps: the following layers, D → D channels.
        affines: scale and shift of the norms, see :func:`next_affine`.
        first: row to begin with.

    Yields:
        Bands (rows, W, D), rows `first` … H - 1, dtype of the weights, free to be written to.
    """
    height, width = image.shape[1:]
    reach = conv_weight.shape[-1] // 2
    bands = max(1, _BAND_BYTES * torch.get_num_threads() // (width * len(conv_weight) * conv_weight.element_size()))
    rows = max(bands, _LEAST_ROWS) if reach else bands
    # Each convolution needs `reach` rows more than the one above it.
    starts = [max(first - reach * layer, 0) for layer in range(len(affines) + 1, -1, -1)]
    channels_last = image.movedim(0, -1)
    source: Iterator[Tensor] = (channels_last[top : top + rows] for top in range(starts[0], height, rows))
    layers = [
        (conv_weight, conv_bias, None),
        *((step.conv_weight, step.conv_bias, x) for step, x in zip(steps, affines, strict=False)),
    ]
    for (weight, bias, affine), (begin, end) in zip(layers, pairwise(starts), strict=True):
        source = _convolved(RowWindow(source, begin), affine, height, end, rows, weight, bias)
    return source


def next_affine(bands: Iterator[Tensor], step: NormActConv, *, groups: int, eps: float) -> Affine:
    """Scale and shift of each channel, (D,) each, that stand for the group norm of `step` on a whole map in bands."""
    moments = Moments()
    for band in bands:
        moments.add(band)
    return moments.affine(step.norm_weight, step.norm_bias, groups, eps)


def pooled_parts(
    source: RowWindow, size: tuple[int, int], goal: tuple[int, int], start: int, stop: int
) -> list[Tensor]:
    """Rows start … stop - 1 of a map of `size` averaged to `goal` (adaptive pooling).

    Returns:
        Consecutive bands (…, rows, goal[1], C): one, or views of those of the map where that is right already.
    """
    if size[0] == goal[0]:
        parts = source.parts(start, stop)
    else:
        spans = [adaptive_span(row, size[0], goal[0]) for row in range(start, stop)]
        parts = [torch.stack([source.rows(*span).mean(-3) for span in spans], dim=-3)]
    return parts if size[1] == goal[1] else [_pooled_columns(part, goal[1]) for part in parts]


def _pooled_columns(x: Tensor, width: int) -> Tensor:
    tokens = x.flatten(0, -3).transpose(1, 2)  # (rows, C, W)
    pooled: Tensor = F.adaptive_avg_pool1d(tokens, width).transpose(1, 2).unflatten(0, x.shape[:-2])
    return pooled


def _convolved(
    source: RowWindow, affine: Affine | None, height: int, first: int, rows: int, weight: Tensor, bias: Tensor
) -> Iterator[Tensor]:
    """Norm (as its affine map), SiLU and convolution of a map of `height` rows, in bands from row `first` on.

    Without an affine map the convolution alone.
    """
    weight = weight.contiguous(memory_format=torch.channels_last)
    reach = weight.shape[-1] // 2
    scratch = weight.new_empty(0)
    for start in range(first, height, rows):
        stop = min(start + rows, height)
        top, bottom = max(start - reach, 0), min(stop + reach, height)
        parts = source.parts(top, bottom)
        width, channels = parts[0].shape[1:]
        if not len(scratch):
            shape = min(rows, height) + 2 * reach, width + 2 * reach, channels
            scratch = new_buffer(shape, weight.dtype, weight.device)
        band = scratch[: stop - start + 2 * reach]
        inner = band[top - start + reach : bottom - start + reach, reach : reach + width]
        for part, place in zip(parts, inner.split([len(part) for part in parts]), strict=True):
            if affine is None:
                place.copy_(part)
            else:
                torch.addcmul(affine[1], part, affine[0], out=place)
        if affine is not None:
            F.silu(inner, inplace=True)
        if reach:
            if top == start:
                band[0] = band[2]
            if bottom == stop:
                band[-1] = band[-3]
            band[:, 0], band[:, -1] = band[:, 2], band[:, -3]
        yield F.conv2d(band[None].permute(0, 3, 1, 2), weight, bias)[0].permute(1, 2, 0)
        source.drop(stop - reach)
