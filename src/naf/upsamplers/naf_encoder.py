"""NAF's image encoder: light convolutional branches, then RoPE (NAF, section 3.1).

Names are those of the official release.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.buffers import new_buffer
from naf.ops.rope import adjacent_pairs, rope_angles, rope_periods, rotate, rotate_adjacent, rotate_in_place
from naf.upsamplers.execution import lean_dtype, needs_plain_layers, parameter_dtype, working_dtype
from naf.upsamplers.naf_branch import Branch
from naf.upsamplers.naf_branch_variants import EncoderKind, PlainBranch, make_branches

CoordinateScales = tuple[float | Tensor, float | Tensor]
"""Factors on RoPE's coordinates, of rows and columns."""


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
    """Two convolutional branches, `encoder` for single pixels and `sem_encoder` for their context (3x3), then RoPE.

    The guidance holds the channels of the one, then those of the other; with `interleave` they alternate. The two
    channels of a RoPE pair are of one branch either way. Some variants have the first branch alone, with all channels.
    """

    def __init__(
        self,
        dim: int,
        layers: int,
        heads_rope: int,
        rope_base: float,
        heads_attn: int,
        kind: EncoderKind = "dual",
        interleave: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.heads_rope, self.interleave = dim, heads_rope, interleave
        branches = make_branches(kind, dim, layers)
        for name, branch in zip(("encoder", "sem_encoder"), branches, strict=False):
            self.add_module(name, branch)
        self.rope = Rope(dim // heads_rope, rope_base)
        # Scores do not depend on the order of channels within an attention head.
        self._may_join_pairs = heads_rope % heads_attn == 0 and (interleave or heads_rope % len(branches) == 0)

    @property
    def branches(self) -> dict[str, Branch | PlainBranch]:
        """The branches in the order of the guidance's channels."""
        return {name: x for name, x in self.named_children() if isinstance(x, Branch | PlainBranch)}

    @property
    def is_lean(self) -> bool:
        """Whether it can walk over an image in bands."""
        return all(branch.is_lean for branch in self.branches.values())

    def forward(self, image: Tensor, output_size: tuple[int, int], scales: CoordinateScales = (1.0, 1.0)) -> Tensor:
        """Queries: (B, 3, Hi, Wi) → (B, Ho, Wo, dim).

        Args:
            image: as NAF sees it.
            output_size: (Ho, Wo).
            scales: factors on RoPE's coordinates.

        Returns:
            The queries, channels in the order of :meth:`order`. On the CPU without autograd bfloat16 stays bfloat16,
            where the CPU has it.
        """
        if self._takes_plain_layers(image):
            dtype = working_dtype(self, image.device)
            pooled = [pool(branch(image, dtype), output_size) for branch in self.branches.values()]
            joined = torch.stack(pooled, dim=2).flatten(1, 2) if self.interleave else torch.cat(pooled, dim=1)
            return self.rotate(joined.permute(0, 2, 3, 1), scales)
        dtype = lean_dtype(self, image.device)
        angles = self.angles(output_size, dtype, scales)
        queries = new_buffer((len(image), *output_size, self.dim), dtype, image.device)
        branches = [branch for branch in self.branches.values() if isinstance(branch, Branch)]
        if not self._may_join_pairs:
            for branch, part in zip(branches, self.parts(queries), strict=True):
                for sample, out in zip(image, part, strict=True):
                    for start, band in branch.bands(sample, output_size, dtype, None):
                        out[start : start + len(band)] = band
            rotate_in_place(queries, *angles, heads=self.heads_rope)
            return queries
        for index, branch in enumerate(branches):
            heads, part, rows, cols = self._turning(index, queries, *angles)
            order = adjacent_pairs(self.dim // len(branches) // heads, heads)
            for sample, out in zip(image, part, strict=True):
                for start, band in branch.bands(sample, output_size, dtype, order):
                    place = slice(start, start + len(band))
                    rotate_adjacent(band, rows[place], cols, heads=heads, out=out[place])
        return queries

    def parts(self, guidance: Tensor) -> tuple[Tensor, ...]:
        """The channels of each branch, (…, dim / branches), in guidance (…, dim)."""
        if self.interleave:
            pairs: Tensor = guidance.unflatten(-1, (-1, 2))
            return pairs.unbind(-1)
        return guidance.chunk(len(self.branches), dim=-1)

    def _turning(self, index: int, queries: Tensor, rows: Tensor, cols: Tensor) -> tuple[int, Tensor, Tensor, Tensor]:
        """How a branch is turned: its RoPE heads, its place in the queries, the angles of its rows and columns."""
        if not self.interleave:
            return self.heads_rope // len(self.branches), self.parts(queries)[index], rows, cols
        # Every head is half of this branch, and of its pairs every other one: those of the rows, then of the columns.
        place = queries.unflatten(-1, (self.heads_rope, 2, -1))[..., index, :]
        return self.heads_rope, place, rows[:, index::2], cols[:, (index + rows.shape[1]) % 2 :: 2]

    def order(self, image: Tensor) -> Tensor | None:
        """Channel at each position of the queries that :meth:`forward` makes, (dim,); None where none is moved.

        On the CPU without autograd the two channels of a RoPE pair follow each other, if that keeps the channels of
        each attention head together.
        """
        if not self._may_join_pairs or self._takes_plain_layers(image):
            return None
        if not self.interleave:
            return adjacent_pairs(self.dim // self.heads_rope, self.heads_rope)
        own: Tensor = adjacent_pairs(self.dim // 2 // self.heads_rope, self.heads_rope)
        own = own.view(self.heads_rope, 1, -1)
        return (2 * own + torch.arange(2)[:, None]).flatten()

    def _takes_plain_layers(self, image: Tensor) -> bool:
        return not self.is_lean or needs_plain_layers(self, image)

    def rotate(self, guidance: Tensor, scales: CoordinateScales = (1.0, 1.0)) -> Tensor:
        """RoPE on guidance (B, Ho, Wo, dim); float32 for half precision, as in the official code, but not on CUDA."""
        rows, cols = self.angles((guidance.shape[1], guidance.shape[2]), guidance.dtype, scales)
        turned = rotate(guidance, rows, cols, heads=self.heads_rope)
        return turned.to(guidance.dtype) if guidance.device.type == "cuda" else turned

    def maps(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → the map of each branch, (B, dim / branches, H, W), by Triton kernels.

        They have the parameters' dtype, or that of autocast, half precision too: on a GPU memory counts.
        """
        kind = image.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else parameter_dtype(self)
        # The last first: context needs more room.
        return [branch.fused(image, dtype) for branch in reversed(self.branches.values())][::-1]

    def rotate_and_pool(
        self,
        maps: list[Tensor],
        output_size: tuple[int, int],
        grid: tuple[int, int],
        scales: CoordinateScales = (1.0, 1.0),
    ) -> tuple[Tensor, Tensor]:
        """Queries (B, Ho, Wo, dim) and keys (B, h, w, dim) by Triton kernels.

        Args:
            maps: one map, or that of each branch, (B, C, H, W), dim channels in all; the results have their dtype.
            output_size: (Ho, Wo).
            grid: (h, w).
            scales: factors on RoPE's coordinates.
        """
        from naf.ops.rope_triton import rotate_and_pool

        pooled = tuple(pool(x, output_size).permute(0, 2, 3, 1) for x in maps)
        rows, cols = scales
        periods = self.rope.periods / rows
        if rows is not cols:
            periods = torch.stack([periods, self.rope.periods / cols])
        interleave = self.interleave and len(maps) > 1
        return rotate_and_pool(pooled, periods, grid, heads=self.heads_rope, interleave=interleave)

    def angles(
        self, size: tuple[int, int], dtype: torch.dtype, scales: CoordinateScales = (1.0, 1.0)
    ) -> tuple[Tensor, Tensor]:
        """RoPE's angles of the rows and of the columns of a map of `size`; float64 for that dtype, else float32."""
        periods = self.rope.periods.double() if dtype == torch.float64 else self.rope.periods
        return rope_angles(size[0], periods, scales[0]), rope_angles(size[1], periods, scales[1])


def pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Adaptive average pooling of (B, C, H, W); the map itself where the size is right already."""
    return x if tuple(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size)
