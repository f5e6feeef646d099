"""Residual blocks of 1x1 convolutions with group norm and SiLU: the inference path of JAFAR's and AnyUp's encoders.

A 1x1 convolution sees single pixels, so a map is a list of tokens and each layer walks over bands of them: normalise,
activate, multiply, and add up the sums that give the next layer's group-norm statistics, while the band is in cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.norm_act import Moments

_BAND_BYTES = 2 << 20  # of each of the two maps: both stay in cache


class NormActLinear(NamedTuple):
    """Parameters of one step: group norm → SiLU → 1x1 convolution without bias."""

    norm_weight: Tensor
    norm_bias: Tensor
    weight: Tensor


def residual_blocks_(
    x: Tensor, inner: Tensor, blocks: Sequence[tuple[NormActLinear, NormActLinear]], *, groups: int, eps: float
) -> None:
    """Each block adds its two steps to `x`, in place. No gradients.

    Args:
        x: tokens of one map (N, D), contiguous.
        inner: room for another such map, overwritten.
        blocks: parameters, dtype of x; weights (D, D) or (D, D, 1, 1).
        groups: groups of each norm.
        eps: added to each variance.
    """
    moments = Moments()
    for band in bands_of(x):
        moments.add(x[band])
    for first, second in blocks:
        scale, shift = moments.affine(first.norm_weight, first.norm_bias, groups, eps)
        moments = Moments()
        for band in bands_of(x):
            torch.mm(_activate(x[band], scale, shift), first.weight.flatten(1).T, out=inner[band])
            moments.add(inner[band])
        scale, shift = moments.affine(second.norm_weight, second.norm_bias, groups, eps)
        moments = Moments()
        for band in bands_of(x):
            x[band].addmm_(_activate(inner[band], scale, shift), second.weight.flatten(1).T)
            moments.add(x[band])


def bands_of(x: Tensor) -> Iterator[slice]:
    """Bands of tokens (N, D) that stay in cache."""
    step = max(1, _BAND_BYTES * torch.get_num_threads() // (x.shape[1] * x.element_size()))
    for start in range(0, len(x), step):
        yield slice(start, min(start + step, len(x)))


def _activate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.silu(torch.addcmul(shift, x, scale), inplace=True)
