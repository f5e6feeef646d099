"""The convolutional branches of NAF's image encoder (NAF, section 3.1). Names are those of the official release."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from naf.ops.norm_act import NormActConv, average, conv_stack
from naf.upsamplers.execution import parameter_dtype

GROUPS, EPS = 8, 1e-5
"""Of every group norm."""

_Run = Callable[[Tensor, list[NormActConv]], Tensor]


class Block(nn.Module):
    """GroupNorm → SiLU → conv → GroupNorm → SiLU → conv, without a skip connection."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, EPS)
        self.conv1 = nn.Conv2d(channels, channels, kernel)
        self.norm2 = nn.GroupNorm(GROUPS, channels, EPS)
        self.conv2 = nn.Conv2d(channels, channels, kernel)

    def steps(self, dtype: torch.dtype) -> list[NormActConv]:
        """The block's two layers as functions take them, parameters cast to dtype."""
        layers = ((self.norm1, self.conv1), (self.norm2, self.conv2))
        return [NormActConv(*parameters_of(norm, dtype), *parameters_of(conv, dtype)) for norm, conv in layers]


class Branch(nn.Sequential):
    """One convolution, then blocks; 3x3 kernels pad by reflection.

    Attributes:
        grad_checkpointing: whether a backward pass makes the maps within each block again instead of keeping them.
        least_side: pixels that the image must have on each side.
    """

    is_lean: ClassVar[bool] = True
    """Whether it has :meth:`bands`, and :meth:`layers` for streams."""

    def __init__(self, channels: int, kernel: int, layers: int) -> None:
        super().__init__(nn.Conv2d(3, channels, kernel), *(Block(channels, kernel) for _ in range(layers)))
        self.grad_checkpointing, self.least_side = False, kernel // 2 + 1

    def forward(self, image: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        """(B, 3, H, W) → (B, channels, H, W), computed in dtype, with plain layers."""
        weight, bias, steps = self.layers(dtype)
        return self._run(plain_steps, convolve(image.to(dtype), weight, bias), steps)

    def fused(self, image: Tensor, dtype: torch.dtype) -> Tensor:
        """The same by Triton kernels, channels last in memory."""
        from naf.ops.norm_act_triton import norm_act_convs  # Triton is not everywhere

        weight, bias, steps = self.layers(parameter_dtype(self))  # norms keep their precision under autocast
        with torch.autocast(image.device.type, enabled=False):
            image = image.to(dtype, memory_format=torch.channels_last)
            # Padding may forget the layout; the weight's then decides on that of the result.
            x = convolve(image, weight.to(dtype, memory_format=torch.channels_last), bias.to(dtype))
            return self._run(partial(norm_act_convs, groups=GROUPS, eps=EPS), x, steps)

    def _run(self, run: _Run, x: Tensor, steps: list[NormActConv]) -> Tensor:
        if not (self.grad_checkpointing and torch.is_grad_enabled()):
            return run(x, steps)
        for start in range(0, len(steps), 2):
            x = checkpoint(run, x, steps[start : start + 2], use_reentrant=False, preserve_rng_state=False)
        return x

    def bands(
        self, image: Tensor, size: tuple[int, int], dtype: torch.dtype, order: Tensor | None
    ) -> Iterator[tuple[int, Tensor]]:
        """The same for one image (3, H, W), averaged to `size`, in bands (first row, (rows, Wo, channels)).

        No gradients. `order` permutes the channels.
        """
        weight, bias, steps = self.layers(dtype)
        if order is not None:
            last = steps[-1]
            steps[-1] = last._replace(conv_weight=last.conv_weight[order], conv_bias=last.conv_bias[order])
        height, width = image.shape[1:]
        divides = height % size[0] == 0 and width % size[1] == 0
        shares = (height // size[0], width // size[1]) if divides else (1, 1)
        bands = conv_stack(image.to(dtype), weight, bias, steps, groups=GROUPS, eps=EPS, pool=shares)
        return bands if divides else average(bands, height, size)

    def layers(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[NormActConv]]:
        """Weight and bias of the first convolution, and the steps that follow, cast to dtype."""
        conv, *blocks = self
        assert isinstance(conv, nn.Conv2d)
        return *parameters_of(conv, dtype), [
            step for block in blocks if isinstance(block, Block) for step in block.steps(dtype)
        ]


def parameters_of(layer: nn.Conv2d | nn.GroupNorm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer, cast to dtype."""
    assert layer.bias is not None
    return layer.weight.to(dtype), layer.bias.to(dtype)


def plain_steps(x: Tensor, steps: list[NormActConv]) -> Tensor:
    """Norm, SiLU and convolution of a map (B, D, H, W), for each step."""
    for step in steps:
        x = norm_act(x, step.norm_weight, step.norm_bias)
        x = convolve(x, step.conv_weight, step.conv_bias)
    return x


def norm_act(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Group norm and SiLU of a map (B, D, H, W)."""
    return F.silu(F.group_norm(x, GROUPS, weight, bias, EPS))


def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution that keeps the size of a map (B, C, H, W), padded by reflection."""
    padding = weight.shape[-1] // 2
    return F.conv2d(F.pad(x, (padding,) * 4, mode="reflect") if padding else x, weight, bias)
