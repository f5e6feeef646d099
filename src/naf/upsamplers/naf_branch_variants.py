"""Encoders of NAF's ablation (NAF, table 6), beside the two branches of :mod:`naf.upsamplers.naf_branch`.

The paper gives their names, parameter counts and scores. What the blocks look like is our reading of those.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from naf.upsamplers.naf_branch import EPS, GROUPS, Block, Branch, convolve, norm_act, parameters_of, plain_steps

EncoderKind = Literal["dual", "pixel", "inception", "resnet"]


class ResidualBlock(Block):
    """A block with a skip connection. It has the parameters of the one without, as in table 6."""

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, D, H, W) → (B, D, H, W), parameters cast to dtype."""
        return x + plain_steps(x, self.steps(dtype))


class InceptionBlock(nn.Module):
    """GroupNorm → SiLU → four paths side by side, a quarter of the channels each (Szegedy et al., arXiv 1409.4842).

    The paths: 1x1; 1x1 to an eighth of the channels, SiLU, 3x3; 1x1 to a 32nd, SiLU, 5x5; 3x3 maximum, 1x1. Those are
    the shares of that paper's first modules, rounded to powers of two; with them 256 channels and two blocks have
    151,120 parameters, where table 6 says 0.15 M.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter, few, fewer = channels // 4, channels // 8, max(1, channels // 32)
        self.norm = nn.GroupNorm(GROUPS, channels, EPS)
        self.single = nn.Conv2d(channels, quarter, 1)
        self.reduce3, self.conv3 = nn.Conv2d(channels, few, 1), nn.Conv2d(few, quarter, 3)
        self.reduce5, self.conv5 = nn.Conv2d(channels, fewer, 1), nn.Conv2d(fewer, quarter, 5)
        self.pooled = nn.Conv2d(channels, quarter, 1)

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, D, H, W) → (B, D, H, W), parameters cast to dtype."""

        def run(layer: nn.Conv2d, x: Tensor) -> Tensor:
            return convolve(x, *parameters_of(layer, dtype))

        x = norm_act(x, *parameters_of(self.norm, dtype))
        largest = F.max_pool2d(x, 3, stride=1, padding=1)
        paths = [
            run(self.single, x),
            run(self.conv3, F.silu(run(self.reduce3, x))),
            run(self.conv5, F.silu(run(self.reduce5, x))),
            run(self.pooled, largest),
        ]
        return torch.cat(paths, dim=1)


class PlainBranch(nn.Sequential):
    """One convolution, then blocks of another kind, computed by plain layers on every device.

    Attributes:
        grad_checkpointing: as that of :class:`Branch`.
        least_side: likewise.
    """

    is_lean: ClassVar[bool] = False

    def __init__(self, channels: int, kernel: int, blocks: Iterable[nn.Module], least_side: int) -> None:
        super().__init__(nn.Conv2d(3, channels, kernel), *blocks)
        self.grad_checkpointing, self.least_side = False, least_side

    def forward(self, image: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        """(B, 3, H, W) → (B, channels, H, W), computed in dtype."""
        conv, *blocks = self
        assert isinstance(conv, nn.Conv2d)
        x = convolve(image.to(dtype), *parameters_of(conv, dtype))
        for block in blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, dtype, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, dtype)
        return x

    def fused(self, image: Tensor, dtype: torch.dtype) -> Tensor:
        """The same: there are no kernels for it."""
        with torch.autocast(image.device.type, enabled=False):
            return self(image, dtype)  # type: ignore[no-any-return]


def make_branches(kind: EncoderKind, dim: int, layers: int) -> list[Branch | PlainBranch]:
    """The branches of an encoder, the channels of which are dim in all.

    Args:
        kind: "dual" for single pixels and their context (the paper's), "pixel" for single pixels alone, "resnet" for
            both with skip connections, "inception" for one branch of Inception blocks.
        dim: guidance channels, a multiple of 16.
        layers: blocks a branch.
    """
    if kind == "pixel":
        return [Branch(dim, 1, layers)]
    if kind == "inception":
        return [PlainBranch(dim, 1, (InceptionBlock(dim) for _ in range(layers)), least_side=3)]
    half = dim // 2
    if kind == "dual":
        return [Branch(half, 1, layers), Branch(half, 3, layers)]
    return [
        PlainBranch(half, kernel, (ResidualBlock(half, kernel) for _ in range(layers)), kernel // 2 + 1)
        for kernel in (1, 3)
    ]
