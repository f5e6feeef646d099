"""NAF, Neighborhood Attention Filtering (arXiv 2511.18452).

A light encoder turns the image into guidance. Queries are the guidance on the output grid, rotated by RoPE; keys
are the queries averaged over each coarse cell; values are the features as they come. Each output pixel is the
softmax-weighted mean of the k x k coarse cells around it. Names in the state dict are those of the official release.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.attention import Backend
from naf.ops.neighborhood import Rule, make_neighborhood
from naf.ops.triton_device import uses_triton
from naf.registry import register
from naf.upsamplers.base import Upsampler
from naf.upsamplers.checks import check_map, whole_number
from naf.upsamplers.naf_branch_variants import EncoderKind
from naf.upsamplers.naf_encoder import CoordinateScales, ImageEncoder, pool
from naf.upsamplers.naf_guidance import NeighborhoodGuidance, check_heads
from naf.upsamplers.naf_keys import KeyPooling, convolve_keys, pool_keys
from naf.upsamplers.naf_position import Position, SpatialGuidance, SpatialKernel
from naf.upsamplers.naf_stream import NAFStream, held_bytes

_PAPER = "arXiv 2511.18452"

Coordinates = Literal["image", "cells"]


@register(
    "naf",
    paper=_PAPER,
    summary="Neighborhood Attention Filtering: any features, any ratio",
)
@register(
    "naf+",
    paper=_PAPER,
    summary="NAF with one attention head, coordinates in coarse cells and cell neighborhoods",
    config={"heads_attn": 1, "coordinates": "cells", "reference_cells": 10.0, "neighborhood": "cell"},
)
@register(
    "naf++",
    paper=_PAPER,
    summary="NAF with 768 guidance channels and 5 blocks a branch",
    config={"dim": 768, "img_layers": 5},
)
class NAF(Upsampler):
    """Neighborhood Attention Filtering.

    Half-precision parameters, and autocast, give queries and keys in half precision on CUDA, where they halve the
    memory; on other devices RoPE makes them float32 in training, as in the official code.

    In training mode each call scales RoPE's coordinates by one random factor exp(u), u uniform in
    ±ln(rope_rescale), from PyTorch's global generator; the authors' code draws it once a size and keeps it.

    Args:
        dim: guidance channels of both branches together, a multiple of 16, of heads_attn and of 4 * heads_rope.
        heads_attn: attention heads; must divide the feature channels.
        heads_rope: RoPE heads.
        kernel_size: k, odd, at least 3: each pixel attends to k x k cells.
        use_encoder: False takes the given image as the guidance; it must have dim channels.
        rope_base: ratio between the longest and the shortest RoPE period (the series stops one step short of it).
        rope_rescale: bound of the random coordinate factor in training mode, at least 1; 1 switches it off.
        img_layers: blocks a branch, at least 1; the paper's L.
        neighborhood: "official" or "cell": the rule for ratios that are no integers, see
            :func:`naf.ops.axis_table`.
        coordinates: "image": RoPE's coordinates run from -1 to 1 over the image on each axis, so that a coarse cell is
            another phase step on every grid; "cells": they run from -h / reference_cells to h / reference_cells over
            h coarse cells, and a cell is the same step on every grid.
        reference_cells: with coordinates="cells" the grid on which they are those of the image. No weights depend on
            it: a release, trained on 16-cell inputs for most of its steps, keeps the cell step of its training on
            other grids with coordinates="cells" and 16; a smaller value narrows the kernel in space, a larger one
            widens it.
        interleave: False puts the channels of the pixel branch before those of the context branch, so that of 4
            attention heads 2 see the one and 2 the other; True lets them alternate, so that every head sees both.
            Weights trained one way do not serve the other. Needs an encoder of two branches.
        encoder: of the paper's ablation (table 6): "dual", two branches; "pixel", one of 1x1 convolutions with all
            channels; "inception", one of Inception blocks; "resnet", two of blocks with skip connections. The blocks
            of the last two are our reading, see :mod:`naf.upsamplers.naf_branch_variants`.
        key_pooling: from queries to keys (table 6): "average", "max", "conv" (average, then a 1x1 convolution) or
            "bilinear".
        position: "rope"; "none"; or "manhattan" or "gaussian": a learned spatial kernel (table 7, eq. 6), see
            :mod:`naf.upsamplers.naf_position`, computed without the kernels of `backend`.
        backend: "auto", "triton", "window" (ratio 1 alone), "blocked" or "reference": see :mod:`naf.ops.attention`.

    Raises:
        ValueError: for values outside the above.
    """

    calling_options = ("backend", "coordinates", "kernel_size", "neighborhood", "reference_cells", "rope_rescale")
    computed_buffers = ("image_encoder.rope.periods",)

    def __init__(
        self,
        dim: int = 256,
        heads_attn: int = 4,
        heads_rope: int = 4,
        kernel_size: int = 9,
        use_encoder: bool = True,
        rope_base: float = 100.0,
        rope_rescale: float = 2.0,
        img_layers: int = 2,
        *,
        neighborhood: Rule = "official",
        backend: Backend = "auto",
        coordinates: Coordinates = "image",
        reference_cells: float = 16.0,
        interleave: bool = False,
        encoder: EncoderKind = "dual",
        key_pooling: KeyPooling = "average",
        position: Position = "rope",
    ) -> None:
        super().__init__()
        _check_config(dim, heads_attn, heads_rope, kernel_size, rope_base, rope_rescale, img_layers)
        for name, value, choices in (
            ("neighborhood", neighborhood, Rule),
            ("backend", backend, Backend),
            ("coordinates", coordinates, Coordinates),
            ("encoder", encoder, EncoderKind),
            ("key_pooling", key_pooling, KeyPooling),
            ("position", position, Position),
        ):
            if value not in get_args(choices):
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, get_args(choices)))}")
        if not 0 < reference_cells < math.inf:
            raise ValueError(f"reference_cells is {reference_cells!r}, expected a positive number of cells")
        if interleave and encoder in ("pixel", "inception"):
            raise ValueError(f"interleave is True, but the encoder {encoder!r} has one branch: nothing can alternate")
        self.dim, self.heads_attn, self.heads_rope, self.kernel_size = dim, heads_attn, heads_rope, kernel_size
        self.use_encoder, self.rope_rescale = use_encoder, rope_rescale
        self.neighborhood: Rule = neighborhood
        self.backend: Backend = backend
        self.coordinates: Coordinates = coordinates
        self.reference_cells = reference_cells
        self.key_pooling: KeyPooling = key_pooling
        self.position: Position = position
        self.image_channels = 3 if use_encoder else dim
        self.image_encoder = ImageEncoder(dim, img_layers, heads_rope, rope_base, heads_attn, encoder, interleave)
        self.key_conv = nn.Conv2d(dim, dim, 1) if key_pooling == "conv" else None
        self.spatial_kernel = None
        if position in ("manhattan", "gaussian"):
            self.spatial_kernel = SpatialKernel(position, heads_attn, kernel_size)

    def forward(  # type: ignore[override]
        self, image: Tensor, features: Tensor, output_size: Sequence[int], return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Upsample features; see :meth:`Upsampler.forward`.

        Args:
            image: (B, 3, Hi, Wi), ImageNet-normalised; (B, dim, Hi, Wi) guidance where use_encoder is False.
            features: (B, C, h, w), C a multiple of heads_attn.
            output_size: (Ho, Wo), at least (h, w).
            return_weights: also return the scaled scores before the softmax, as the official code does.

        Returns:
            (B, C, Ho, Wo), channels last in memory; with return_weights a pair with (B, n, Ho, Wo, k * k).
        """
        guidance = self._guidance(image, features, output_size)
        out = guidance.upsample(features)
        return (out, guidance.scores()) if return_weights else out

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: the backward pass makes the maps within each encoder block again.

        Args:
            enable: False keeps all maps, as a new upsampler does.
        """
        for branch in self.image_encoder.branches.values():
            branch.grad_checkpointing = enable

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """The guidance, and one branch's map at the size of the (reduced) image with what its making needs."""
        encoder, pixels = self.image_encoder, math.prod(_reduced_size(image_size, output_size))
        maps = 1 if encoder.is_lean else 5  # plain layers hold a map before and after norm, SiLU, padding and product
        channels = self.dim // len(encoder.branches)
        return 4 * self.dim * math.prod(output_size) + 4 * channels * maps * pixels + (64 << 20)

    @property
    def can_stream(self) -> bool:
        """Whether :meth:`iter_rows` can encode in bands; some variants encode the whole image instead."""
        return self.image_encoder.is_lean and self.key_pooling == "average" and self.spatial_kernel is None

    def _guidance(self, image: Tensor | None, features: Tensor, output_size: Sequence[int]) -> NeighborhoodGuidance:
        check_map("features", features)
        check_heads(features, self.heads_attn, self.dim)  # before the image is encoded for nothing
        guidance = super()._guidance(image, features, output_size)
        assert isinstance(guidance, NeighborhoodGuidance)
        return guidance

    def stream_memory(self, image_size: tuple[int, int], output_size: tuple[int, int], grid: tuple[int, int]) -> int:
        """The queries that wait for their keys, and the bands of every layer of the encoder."""
        if not self.can_stream:
            return self.memory(image_size, output_size)
        reduced = _reduced_size(image_size, output_size)
        return held_bytes(self, reduced, output_size, grid) + (64 << 20)

    def _stream(
        self,
        image: Tensor | None,
        features: Tensor,
        output_size: tuple[int, int],
        rows: int,
        start: int,
        state: MutableMapping[str, Tensor],
        memory_budget: int,
        on_progress: Callable[[float], object],
    ) -> Iterator[tuple[slice, Tensor]]:
        if (
            image is None  # refused there
            or not self.can_stream
            or image.device.type == "mps"  # knows no float64, which the statistics need
            or len(image) * self.memory((image.shape[2], image.shape[3]), output_size) <= memory_budget
        ):
            return super()._stream(image, features, output_size, rows, start, state, memory_budget, on_progress)
        check_heads(features, self.heads_attn, self.dim)
        grid = features.shape[2], features.shape[3]
        self._check_sizes(image, output_size, grid)
        seen = self._as_seen(image, output_size, grid)
        return NAFStream(self, seen, features, output_size, state, on_progress).bands(rows, start)

    def _as_seen(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
        """The image as the encoder shall see it."""
        if output_size[0] < grid[0] or output_size[1] < grid[1]:
            raise ValueError(
                f"output_size {output_size} is smaller than the feature grid {grid}: NAF keeps or raises the "
                "resolution; average-pool the features first"
            )
        image = _reduce(image, output_size)
        least = max(branch.least_side for branch in self.image_encoder.branches.values())
        if self.use_encoder and min(image.shape[2:]) < least:
            raise ValueError(
                f"image is {tuple(image.shape[2:])} pixels as the encoder sees it (at most four times the smaller "
                f"side of output_size), expected at least {least} on each side for reflect padding"
            )
        return image

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> NeighborhoodGuidance:
        image = self._as_seen(image, output_size, grid)
        encoder, scales, order = self.image_encoder, self.coordinate_scales(grid), None
        if uses_triton(image, next(encoder.parameters())):
            maps = encoder.maps(image) if self.use_encoder else [image]
            queries, keys = encoder.rotate_and_pool(maps, output_size, grid, scales)
            if self.key_pooling in ("max", "bilinear"):
                keys = pool_keys(queries, grid, self.key_pooling)
        else:
            if self.use_encoder:
                queries, order = encoder(image, output_size, scales), encoder.order(image)
            else:
                queries = encoder.rotate(pool(image, output_size).permute(0, 2, 3, 1), scales)
            keys = pool_keys(queries, grid, self.key_pooling)
        if self.key_conv is not None:
            keys = convolve_keys(keys, self.key_conv, order)
        neighborhood = make_neighborhood(grid, output_size, self.kernel_size, self.neighborhood)
        split = [x.unflatten(-1, (self.heads_attn, -1)).permute(0, 3, 1, 2, 4) for x in (queries, keys)]
        made = split[0], split[1], neighborhood, self.backend, order
        return (
            NeighborhoodGuidance(*made) if self.spatial_kernel is None else SpatialGuidance(*made, self.spatial_kernel)
        )

    def coordinate_scales(self, grid: tuple[int, int]) -> CoordinateScales:
        """Factors on RoPE's coordinates for a coarse grid (h, w); in training with a random one, drawn at each call.

        Without RoPE they are 0, which turns nothing.
        """
        factor = self._rescale() if self.position == "rope" else 0.0
        if self.coordinates == "image":
            return factor, factor
        return factor * (grid[0] / self.reference_cells), factor * (grid[1] / self.reference_cells)

    def _rescale(self) -> float | Tensor:
        if not self.training or self.rope_rescale == 1:
            return 1.0
        return self.rope_rescale ** (2 * torch.rand((), device=self.image_encoder.rope.periods.device) - 1)


def _reduce(image: Tensor, output_size: tuple[int, int]) -> Tensor:
    size = _reduced_size((image.shape[2], image.shape[3]), output_size)
    if size == image.shape[2:]:
        return image
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False)


def _reduced_size(image_size: tuple[int, int], output_size: tuple[int, int]) -> tuple[int, int]:
    """The official pre-reduction of an image over four times the output on an axis, bilinear without antialiasing.

    Four times the smaller output side bounds both axes.
    """
    (height, width), bound = image_size, 4 * min(output_size)
    if height <= 4 * output_size[0] and width <= 4 * output_size[1]:
        return image_size
    return min(height, bound), min(width, bound)


def _check_config(
    dim: int, heads_attn: int, heads_rope: int, kernel_size: int, rope_base: float, rope_rescale: float, img_layers: int
) -> None:
    positive = {"dim": dim, "heads_attn": heads_attn, "heads_rope": heads_rope, "img_layers": img_layers}
    for name, value in positive.items():
        whole_number(name, value, 1)
    for name, divisor in (("16", 16), ("heads_attn", heads_attn), ("4 * heads_rope", 4 * heads_rope)):
        if dim % divisor:
            raise ValueError(f"dim is {dim}, expected a multiple of {name}" + ("" if name == "16" else f" = {divisor}"))
    if whole_number("kernel_size", kernel_size, 3) % 2 == 0:
        raise ValueError(f"kernel_size is {kernel_size}, expected an odd integer of at least 3")
    if not rope_base > 0:
        raise ValueError(f"rope_base is {rope_base!r}, expected a positive number")
    if not rope_rescale >= 1:
        raise ValueError(f"rope_rescale is {rope_rescale!r}, expected at least 1")
