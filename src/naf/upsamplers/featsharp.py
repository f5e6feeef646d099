"""FeatSharp: features of image tiles sharpen the upsampled ones (arXiv 2502.16025).

The backbone sees the image once more in f x f tiles, each at the size of its usual input. Its features of the tiles
are sharp but disagree at seams and lack the context of the whole; one block of windowed attention merges them with the
joint bilateral upsampling of the given features.

Written from the paper and from a description of the method. Nothing of it was checked against the authors' code, which
is under a non-commercial licence and none of which is copied here; weights were never published.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.rows import Rows, band_rows, join_bands, pick_points, resized_rows
from naf.registry import register
from naf.upsamplers.base import Guidance, Upsampler
from naf.upsamplers.checks import whole_number
from naf.upsamplers.execution import working_dtype
from naf.upsamplers.extractor import FeatureExtractor, check_extractor, to_image01
from naf.upsamplers.featsharp_block import Block
from naf.upsamplers.featsharp_jbu import JBU
from naf.upsamplers.jafar import JAFAR
from naf.upsamplers.phi_s import PhiS

Inputs = Literal["jbu", "jafar"]
Start = Callable[[Tensor], Tensor]


class Bias(nn.Module):
    """A learned map that is added to the features: what the backbone adds at every position of its own accord."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.buffer = nn.Parameter(torch.zeros(1, channels, side, side))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → the same shape; the map is resized (bilinear) to the grid."""
        bias, size = self.buffer.to(x.dtype), x.shape[2:]
        if bias.shape[2:] != size:
            bias = F.interpolate(bias, size=size, mode="bilinear", align_corners=False)
        return x + bias


class Jafar(nn.Module):
    """Holds a JAFAR whose image encoder starts with a 3 x 3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upsampler = JAFAR(v_dim=channels, kernel_size=3)

    def start(self, image: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Start:
        """What upsamples features to `size`; the image is reduced to at most twice of it."""
        reduced = tuple(min(side, 2 * output) for side, output in zip(image.shape[2:], size, strict=True))
        if image.shape[2:] != reduced:
            image = F.interpolate(image, size=reduced, mode="bilinear", align_corners=False)
        return self.upsampler.encode(image, size, grid).upsample


class Level(nn.Module):
    """Upsampling of the coarse features, offsets of the tiles, and the block that merges the two."""

    def __init__(
        self, channels: int, factor: int, inputs: Inputs, heads: int, window: int, *, use_layer_norm: bool
    ) -> None:
        super().__init__()
        self.factor = factor
        self.tile_pos = nn.Parameter(torch.zeros(1, channels, factor, factor))
        if inputs == "jbu":
            self.jbu = JBU(factor)
        else:
            self.jafar = Jafar(channels)
        self.block = Block(channels, heads, window, use_layer_norm=use_layer_norm)

    def start(self, image: Tensor, grid: tuple[int, int]) -> Start:
        """What upsamples coarse features (B, C, h, w) before the block.

        Args:
            image: (B, 3, H, W), in the working dtype.
            grid: coarse grid (h, w).
        """
        size = grid[0] * self.factor, grid[1] * self.factor
        if hasattr(self, "jafar"):
            return self.jafar.start(image, size, grid)
        guidance = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        filters = self.jbu.filters(guidance, grid)
        return lambda features: self.jbu.upsample(features, filters)


class FeatSharpGuidance(Guidance):
    """What the image gives.

    Attributes:
        tiles: standardised features of the tiles, joined, (B, C, factor * h, factor * w).
    """

    def __init__(
        self, upsampler: FeatSharp, tiles: Tensor, start: Start, grid: tuple[int, int], output_size: tuple[int, int]
    ) -> None:
        super().__init__(tiles.shape[0], grid, output_size)
        self.tiles, self._start, self._upsampler = tiles, start, upsampler

    def _upsample(self, features: Tensor) -> Tensor:
        return self._bands(features)(0, self.output_size[0])

    def _bands(self, features: Tensor) -> Rows:
        net, block, size = self._upsampler, self._upsampler.level.block, (self.tiles.shape[2], self.tiles.shape[3])
        coarse = net.standardize(features.to(self.tiles.dtype))
        x = torch.cat([self._start(coarse), self.tiles], dim=1).permute(0, 2, 3, 1).contiguous()

        def native(start: int, stop: int) -> Tensor:
            return net.normalizer.inverse(block(x, start, stop).permute(0, 3, 1, 2))

        make = native if size == self.output_size else resized_rows(native, size, self.output_size)
        step = band_rows(max(self.output_size[1], size[1]), x.device)
        return lambda start, stop: join_bands(make, start, stop, step, features.dtype)

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        return pick_points(self._bands(features), rows, cols, features)


@register(
    "featsharp",
    paper="arXiv 2502.16025",
    summary="FeatSharp: features of image tiles, merged by windowed attention",
    is_vfm_agnostic=False,
    ratios=(1, 2, 3, 4, 8),
    needs_backbone=True,
)
class FeatSharp(Upsampler):
    """FeatSharp.

    The network makes maps of `factor` times the grid, and calls the backbone factor² times an image; other output
    sizes are resized from there (bilinear). Features are standardised (PHI-S, the identity until
    `normalizer.fit` or a checkpoint fills it) on the way in and put back on the way out. Fresh parameters give the
    upsampling that the block starts from, all but unchanged.

    The backbone is held, not registered as a submodule: it moves with `to`, but its parameters are not in
    `parameters()` nor in the state dict, and `train()` does not reach it.

    Args:
        backbone: `naf.backbones.create(…)`, or what offers the same: see
            :class:`naf.upsamplers.extractor.FeatureExtractor`.
        factor: ratio of the network's output to the grid; tiles a side.
        inputs: what the block starts from, "jbu" (the paper) or "jafar".
        use_layer_norm: whether the block has layer norms.
        window: reach of the attention in rows and columns.
        num_heads: of the attention; must divide twice the backbone's channels.
        bias_side: side of the learned map that is added to all features; it is resized to other grids.

    Raises:
        TypeError: if backbone is none.
        ValueError: for values outside the above.
    """

    is_linear = is_convex = keeps_constants = False
    has_attention = False
    is_exportable = False

    backbone: FeatureExtractor

    def __init__(
        self,
        backbone: FeatureExtractor,
        factor: int = 2,
        inputs: Inputs = "jbu",
        *,
        use_layer_norm: bool = True,
        window: int = 3,
        num_heads: int = 16,
        bias_side: int = 28,
    ) -> None:
        super().__init__()
        self.__dict__["backbone"] = check_extractor(backbone)  # past nn.Module, which would register it
        channels = self.feature_channels = backbone.channels
        self.factor = whole_number("factor", factor, 1)
        whole_number("window", window, 0)
        whole_number("bias_side", bias_side, 1)
        if inputs not in get_args(Inputs):
            raise ValueError(f"inputs is {inputs!r}, expected one of {', '.join(map(repr, get_args(Inputs)))}")
        if not isinstance(use_layer_norm, bool):
            raise ValueError(f"use_layer_norm is {use_layer_norm!r}, expected True or False")
        if (2 * channels) % whole_number("num_heads", num_heads, 1):
            raise ValueError(
                f"num_heads is {num_heads}, expected a divisor of {2 * channels}: twice the backbone's {channels} "
                "channels"
            )
        if inputs == "jbu" and factor > 1:
            self.smallest_grid = 2  # the filter pads its first level by reflection
        self.normalizer = PhiS(channels)
        self.bias_buffer = Bias(channels, bias_side)
        self.ups = nn.ModuleList([Level(channels, factor, inputs, num_heads, window, use_layer_norm=use_layer_norm)])

    @property
    def level(self) -> Level:
        """The one level that there is."""
        return cast(Level, self.ups[0])

    def standardize(self, features: Tensor) -> Tensor:
        """Features of the backbone (B, C, h, w) as the network takes them."""
        biased: Tensor = self.bias_buffer(self.normalizer(features))
        return biased

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """The enlarged image and three maps; what the backbone needs in between is not counted."""
        del image_size
        stride = self.backbone.stride
        return 4 * output_size[0] * output_size[1] * (3 * self.backbone.channels + 3 * stride * stride)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> FeatSharp:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if recurse and isinstance(self.backbone, nn.Module):
            self.backbone._apply(fn)  # type: ignore[no-untyped-call]
        return self

    def _channel_hint(self) -> str:
        return " by the backbone of this featsharp"

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> FeatSharpGuidance:
        dtype = working_dtype(self, image.device)
        offsets = self.level.tile_pos.to(dtype).repeat_interleave(grid[0], 2).repeat_interleave(grid[1], 3)
        tiles = self._tiles(image, grid, dtype) + offsets
        return FeatSharpGuidance(self, tiles, self.level.start(image.to(dtype), grid), grid, output_size)

    def _tiles(self, image: Tensor, grid: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Standardised features of the tiles, joined, (B, C, factor * h, factor * w)."""
        height, width = (side * self.backbone.stride for side in grid)
        seen = tuple(self.backbone.input_size((height, width)))
        if seen != (height, width):
            raise ValueError(
                f"grid is {grid}, for which a tile would have {height} x {width} pixels, but the backbone brings those "
                f"to {seen[0]} x {seen[1]}: expected the grid of an image that the backbone takes as it is"
            )
        size = height * self.factor, width * self.factor
        # A frozen backbone: without this, its parameters would make autograd keep every activation.
        with torch.set_grad_enabled(torch.is_grad_enabled() and image.requires_grad):
            image01 = to_image01(image.to(torch.promote_types(image.dtype, torch.float32)))
            whole = F.interpolate(image01, size=size, mode="bilinear", align_corners=False)
            rows = [list(row.split(width, dim=3)) for row in whole.split(height, dim=2)]
            features = [[self.backbone.extract(tile).features.to(dtype) for tile in row] for row in rows]
        shape = tuple(features[0][0].shape[2:])
        if shape != grid:
            raise ValueError(f"grid is {grid}, but the backbone makes {shape} of {height} x {width} pixels")
        return torch.cat([torch.cat([self.standardize(tile) for tile in row], dim=3) for row in features], dim=2)
