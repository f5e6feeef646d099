"""JAFAR: Jack up Any Feature at Any Resolution (arXiv 2506.11136).

Queries come from the image, keys from the pooled image modulated by the features; each output pixel attends to the
whole coarse grid and takes a weighted mean of the raw features. Trained for one backbone.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from naf.registry import register
from naf.upsamplers.checks import whole_number
from naf.upsamplers.cross_attention import (
    EPS,
    GROUPS,
    Conv,
    CrossAttentionUpsampler,
    CrossDecode,
    Encoder,
    ResidualBlock,
    Rotation,
    check_widths,
)


class Modulation(nn.Module):
    """Scale and shift of the normalised keys, given by the features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = Conv(channels, channels, 1)
        self.beta = Conv(channels, channels, 1)


@register(
    "jafar",
    paper="arXiv 2506.11136",
    summary="JAFAR: attention to the whole coarse grid",
    is_vfm_agnostic=False,
    channels_argument="v_dim",
)
class JAFAR(CrossAttentionUpsampler):
    """JAFAR.

    Args:
        input_dim: channels of the image.
        qk_dim: width of queries and keys, a multiple of 8 and of num_heads.
        v_dim: channels of the features, fixed by the training.
        kernel_size: of the image encoder's first convolution, 1 in all releases, or 3.
        num_heads: attention heads.

    Raises:
        ValueError: for values outside the above.
    """

    normalizes_queries = True
    window_ratio = 0.0

    def __init__(
        self, input_dim: int = 3, qk_dim: int = 128, v_dim: int = 384, kernel_size: int = 1, num_heads: int = 4
    ) -> None:
        super().__init__()
        check_widths(qk_dim, num_heads)
        self.image_channels = whole_number("input_dim", input_dim, 1)
        self.feature_channels = whole_number("v_dim", v_dim, 1)
        if kernel_size not in (1, 3):
            raise ValueError(f"kernel_size is {kernel_size!r}, expected 1 or 3")
        self.image_encoder = _encoder(input_dim, qk_dim, kernel_size)
        self.key_encoder = _encoder(qk_dim, qk_dim)
        self.query_encoder = _encoder(qk_dim, qk_dim)
        self.key_features_encoder = _encoder(v_dim, qk_dim)
        self.cross_decode = CrossDecode(qk_dim, num_heads, v_dim)
        self.sft_key = Modulation(qk_dim)
        self.rope = Rotation(qk_dim)

    def keys(self, pooled: Tensor, features: Tensor) -> Tensor:
        """Pooled keys of the images (B, D, h, w) and features (B, C, h, w) → key tokens (B, h, w, D)."""
        code = self.key_features_encoder(F.normalize(features, dim=1))
        normalised = F.group_norm(pooled, GROUPS, eps=EPS)
        modulated = self.sft_key.gamma(code) * normalised + self.sft_key.beta(code)
        return self.cross_decode.cross_attn.keys(modulated.permute(0, 2, 3, 1))


def _encoder(inputs: int, channels: int, kernel: int = 1) -> Encoder:
    return Encoder(Conv(inputs, channels, kernel), [ResidualBlock(channels) for _ in range(2)])
