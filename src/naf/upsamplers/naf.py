"""NAF, Neighborhood Attention Filtering (arXiv 2511.18452).

A light encoder turns the image into guidance. Queries are the guidance on the output grid, rotated by RoPE; keys
are the queries averaged over each coarse cell; values are the features as they come. Each output pixel is the
softmax-weighted mean of the k x k coarse cells around it. Names in the state dict are those of the official release.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.ops.attention import Backend, attend_points, neighborhood_attention, neighborhood_scores, point_scores
from naf.ops.neighborhood import Neighborhood, Rule, make_neighborhood
from naf.ops.triton_device import uses_triton
from naf.registry import register
from naf.upsamplers.base import Attention, Guidance, Upsampler
from naf.upsamplers.checks import check_map, whole_number
from naf.upsamplers.naf_encoder import ImageEncoder, pool
from naf.upsamplers.naf_stream import NAFStream, held_bytes

_PAPER = "arXiv 2511.18452"


class NeighborhoodGuidance(Guidance):
    """Queries and keys of a batch of images.

    Attributes:
        queries: (B, n, Ho, Wo, d), after RoPE.
        keys: (B, n, h, w, d).
        neighborhood: which coarse cells each output pixel attends to.
        order: encoder channel at each position of all heads' queries and keys, (n * d,); None where it is the same.
    """

    def __init__(
        self,
        queries: Tensor,
        keys: Tensor,
        neighborhood: Neighborhood,
        backend: Backend,
        order: Tensor | None = None,
    ) -> None:
        super().__init__(queries.shape[0], neighborhood.grid, neighborhood.output_size)
        self.queries, self.keys, self.neighborhood, self.backend = queries, keys, neighborhood, backend
        self.order = order
        self.heads = queries.shape[1]
        self.scale = 1 / math.sqrt(queries.shape[-1])

    def scores(self) -> Tensor:
        """Scaled scores before the softmax, (B, n, Ho, Wo, kh * kw), kernel rows slowest."""
        return neighborhood_scores(self.queries, self.keys, self.neighborhood, scale=self.scale)

    def _check_features(self, features: Tensor) -> None:
        super()._check_features(features)
        _check_heads(features, self.heads, self.heads * self.queries.shape[-1])

    def _values(self, features: Tensor) -> Tensor:
        """(B, C, h, w) as values of each head, (B, n, h, w, C/n)."""
        values: Tensor = features.unflatten(1, (self.heads, -1)).permute(0, 1, 3, 4, 2)
        return values

    def _attend(self, values: Tensor, start: int, stop: int) -> Tensor:
        queries, neighborhood = self.queries[:, :, start:stop], self.neighborhood.band(start, stop)
        return neighborhood_attention(queries, self.keys, values, neighborhood, scale=self.scale, backend=self.backend)

    def _upsample(self, features: Tensor) -> Tensor:
        return self._bands(features)(0, self.output_size[0])

    def _upsample_linear(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        outputs, channels = weight.shape
        if outputs * self.heads >= channels:
            return super()._upsample_linear(features, weight, bias)
        # A head goes through its own channels' columns of the weight, on the coarse grid; the heads' results add up.
        per_head = weight.unflatten(1, (self.heads, -1))  # (K, n, C/n)
        projected = torch.einsum("bnhwc,knc->bnhwk", self._values(features), per_head)
        out = self._attend(projected, 0, self.output_size[0]).sum(1).permute(0, 3, 1, 2)
        return out if bias is None else out + bias[:, None, None]

    def _bands(self, features: Tensor) -> Callable[[int, int], Tensor]:
        values = self._values(features)
        return lambda start, stop: _merge_heads(self._attend(values, start, stop))

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        values, parts = self._values(features), []
        for row, col in zip(rows.split(4096), cols.split(4096), strict=True):
            queries = self.queries[:, :, row, col]  # (B, n, N, d)
            cells = (table.to(self.keys.device) for table in (self.neighborhood.rows[row], self.neighborhood.cols[col]))
            points = attend_points(queries, self.keys, values, *cells, scale=self.scale)
            parts.append(points.permute(0, 1, 3, 2).flatten(1, 2))  # (B, C, N)
        return torch.cat(parts, dim=2) if parts else features.new_empty(*features.shape[:2], 0)

    def _attention(self, row: int, col: int, features: Tensor | None) -> Attention:
        del features  # the weights come from the image alone
        rows, cols = self.neighborhood.rows[row].to(self.keys.device), self.neighborhood.cols[col].to(self.keys.device)
        query = self.queries[:, :, row, col][:, :, None]
        weights = point_scores(query, self.keys, rows[None], cols[None], self.scale).softmax(-1)
        return Attention(weights[:, :, 0].unflatten(-1, (len(rows), len(cols))), rows, cols)


def _merge_heads(x: Tensor) -> Tensor:
    """(B, n, H, W, e) as (B, n*e, H, W); free of copies for the attention's memory layout."""
    return x.permute(0, 2, 3, 1, 4).flatten(3).permute(0, 3, 1, 2)


@register(
    "naf",
    paper=_PAPER,
    summary="Neighborhood Attention Filtering: any features, any ratio",
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
        backend: "auto", "triton", "blocked" or "reference": see :mod:`naf.ops.attention`.

    Raises:
        ValueError: for values outside the above.
    """

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
    ) -> None:
        super().__init__()
        _check_config(dim, heads_attn, heads_rope, kernel_size, rope_base, rope_rescale, img_layers)
        for name, value, choices in (("neighborhood", neighborhood, Rule), ("backend", backend, Backend)):
            if value not in get_args(choices):
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, get_args(choices)))}")
        self.dim, self.heads_attn, self.heads_rope, self.kernel_size = dim, heads_attn, heads_rope, kernel_size
        self.use_encoder, self.rope_rescale = use_encoder, rope_rescale
        self.neighborhood: Rule = neighborhood
        self.backend: Backend = backend
        self.image_channels = 3 if use_encoder else dim
        self.image_encoder = ImageEncoder(dim, img_layers, heads_rope, rope_base, heads_attn)

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
        for branch in (self.image_encoder.encoder, self.image_encoder.sem_encoder):
            branch.grad_checkpointing = enable

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """The guidance, and one branch's map at the size of the (reduced) image with what its making needs."""
        pixels = math.prod(_reduced_size(image_size, output_size))
        return 4 * self.dim * math.prod(output_size) + 2 * self.dim * pixels + (64 << 20)

    def _guidance(self, image: Tensor | None, features: Tensor, output_size: Sequence[int]) -> NeighborhoodGuidance:
        check_map("features", features)
        _check_heads(features, self.heads_attn, self.dim)  # before the image is encoded for nothing
        guidance = super()._guidance(image, features, output_size)
        assert isinstance(guidance, NeighborhoodGuidance)
        return guidance

    def stream_memory(self, image_size: tuple[int, int], output_size: tuple[int, int], grid: tuple[int, int]) -> int:
        """The queries that wait for their keys, and the bands of every layer of the encoder."""
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
            or image.device.type == "mps"  # knows no float64, which the statistics need
            or len(image) * self.memory((image.shape[2], image.shape[3]), output_size) <= memory_budget
        ):
            return super()._stream(image, features, output_size, rows, start, state, memory_budget, on_progress)
        _check_heads(features, self.heads_attn, self.dim)
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
        if self.use_encoder and min(image.shape[2:]) < 2:
            raise ValueError(
                f"image is {tuple(image.shape[2:])} pixels as the encoder sees it (at most four times the smaller "
                "side of output_size), expected at least 2 on each side for reflect padding"
            )
        return image

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> NeighborhoodGuidance:
        image = self._as_seen(image, output_size, grid)
        encoder, rescale, order = self.image_encoder, self._rescale(), None
        if uses_triton(image, next(encoder.parameters())):
            maps = encoder.maps(image) if self.use_encoder else [image]
            queries, keys = encoder.rotate_and_pool(maps, output_size, grid, rescale)
        else:
            if self.use_encoder:
                queries, order = encoder(image, output_size, rescale), encoder.order(image)
            else:
                queries = encoder.rotate(pool(image, output_size).permute(0, 2, 3, 1), rescale)
            keys = pool(queries.permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1)
        neighborhood = make_neighborhood(grid, output_size, self.kernel_size, self.neighborhood)
        split = [x.unflatten(-1, (self.heads_attn, -1)).permute(0, 3, 1, 2, 4) for x in (queries, keys)]
        return NeighborhoodGuidance(split[0], split[1], neighborhood, self.backend, order)

    def _rescale(self) -> float | Tensor:
        """Factor on RoPE's coordinates: random in training."""
        if not self.training or self.rope_rescale == 1:
            return 1.0
        return self.rope_rescale ** (2 * torch.rand((), device=self.image_encoder.rope.periods.device) - 1)


def _check_heads(features: Tensor, heads: int, dim: int) -> None:
    channels = features.shape[1]
    if channels % heads:
        full = -(-channels // heads) * heads
        divisors = " or ".join(str(n) for n in range(1, heads) if channels % n == 0 and dim % n == 0)
        raise ValueError(
            f"features have {channels} channels, which heads_attn={heads} does not divide: pad them with zeros to "
            f"{full} channels and drop the last {full - channels} of the output, or create the upsampler with "
            f"heads_attn={divisors}"
        )


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
