"""Floating-point operations of a call, 2 a multiply-add.

Two figures are kept apart, as the NAF paper's counter and the whole differ:

- `paper`: convolutions and matrix products outside attention, a bias counted as one more multiply-add. This is how the
  paper's 265.12 GFLOPs of NAF came about: its counter does not see the neighborhood attention. It is given an image of
  the output's size, which matters at low ratios.
- `full`: `paper` and the attention: a score and a weighted value for each cell that a pixel attends to.

Norms, activations, softmax and resizing are in neither.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from naf.ops.neighborhood import Neighborhood
from naf.upsamplers.base import Upsampler
from naf.upsamplers.cross_attention import CrossAttentionGuidance, CrossAttentionUpsampler
from naf.upsamplers.naf import NAF


class Flops(NamedTuple):
    """Of one forward call.

    Attributes:
        paper: as the paper counts.
        full: with the attention, of the call as it is.
    """

    paper: int
    full: int


def count_flops(upsampler: Upsampler, image: Tensor, features: Tensor, output_size: tuple[int, int]) -> Flops:
    """FLOPs of a forward call.

    For methods with neighborhoods (NAF, JAFAR, AnyUp) the plain layers run on the meta device: nothing is computed,
    and the count does not depend on which kernels a device has. The others are called once as they are, and counted
    as they compute: FeatUp and JBU have fewer products here than in the authors' code, LoftUp's attention is in both.

    Args:
        upsampler: as it is to be called.
        image: (B, 3, H, W).
        features: (B, C, h, w).
        output_size: (Ho, Wo).
    """
    if not isinstance(upsampler, NAF | CrossAttentionUpsampler):
        with _counter() as counter, torch.no_grad():
            upsampler(image, features, output_size)
        return Flops(counter.get_total_flops(), counter.get_total_flops())
    plain: Any = copy.deepcopy(upsampler).to("meta").float()
    paper, _ = _layers(plain, (*image.shape[:2], *output_size), features.shape, output_size)
    layers, guidance = _layers(plain, image.shape, features.shape, output_size)
    queries = guidance.queries  # (B, n, Ho, Wo, d)
    channels = queries.shape[1] * queries.shape[-1] + features.shape[1]
    return Flops(paper, layers + len(queries) * _attention(guidance.neighborhood, channels))


def _layers(
    plain: Any, image_shape: Sequence[int], features_shape: Sequence[int], output_size: tuple[int, int]
) -> tuple[int, Any]:
    """FLOPs of all but the attention, and the guidance, on the meta device."""
    image, features = torch.empty(image_shape, device="meta"), torch.empty(features_shape, device="meta")
    with _counter() as counter, torch.no_grad():
        guidance = plain._encode(image, output_size, (features.shape[2], features.shape[3]))
        if isinstance(guidance, CrossAttentionGuidance):
            guidance.keys(features)
    return counter.get_total_flops(), guidance


def _attention(neighborhood: Neighborhood, channels: int) -> int:
    """Products of every pixel with its cells; `channels`: of queries and values together, all heads."""
    cells = math.prod(int((table >= 0).sum()) for table in (neighborhood.rows, neighborhood.cols))
    return 2 * cells * channels


def _counter() -> FlopCounterMode:
    mapping = {torch.ops.aten.convolution: _convolution}
    return FlopCounterMode(display=False, custom_mapping=mapping)


def _convolution(x: Any, weight: Any, bias: Any, *settings: Any, out_shape: Any, **_: Any) -> int:
    """PyTorch's own formula, and the bias; `settings`: stride, padding, dilation, transposed and more."""
    added = 0 if bias is None else 2 * math.prod(out_shape)
    return added + int(conv_flop_count(x, weight, out_shape, transposed=settings[3]))
