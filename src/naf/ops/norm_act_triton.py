"""Group norm, SiLU and convolution on CUDA: two passes over a channels-last map and the convolution.

The first pass takes the statistics, the second normalises, activates and writes the padded input of the convolution.
A 1x1 convolution in half precision is one pass: the norm is part of its load, the statistics of the next norm part
of its store. In training one map a layer is kept, the input of its norm; the backward pass makes the rest again.

Maps are (B, C, H, W) tensors, channels last in memory. Statistics are float32 throughout: each tile of pixels gives
the mean of a group and its squares about that mean, and tiles are combined by their own means (Chan et al., 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from naf.ops import norm_act_triton_kernels as kernels
from naf.ops.autograd import backward_pass
from naf.ops.norm_act import NormActConv
from naf.ops.triton_device import LAUNCH, processors, product_dtype

_ELEMENTS = 1 << 13  # of a program's tile: 32 a thread
_WARPS = 8
_WIDEST_PRODUCT = 128  # channels: a program of the fused 1x1 convolution holds all of a pixel's values and results


def norm_act_convs(x: Tensor, steps: Sequence[NormActConv], *, groups: int, eps: float) -> Tensor:
    """Every step of `steps`: group norm → SiLU → convolution (1x1, or 3x3 with reflect padding). Differentiable.

    Args:
        x: (B, C, H, W), float32, bfloat16 or float16, on a device where Triton runs; sides at least 2 for 3x3 kernels.
        steps: layers, C → C channels, parameters of any float dtype; the convolutions run in that of x.
        groups: groups of each norm; divides C.
        eps: added to each variance.

    Returns:
        (B, C, H, W), dtype of x, channels last in memory.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    steps = [NormActConv(s.norm_weight, s.norm_bias, s.conv_weight.to(x.dtype), s.conv_bias.to(x.dtype)) for s in steps]
    with torch.autocast(x.device.type, enabled=False), torch.cuda.device_of(x):
        if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *(p for step in steps for p in step))):
            for step in steps:
                x = _NormActConv.apply(x, *step, groups, eps)
            return x
        moments = None
        for index, step in enumerate(steps):
            stats = _statistics(_moments(x, groups) if moments is None else moments, x, eps)
            x, moments = _norm_act_conv(x, stats, step, with_moments=index + 1 < len(steps))
        return x


def _norm_act_conv(
    x: Tensor, stats: Tensor, step: NormActConv, *, with_moments: bool = False
) -> tuple[Tensor, Tensor | None]:
    """One step, and the moments of its result where they cost no pass of their own."""
    fits = x.dtype.itemsize == 2 and x.shape[1] <= _WIDEST_PRODUCT
    if step.conv_weight.shape[-1] == 1 and fits:
        return _norm_act_linear(x, stats, step, with_moments=with_moments)
    made = F.conv2d(_norm_act(x, stats, step), step.conv_weight, step.conv_bias)
    return made.contiguous(memory_format=torch.channels_last), None


class _NormActConv(torch.autograd.Function):
    """One step that keeps its input alone for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
        groups: int,
        eps: float,
    ) -> Tensor:
        stats = _statistics(_moments(x, groups), x, eps)
        ctx.save_for_backward(x, stats, norm_weight, norm_bias, weight, bias)
        return _norm_act_conv(x, stats, NormActConv(norm_weight, norm_bias, weight, bias))[0]

    @staticmethod
    @backward_pass
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, stats, *parameters = ctx.saved_tensors
        step = NormActConv(*parameters)
        needs = ctx.needs_input_grad
        with torch.cuda.device_of(x):
            grad_active, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
                grad.contiguous(memory_format=torch.channels_last),
                _norm_act(x, stats, step),
                *(step.conv_weight, [len(step.conv_bias)], [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
                [any(needs[:3]), needs[3], needs[4]],
            )
            if grad_active is None:
                return None, None, None, grad_weight, grad_bias, None, None
            return *_norm_act_backward(grad_active, x, stats, step), grad_weight, grad_bias, None, None


def _moments(x: Tensor, groups: int) -> Tensor:
    """Mean of each group and sum of squares about it, a tile of pixels each: (B, 2, groups, tiles) float32."""
    batch, channels, height, width = x.shape
    tile, pixels = _tile(channels), height * width
    tiles = triton.cdiv(pixels, tile)
    out = x.new_empty(batch, 2, groups, tiles, dtype=torch.float32)
    kernels.moments[tiles, batch](x, out, pixels, tiles, tile, *_blocks(channels, groups), num_warps=_WARPS, **LAUNCH)
    return out


def _statistics(moments: Tensor, x: Tensor, eps: float) -> Tensor:
    """Mean and reciprocal deviation of each group: (B, 2, groups) float32."""
    batch, _, groups, tiles = moments.shape
    pixels = x.shape[2] * x.shape[3]
    out = moments.new_empty(batch, 2, groups)
    size = x.shape[1] // groups
    tile = _tile(x.shape[1])
    kernels.statistics[groups, batch](moments, out, pixels, tiles, eps, tile, groups, size, 1024, **LAUNCH)
    return out


def _norm_act(x: Tensor, stats: Tensor, step: NormActConv) -> Tensor:
    """Group norm → SiLU → reflect padding as the step's convolution needs it: (B, C, H + 2 p, W + 2 p)."""
    batch, channels, height, width = x.shape
    padding = step.conv_weight.shape[-1] // 2
    size = height + 2 * padding, width + 2 * padding
    out = torch.empty((batch, channels, *size), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    tile = _tile(channels)
    grid = triton.cdiv(size[0] * size[1], tile), batch
    norm = step.norm_weight, step.norm_bias
    blocks = _blocks(channels, stats.shape[2])
    kernels.norm_act[grid](x, stats, *norm, out, height, width, padding, tile, *blocks[:3], num_warps=_WARPS, **LAUNCH)
    return out


def _norm_act_linear(
    x: Tensor, stats: Tensor, step: NormActConv, *, with_moments: bool
) -> tuple[Tensor, Tensor | None]:
    """Group norm → SiLU → 1x1 convolution in one pass, and the moments of the result."""
    batch, channels, height, width = x.shape
    out = torch.empty_like(x)
    tile, pixels, groups = _tile(channels), height * width, stats.shape[2]
    tiles = triton.cdiv(pixels, tile)
    moments = x.new_empty(batch, 2, groups, tiles, dtype=torch.float32) if with_moments else None
    weight = step.conv_weight.flatten(1).contiguous()
    blocks = _blocks(channels, groups)
    kernels.linear[min(tiles, processors(x)), batch](
        *(x, stats, step.norm_weight, step.norm_bias, weight, step.conv_bias, out, moments, pixels, tiles, tile),
        *blocks,
        product_dtype(x),
        num_warps=_WARPS,
        **LAUNCH,
    )
    return out, moments


def _norm_act_backward(grad: Tensor, x: Tensor, stats: Tensor, step: NormActConv) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `_norm_act` to x and to the norm's weight and bias."""
    batch, channels, height, width = x.shape
    padding = step.conv_weight.shape[-1] // 2
    groups = stats.shape[2]
    tile = _tile(channels) // 2
    tiles = triton.cdiv(height * width, tile)
    common = grad.contiguous(memory_format=torch.channels_last), x, stats, step.norm_weight, step.norm_bias
    blocks = _blocks(channels, groups)[:3]
    sums = x.new_empty(batch, tiles, 2, channels, dtype=torch.float32)
    kernels.gradient_sums[tiles, batch](
        *common, sums, tiles, height, width, padding, tile, *blocks, num_warps=_WARPS, **LAUNCH
    )
    sums = sums.sum(1)  # (B, 2, C): of dz and of dz·x̂ for each channel, dz before SiLU
    means = (sums * step.norm_weight.float()).unflatten(2, (groups, -1)).sum(3) / (height * width * channels // groups)
    out = torch.empty_like(x)
    kernels.gradient[tiles, batch](
        *common, means, out, height, width, padding, tile, *blocks, num_warps=_WARPS, **LAUNCH
    )
    grad_bias, grad_weight = sums.sum(0)
    return out, grad_weight.to(step.norm_weight.dtype), grad_bias.to(step.norm_bias.dtype)


def _tile(channels: int) -> int:
    """Pixels of a program."""
    return max(16, _ELEMENTS // int(triton.next_power_of_2(channels)))


def _blocks(channels: int, groups: int) -> tuple[int, int, int, int]:
    """Channels and groups, and the powers of two that hold them; 16 channels at least, as products ask for."""
    return channels, groups, max(16, triton.next_power_of_2(channels)), triton.next_power_of_2(groups)
