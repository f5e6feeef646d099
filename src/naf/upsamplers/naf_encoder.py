"""NAF's image encoder: two light convolutional branches (NAF, section 3.1). Names are those of the official release."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from naf.ops.buffers import new_buffer
from naf.ops.norm_act import NormActConv, average, conv_stack
from naf.ops.rope import adjacent_pairs, rope_angles, rope_periods, rotate, rotate_adjacent, rotate_in_place
from naf.upsamplers.execution import lean_dtype, needs_plain_layers, parameter_dtype, working_dtype

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
        return [NormActConv(*(p.to(dtype) for p in (n.weight, n.bias, *_weights(c)))) for n, c in layers]


class Branch(nn.Sequential):
    """One convolution, then blocks; 3x3 kernels pad by reflection.

    Attributes:
        grad_checkpointing: whether a backward pass makes the maps within each block again instead of keeping them.
    """

    def __init__(self, channels: int, kernel: int, layers: int) -> None:
        super().__init__(nn.Conv2d(3, channels, kernel), *(Block(channels, kernel) for _ in range(layers)))
        self.grad_checkpointing = False

    def forward(self, image: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        """(B, 3, H, W) → (B, channels, H, W), computed in dtype, with plain layers."""
        weight, bias, steps = self.layers(dtype)
        return self._run(_plain_steps, _conv(image.to(dtype), weight, bias), steps)

    def fused(self, image: Tensor, dtype: torch.dtype) -> Tensor:
        """The same by Triton kernels, channels last in memory."""
        from naf.ops.norm_act_triton import norm_act_convs  # Triton is not everywhere

        weight, bias, steps = self.layers(parameter_dtype(self))  # norms keep their precision under autocast
        with torch.autocast(image.device.type, enabled=False):
            image = image.to(dtype, memory_format=torch.channels_last)
            # Padding may forget the layout; the weight's then decides on that of the result.
            x = _conv(image, weight.to(dtype, memory_format=torch.channels_last), bias.to(dtype))
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
    """Two convolutional branches, `encoder` for single pixels and `sem_encoder` for their context (3x3), then RoPE."""

    def __init__(self, dim: int, layers: int, heads_rope: int, rope_base: float, heads_attn: int) -> None:
        super().__init__()
        self.dim, self.heads_rope = dim, heads_rope
        # Scores do not depend on the order of channels within an attention head.
        self._may_join_pairs = heads_rope % 2 == 0 and heads_rope % heads_attn == 0
        self.encoder = Branch(dim // 2, 1, layers)
        self.sem_encoder = Branch(dim // 2, 3, layers)
        self.rope = Rope(dim // heads_rope, rope_base)

    def forward(self, image: Tensor, output_size: tuple[int, int], rescale: float | Tensor = 1.0) -> Tensor:
        """Queries: (B, 3, Hi, Wi) → (B, Ho, Wo, dim), pixel branch first.

        Args:
            image: as NAF sees it.
            output_size: (Ho, Wo).
            rescale: factor on RoPE's coordinates.

        Returns:
            The queries, channels in the order of :meth:`order`. On the CPU without autograd bfloat16 stays bfloat16,
            where the CPU has it.
        """
        branches = (self.encoder, self.sem_encoder)
        if needs_plain_layers(self, image):
            dtype = working_dtype(self, image.device)
            pooled = [pool(branch(image, dtype), output_size) for branch in branches]
            return self.rotate(torch.cat(pooled, dim=1).permute(0, 2, 3, 1), rescale)
        dtype = lean_dtype(self, image.device)
        rows, cols = self.angles(output_size, dtype, rescale)
        queries = new_buffer((len(image), *output_size, self.dim), dtype, image.device)
        heads = self.heads_rope // 2
        order = adjacent_pairs(self.dim // self.heads_rope, heads) if self._may_join_pairs else None
        for branch, half in zip(branches, queries.chunk(2, dim=-1), strict=True):
            for sample, out in zip(image, half, strict=True):
                for start, band in branch.bands(sample, output_size, dtype, order):
                    place = slice(start, start + len(band))
                    if order is None:
                        out[place] = band
                    else:
                        rotate_adjacent(band, rows[place], cols, heads=heads, out=out[place])
        if order is None:
            rotate_in_place(queries, rows, cols, heads=self.heads_rope)
        return queries

    def order(self, image: Tensor) -> Tensor | None:
        """Channel at each position of the queries that :meth:`forward` makes, (dim,); None where none is moved.

        On the CPU without autograd the two channels of a RoPE pair follow each other, if that keeps the channels of
        each attention head together.
        """
        if not self._may_join_pairs or needs_plain_layers(self, image):
            return None
        return adjacent_pairs(self.dim // self.heads_rope, self.heads_rope)

    def rotate(self, guidance: Tensor, rescale: float | Tensor = 1.0) -> Tensor:
        """RoPE on guidance (B, Ho, Wo, dim); float32 for half precision, as in the official code, but not on CUDA."""
        rows, cols = self.angles((guidance.shape[1], guidance.shape[2]), guidance.dtype, rescale)
        turned = rotate(guidance, rows, cols, heads=self.heads_rope)
        return turned.to(guidance.dtype) if guidance.device.type == "cuda" else turned

    def maps(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → the map of each branch, (B, dim / 2, H, W), by Triton kernels.

        They have the parameters' dtype, or that of autocast, half precision too: on a GPU memory counts.
        """
        kind = image.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else parameter_dtype(self)
        context = self.sem_encoder.fused(image, dtype)  # first: it needs more room
        return [self.encoder.fused(image, dtype), context]

    def rotate_and_pool(
        self, maps: list[Tensor], output_size: tuple[int, int], grid: tuple[int, int], rescale: float | Tensor = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Queries (B, Ho, Wo, dim) and keys (B, h, w, dim) of maps whose channels follow each other, by Triton kernels.

        Args:
            maps: one or two, (B, C, H, W), dim channels in all; the results have their dtype.
            output_size: (Ho, Wo).
            grid: (h, w).
            rescale: factor on RoPE's coordinates.
        """
        from naf.ops.rope_triton import rotate_and_pool

        pooled = tuple(pool(x, output_size).permute(0, 2, 3, 1) for x in maps)
        return rotate_and_pool(pooled, self.rope.periods / rescale, grid, heads=self.heads_rope)

    def angles(self, size: tuple[int, int], dtype: torch.dtype, rescale: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
        """RoPE's angles of the rows and of the columns of a map of `size`; float64 for that dtype, else float32."""
        periods = self.rope.periods.double() if dtype == torch.float64 else self.rope.periods
        return rope_angles(size[0], periods, rescale), rope_angles(size[1], periods, rescale)


def _weights(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    assert conv.bias is not None
    return conv.weight, conv.bias


def _plain_steps(x: Tensor, steps: list[NormActConv]) -> Tensor:
    for step in steps:
        x = F.silu(F.group_norm(x, GROUPS, step.norm_weight, step.norm_bias, EPS))
        x = _conv(x, step.conv_weight, step.conv_bias)
    return x


def _conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    padding = weight.shape[-1] // 2
    return F.conv2d(F.pad(x, (padding,) * 4, mode="reflect") if padding else x, weight, bias)


def pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Adaptive average pooling of (B, C, H, W); the map itself where the size is right already."""
    return x if tuple(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size)
