"""NAF's image encoder: two light convolutional branches (NAF, section 3.1). Names are those of the official release."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.norm_act import NormActConv, conv_stack
from naf.ops.rope import rope_periods
from naf.upsamplers.execution import needs_plain_layers, working_dtype

_GROUPS, _EPS = 8, 1e-5  # of every group norm


class Block(nn.Module):
    """GroupNorm → SiLU → conv → GroupNorm → SiLU → conv, without a skip connection."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_GROUPS, channels, _EPS)
        self.conv1 = nn.Conv2d(channels, channels, kernel)
        self.norm2 = nn.GroupNorm(_GROUPS, channels, _EPS)
        self.conv2 = nn.Conv2d(channels, channels, kernel)

    def steps(self, dtype: torch.dtype) -> list[NormActConv]:
        """The block's two layers as functions take them, parameters cast to dtype."""
        layers = ((self.norm1, self.conv1), (self.norm2, self.conv2))
        return [NormActConv(*(p.to(dtype) for p in (n.weight, n.bias, *_weights(c)))) for n, c in layers]


class Branch(nn.Sequential):
    """One convolution, then blocks; 3x3 kernels pad by reflection."""

    def __init__(self, channels: int, kernel: int, layers: int) -> None:
        super().__init__(nn.Conv2d(3, channels, kernel), *(Block(channels, kernel) for _ in range(layers)))

    def forward(self, image: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        """(B, 3, H, W) → (B, channels, H, W), computed in dtype, with plain layers."""
        weight, bias, steps = self._layers(dtype)
        x = _conv(image.to(dtype), weight, bias)
        for step in steps:
            x = F.silu(F.group_norm(x, _GROUPS, step.norm_weight, step.norm_bias, _EPS))
            x = _conv(x, step.conv_weight, step.conv_bias)
        return x

    def into(self, image: Tensor, out: Tensor) -> None:
        """The same for one image (3, H, W), averaged to `out` (Ho, Wo, channels), band by band, without autograd."""
        weight, bias, steps = self._layers(out.dtype)
        conv_stack(image.to(out.dtype), weight, bias, steps, out, groups=_GROUPS, eps=_EPS)

    def _layers(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[NormActConv]]:
        conv, *blocks = self
        assert isinstance(conv, nn.Conv2d)
        weight, bias = (p.to(dtype) for p in _weights(conv))
        return weight, bias, [step for block in blocks if isinstance(block, Block) for step in block.steps(dtype)]


class Rope(nn.Module):
    """Holds the periods of the rotary embedding, part of the official state dict."""

    periods: Tensor

    def __init__(self, head_dim: int, base: float) -> None:
        super().__init__()
        self.register_buffer("periods", rope_periods(head_dim, base))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # Likewise the periods of a half-precision checkpoint: this buffer follows from the configuration.
        own = {**state_dict, f"{prefix}periods": self.periods} if f"{prefix}periods" in state_dict else state_dict
        super()._load_from_state_dict(own, prefix, *args)

    def _apply(self, fn: Any, recurse: bool = True) -> Rope:
        # Periods stay float32 in a half-precision module: rounded, they would bend the waves.
        periods = self.periods
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.periods.dtype != periods.dtype:
            self.periods = periods.to(self.periods.device)
        return self


class ImageEncoder(nn.Module):
    """Two convolutional branches: `encoder` sees single pixels, `sem_encoder` their context (3x3)."""

    def __init__(self, dim: int, layers: int, heads_rope: int, rope_base: float) -> None:
        super().__init__()
        self.dim = dim
        self.encoder = Branch(dim // 2, 1, layers)
        self.sem_encoder = Branch(dim // 2, 3, layers)
        self.rope = Rope(dim // heads_rope, rope_base)

    def forward(self, image: Tensor, output_size: tuple[int, int]) -> Tensor:
        """Guidance before RoPE: (B, 3, Hi, Wi) → (B, Ho, Wo, dim), pixel branch first."""
        dtype = working_dtype(self, image.device)
        branches = (self.encoder, self.sem_encoder)
        if needs_plain_layers(self, image):
            return torch.cat([pool(b(image, dtype), output_size) for b in branches], dim=1).permute(0, 2, 3, 1)
        guidance = torch.empty(len(image), *output_size, self.dim, dtype=dtype, device=image.device)
        for branch, half in zip(branches, guidance.chunk(2, dim=-1), strict=True):
            for sample, out in zip(image, half, strict=True):
                branch.into(sample, out)
        return guidance


def _weights(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert conv.bias is not None
    return conv.weight, conv.bias


def _conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    padding = weight.shape[-1] // 2
    return F.conv2d(F.pad(x, (padding,) * 4, mode="reflect") if padding else x, weight, bias)


def pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Adaptive average pooling of (B, C, H, W); the map itself where the size is right already."""
    return x if tuple(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size)
