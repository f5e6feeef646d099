"""How far a predicted feature map is from its target, as JAFAR and AnyUp measure it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.upsamplers.base import Upsampler

_EPS = 1e-6
_LEAST_SPAN = 0.1  # as a share of the image's mean


def exact(x: Tensor) -> Tensor:
    """In float32 where it is of half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def in_output_space(upsampler: Upsampler, features: Tensor) -> Tensor:
    """Features (B, C, h, w) as the upsampler would give them on their own grid.

    FeatUp (with its norm) and LoftUp predict features that are layer-normed over the channels. In their training the
    norm before the upsampler stays at its initial values, so targets pass a layer norm without weights.
    """
    if not upsampler.normalizes_features:
        return features
    return F.layer_norm(features.movedim(1, -1), features.shape[1:2]).movedim(-1, 1)


def cosine_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of the feature vectors, mean over the positions of (B, C, H, W); 0 … 2, 0-d."""
    prediction, target = exact(prediction), exact(target)
    return 1 - F.cosine_similarity(prediction, target, dim=1).mean()


def min_max_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of (B, C, H, W), each position scaled by what its target spans over the channels; 0-d.

    The official code adds 1e-6 to the span and nothing else: a position of constant target, which a backbone does not
    give but pseudo-features do (a grey pixel), would outweigh all others by 1e10. So a span counts as a tenth of the
    image's mean span at least.
    """
    prediction, target = exact(prediction), exact(target)
    low, high = target.aminmax(dim=1, keepdim=True)
    span = high - low
    span = span.maximum(_LEAST_SPAN * span.mean((2, 3), keepdim=True)) + _EPS
    return ((prediction - target) / span).square().mean()


def similarity_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Sum of both, the L of JAFAR (arXiv 2506.11136) and AnyUp."""
    return cosine_distance(prediction, target) + min_max_error(prediction, target)
