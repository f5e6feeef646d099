"""LiFT: a lightweight feature transform, doubling the resolution a pass (arXiv 2403.14625).

A small U-Net block joins the features with two maps of the image. More than x2 is the same network again, on its own
output and on the doubled image. Trained for one backbone. Names in the state dict are those of the releases.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.rows import Rows, band_rows, conv_rows, join_bands, pick_points, resized_rows, rows_needed
from naf.registry import register
from naf.upsamplers.base import Guidance, Upsampler
from naf.upsamplers.checks import check_map, whole_number
from naf.upsamplers.execution import parameter_dtype, working_dtype
from naf.upsamplers.lift_network import IMAGE_CHANNELS, ImageMaps, Up, doubled_rows, folded, halving


class LiFTGuidance(Guidance):
    """Maps of a batch of images, a pair a pass."""

    def __init__(
        self,
        upsampler: LiFT,
        maps: Sequence[ImageMaps],
        grid: tuple[int, int],
        output_size: tuple[int, int],
        dtype: torch.dtype,
    ) -> None:
        super().__init__(maps[0].fine.shape[0], grid, output_size)
        self.maps, self._upsampler, self._dtype = maps, upsampler, dtype

    def _upsample(self, features: Tensor) -> Tensor:
        return self._bands(features)(0, self.output_size[0])

    def _bands(self, features: Tensor) -> Rows:
        x = features.to(self._dtype)
        for maps in self.maps[:-1]:
            size = maps.fine.shape[2:]
            x = join_bands(self._upsampler.one_pass(x, maps), 0, size[0], band_rows(size[1], x.device), x.dtype)
        last = self.maps[-1]
        made = (last.fine.shape[2], last.fine.shape[3])
        rows = self._upsampler.one_pass(x, last)
        make = rows if made == self.output_size else resized_rows(rows, made, self.output_size)
        step = band_rows(max(self.output_size[1], made[1]), x.device)
        return lambda start, stop: join_bands(make, start, stop, step, features.dtype)

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        return pick_points(self._bands(features), rows, cols, features)


@register(
    "lift",
    paper="arXiv 2403.14625",
    summary="LiFT: a U-Net block on image and features, x2 a pass",
    is_vfm_agnostic=False,
    ratios=(2, 4, 8, 16),
    channels_argument="in_channels",
)
class LiFT(Upsampler):
    """LiFT.

    The image is resized (bilinear) to patch_size times the coarse grid and doubled before each further pass; a last
    bilinear resize follows where the passes do not end at the output size.

    Args:
        in_channels: channels of the features, fixed by the training.
        patch_size: pixels of the image a coarse cell.
        pre_shape: features may come as tokens (B, h * w, C) too, where the image is patch_size times the grid.
        post_shape: part of the official configuration, which then gives tokens; here the output is always a map.
        adaptive: take any patch size, by adaptive pooling as in LoftUp's copy of the network; False refuses what the
            official code refuses. The same for 8 and 16.
        iterations: passes; None for as many as reach the output size.

    Raises:
        ValueError: for values outside the above.
    """

    is_linear = is_convex = keeps_constants = False
    has_attention = False
    calling_options = ("iterations",)

    def __init__(
        self,
        in_channels: int = 384,
        patch_size: int = 16,
        pre_shape: bool = False,
        post_shape: bool = False,
        adaptive: bool = True,
        iterations: int | None = None,
    ) -> None:
        super().__init__()
        channels, hidden = whole_number("in_channels", in_channels, 2), IMAGE_CHANNELS
        self.patch_size = whole_number("patch_size", patch_size, 1)
        if not adaptive and patch_size not in (8, 16):
            raise ValueError(f"patch_size is {patch_size}, expected 8 or 16 unless adaptive is True")
        for name, value in {"pre_shape": pre_shape, "post_shape": post_shape, "adaptive": adaptive}.items():
            if not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}, expected True or False")
        self.pre_shape = pre_shape
        self.iterations = None if iterations is None else whole_number("iterations", iterations, 1)
        self.feature_channels = channels
        self.up1 = Up(channels + hidden, channels // 2)
        self.outc = nn.Conv2d(channels // 2, channels, 1)
        self.image_convs_1 = nn.Sequential(*halving(3), *halving(hidden))
        self.image_convs_2 = nn.Sequential(*halving(hidden))

    def forward(
        self, image: Tensor | None, features: Tensor, output_size: Sequence[int], iterations: int | None = None
    ) -> Tensor:
        """Upsample features; see :meth:`Upsampler.forward`.

        Args:
            image: (B, 3, H, W), ImageNet-normalised.
            features: (B, C, h, w); with pre_shape also tokens (B, h * w, C), h = H // patch_size, w = W // patch_size.
            output_size: (Ho, Wo).
            iterations: passes of this call, instead of the constructor's.

        Returns:
            (B, C, Ho, Wo), channels last in memory.

        Raises:
            ValueError: as there, or for tokens that do not cover the image.
        """
        if iterations is not None:
            other = copy.copy(self)  # the same parameters
            other.iterations = whole_number("iterations", iterations, 1)
            return other.forward(image, features, output_size)
        if self.pre_shape and isinstance(features, Tensor) and features.ndim == 3:
            features = self._map_of_tokens(image, features)
        return super().forward(image, features, output_size)

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """The image's maps of all passes, with their making."""
        del image_size
        return 4 * 3 * IMAGE_CHANNELS * math.prod(output_size) + (64 << 20)

    def one_pass(self, x: Tensor, maps: ImageMaps) -> Rows:
        """One pass.

        Args:
            x: (B, C, h, w), in the working dtype.
            maps: of the image.

        Returns:
            What gives rows of the result (B, C, 2h, 2w).
        """
        up, height = self.up1.up, maps.fine.shape[2]
        assert up.bias is not None
        assert self.outc.bias is not None
        weight, bias = up.weight.to(x.dtype), up.bias.to(x.dtype)
        out_weight, out_bias = self.outc.weight.to(x.dtype), self.outc.bias.to(x.dtype)

        def doubled(start: int, stop: int) -> Tensor:
            """Rows of the transposed convolution beside those of the image."""
            first, last = start // 2, (stop + 1) // 2
            both = torch.cat([x[:, :, first:last], maps.coarse[:, :, first:last]], dim=1)
            both = both.contiguous(memory_format=torch.channels_last)
            rows = F.conv_transpose2d(both, weight, bias, stride=2)[:, :, start - 2 * first : stop - 2 * first]
            return torch.cat([rows, maps.fine[:, :, start:stop]], dim=1)

        layers = self.up1.conv_1.double_conv
        if layers.training:  # batch statistics: the whole map at once
            whole = F.conv2d(layers(doubled(0, height)), out_weight, out_bias)
            return lambda start, stop: whole[:, :, start:stop]
        first_conv, second_conv = folded(layers, x.dtype)

        def make(start: int, stop: int) -> Tensor:
            inner = rows_needed(start, stop, 1, height)
            outer = rows_needed(*inner, 1, height)
            hidden = conv_rows(doubled(*outer), first_conv, *inner, height)
            return F.conv2d(conv_rows(hidden, second_conv, start, stop, height), out_weight, out_bias)

        return make

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> LiFTGuidance:
        # Batch norm with the batch's statistics runs as PyTorch's layer, in the dtype of its parameters.
        dtype = parameter_dtype(self) if self.training else working_dtype(self, image.device)
        height, width = (self.patch_size * side for side in grid)
        image = image.to(dtype)
        if image.shape[2:] != (height, width):
            image = F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)
        maps: list[ImageMaps] = []
        for index in range(self._passes(grid, output_size)):
            if index > 1:
                image = doubled_rows(image, 0, 2 * image.shape[2])
            size = grid[0] << index, grid[1] << index
            maps.append(self._image_maps(image, size, doubled=index > 0))
        return LiFTGuidance(self, maps, grid, output_size, dtype)

    def _image_maps(self, image: Tensor, grid: tuple[int, int], *, doubled: bool) -> ImageMaps:
        """The image's maps for one pass; `doubled` stands for an image of twice the size, made band by band."""
        height, width = image.shape[2] << doubled, image.shape[3] << doubled
        fine = 2 * grid[0], 2 * grid[1]

        def pixels(start: int, stop: int) -> Tensor:
            rows = doubled_rows(image, start, stop) if doubled else image[:, :, start:stop]
            return rows.contiguous(memory_format=torch.channels_last)

        if self.training:
            pooled = F.adaptive_max_pool2d(self.image_convs_1(pixels(0, height)), fine)
            return ImageMaps(pooled, self.image_convs_2(pooled))
        first, second = folded(self.image_convs_1, image.dtype)
        (third,) = folded(self.image_convs_2, image.dtype)
        half, quarter = -(-height // 2), -(-height // 4)

        def make(start: int, stop: int) -> Tensor:
            inner = rows_needed(start, stop, 2, half)
            outer = rows_needed(*inner, 2, height)
            hidden = conv_rows(pixels(*outer), first, *inner, height)
            rows = conv_rows(hidden, second, start, stop, half)
            return F.adaptive_max_pool2d(rows, (stop - start, fine[1]))  # columns now, rows when all are there

        rows = join_bands(make, 0, quarter, band_rows(-(-width // 4), image.device), image.dtype)
        pooled = F.adaptive_max_pool2d(rows, fine)
        return ImageMaps(pooled, conv_rows(pooled, third, 0, grid[0], fine[0]))

    def _passes(self, grid: tuple[int, int], output_size: tuple[int, int]) -> int:
        if self.iterations is not None:
            return self.iterations
        passes = 1
        while grid[0] << passes < output_size[0] or grid[1] << passes < output_size[1]:
            passes += 1
        return passes

    def _map_of_tokens(self, image: Tensor | None, tokens: Tensor) -> Tensor:
        """(B, h * w, C) → (B, C, h, w)."""
        if image is None:
            raise TypeError("image is None, expected a tensor: LiFT is guided by the image")
        check_map("image", image, self.image_channels)
        height, width = (side // self.patch_size for side in image.shape[2:])
        if tokens.shape[1] != height * width:
            raise ValueError(
                f"features have {tokens.shape[1]} tokens, expected {height} x {width} = {height * width}: one for each "
                f"{self.patch_size} x {self.patch_size} pixels of the image"
            )
        features: Tensor = tokens.mT.unflatten(2, (height, width))
        return features
