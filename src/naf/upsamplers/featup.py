"""FeatUp's feed-forward upsampler, a stack of joint bilateral levels (arXiv 2403.10516).

Each level doubles the resolution: bicubic, then a 7x7 filter whose kernel the image gives. At the end all channels are
mixed, y + 0.1 * (W y + b). Filters that all channels share commute with that mixing, so the mixing is applied on the
coarse grid here, where it costs next to nothing, and only 0.1 * b is left for the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.adaptive_conv import adaptive_conv, adaptive_conv_points
from naf.ops.interpolation import axis_taps
from naf.ops.rows import band_rows, bands, join
from naf.ops.windows import make_windows
from naf.registry import register
from naf.upsamplers.base import Attention, Guidance, Upsampler
from naf.upsamplers.channel_norm import ChannelNorm
from naf.upsamplers.checks import whole_number
from naf.upsamplers.execution import working_dtype
from naf.upsamplers.filter_guidance import Filter, FilterGuidance
from naf.upsamplers.range_kernel import RangeKernel

_LEVELS = 4
_CORRECTION = 0.1  # share of the final mixing
_DROPOUT = 0.2


class Stack(nn.Module):
    """The levels and the final mixing; names are those of the official release."""

    def __init__(self, channels: int, key_dim: int, radius: int) -> None:
        super().__init__()
        for level in range(1, _LEVELS + 1):
            self.add_module(f"up{level}", RangeKernel(radius, key_dim, corrects=True))
        self.fixup_proj = nn.Sequential(nn.Dropout2d(_DROPOUT), nn.Conv2d(channels, channels, 1))

    def level(self, index: int) -> RangeKernel:
        """Level 0 … 3."""
        kernel = self.get_submodule(f"up{index + 1}")
        assert isinstance(kernel, RangeKernel)
        return kernel

    @property
    def mixing(self) -> nn.Conv2d:
        """The layer that mixes the channels."""
        conv = self.fixup_proj[1]
        assert isinstance(conv, nn.Conv2d)
        return conv


class StackGuidance(FilterGuidance):
    """The levels as filters, the channel norm and mixing before and the mixing's bias after them.

    Attributes:
        prepare: features (B, C, h, w) → normed and mixed cells (B, h, w, C).
        bias: added at the end, (C,).
        made: size of the last level's map, resized bilinearly to the output where it differs.
    """

    def __init__(
        self, levels: list[Filter], prepare: Callable[[Tensor], Tensor], bias: Tensor, output_size: tuple[int, int]
    ) -> None:
        super().__init__(levels, sums_to_one=False)
        self.prepare, self.bias = prepare, bias
        self.made, self.output_size = self.output_size, output_size

    def _cells(self, features: Tensor) -> Tensor:
        return self.prepare(features)

    def _upsample_linear(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if len(weight) > features.shape[1]:
            return Guidance._upsample_linear(self, features, weight, bias)
        # Only the norm, which comes first, must see all channels.
        weight = weight.to(self.bias.dtype)
        last = weight @ self.bias if bias is None else weight @ self.bias + bias.to(self.bias.dtype)
        return self._make(F.linear(self._cells(features), weight), last, features.dtype)(0, self.output_size[0])

    def _bands(self, features: Tensor) -> Callable[[int, int], Tensor]:
        return self._make(self._cells(features), self.bias, features.dtype)

    def _make(self, cells: Tensor, bias: Tensor, dtype: torch.dtype) -> Callable[[int, int], Tensor]:
        """What gives output rows start … stop - 1, (B, C, rows, W)."""
        source, last = self._source(cells), self.filters[-1]

        def last_level(start: int, stop: int) -> Tensor:
            return adaptive_conv(source, *last, start=start, stop=stop, bias=bias, dtype=dtype)

        def resized(start: int, stop: int) -> Tensor:
            step = band_rows(self.output_size[1], source.device)
            pieces = (self._resize(source, bias, *band) for band in bands(start, stop, step))
            return join(pieces, stop - start, dtype)

        make = last_level if self.made == self.output_size else resized
        return lambda start, stop: make(start, stop).permute(0, 3, 1, 2)

    def _resize(self, source: Tensor, bias: Tensor, start: int, stop: int) -> Tensor:
        """Rows of the last level's map brought to the output grid, (B, rows, W, C)."""
        (row_cells, down), (col_cells, right) = self._corners(source)
        # From the definition of bilinear taps: values of tensors may not steer a traced call.
        scale = self.made[0] / self.output_size[0]
        first = max(math.floor((start + 0.5) * scale - 0.5), 0)
        last = min(max(math.floor((stop - 0.5) * scale - 0.5), 0) + 2, self.made[0])
        made = adaptive_conv(source, *self.filters[-1], start=first, stop=last, bias=bias)
        top, bottom = (row_cells[start:stop] - first).unbind(1)
        rows = torch.lerp(made[:, top], made[:, bottom], down[start:stop, None, None])
        return torch.lerp(rows[:, :, col_cells[:, 0]], rows[:, :, col_cells[:, 1]], right[:, None])

    def _corners(self, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each output row and column: the two of the last level around it, (n, 2), and the share of the second."""
        taps = [axis_taps("bilinear", fine, made) for fine, made in zip(self.output_size, self.made, strict=True)]
        return [(cells, weight[:, 1].to(like.dtype).to(like.device)) for cells, weight in taps]

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        source, last = self._source(self._cells(features)), self.filters[-1]
        if self.made == self.output_size:
            points = adaptive_conv_points(source, *last, rows, cols)
        else:
            (row_cells, down), (col_cells, right) = self._corners(source)
            around = row_cells[rows].T.repeat_interleave(2, 0), col_cells[cols].T.repeat(2, 1)  # (4, N) each
            four = adaptive_conv_points(source, *last, *(index.flatten() for index in around))
            top, bottom = four.unflatten(1, (2, 2, -1)).unbind(1)  # (B, 2, N, C) each
            left, beyond = torch.lerp(top, bottom, down[rows.to(down.device), None]).unbind(1)
            points = torch.lerp(left, beyond, right[cols.to(right.device), None])
        return (points + self.bias).transpose(1, 2).to(features.dtype)

    def _attention(self, row: int, col: int, features: Tensor | None) -> Attention:
        return Guidance._attention(self, row, col, features)  # the norm makes it non-linear: there are none


@register(
    "featup",
    summary="FeatUp's stack of joint bilateral levels, each x2",
    paper="arXiv 2403.10516",
    is_vfm_agnostic=False,
    ratios=(2, 4, 8, 16),
    channels_argument="feat_dim",
)
class FeatUp(Upsampler):
    """FeatUp's joint bilateral stack.

    Args:
        feat_dim: channels of the features, fixed by the training.
        use_norm: whether a layer norm over the channels comes first.
        key_dim: channels of the range projections.
        radius: of the windows, at least 1.
        ratio: 2, 4, 8 or 16: how far the levels go, before the map is resized bilinearly where output_size is another.
            None takes the levels that give output_size exactly, otherwise all four.
        feature_dim: another name of feat_dim, which it overrides.

    Raises:
        ValueError: for values outside the above.
    """

    is_linear = is_convex = keeps_constants = False
    has_attention = False
    calling_options = ("ratio",)

    def __init__(
        self,
        feat_dim: int = 384,
        use_norm: bool = True,
        key_dim: int = 32,
        radius: int = 3,
        ratio: int | None = None,
        *,
        feature_dim: int | None = None,
    ) -> None:
        super().__init__()
        if feature_dim is not None:
            if feat_dim not in (384, feature_dim):
                raise ValueError(f"feat_dim is {feat_dim} and feature_dim {feature_dim}, expected one of them")
            feat_dim = whole_number("feature_dim", feature_dim, 1)
        self.feature_channels = whole_number("feat_dim", feat_dim, 1)
        whole_number("key_dim", key_dim, 1)
        self.radius = whole_number("radius", radius, 1)
        if ratio not in (None, 2, 4, 8, 16):
            raise ValueError(f"ratio is {ratio!r}, expected 2, 4, 8, 16 or None")
        self.ratio = ratio
        self.smallest_grid = radius // 2 + 1  # reflection on the first level, of twice the grid
        self.upsampler = Stack(feat_dim, key_dim, radius)
        self.norm = ChannelNorm(feat_dim) if use_norm else None
        self.normalizes_features = use_norm

    @classmethod
    def adapt_state(cls, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The norm under the name it has here; of a training file the upsampler and the norm alone."""
        renamed = {key.replace("model.1.norm.", "norm.norm.", 1): value for key, value in state.items()}
        is_training_file = any(key.startswith(("model.", "downsampler.", "scale_net.")) for key in state)
        own = ("upsampler.", "norm.norm.")
        return {key: value for key, value in renamed.items() if not is_training_file or key.startswith(own)}

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """The weights of 100 cells a pixel, over all levels, and bands of kernels."""
        del image_size
        return 4 * 134 * math.prod(output_size) + (64 << 20)

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> StackGuidance:
        image = image.to(working_dtype(self, image.device))
        levels, size = [], grid
        for level in range(self._count(output_size, grid)):
            coarse, size = size, (2 * size[0], 2 * size[1])
            windows = make_windows("bicubic", size, coarse, self.radius)
            guide = F.adaptive_avg_pool2d(image, size)
            levels.append(Filter(self.upsampler.level(level).cell_weights(guide, windows), windows))
        bias = self.upsampler.mixing.bias
        assert bias is not None
        return StackGuidance(levels, self._prepare, _CORRECTION * bias.to(image.dtype), output_size)

    def _count(self, output_size: tuple[int, int], grid: tuple[int, int]) -> int:
        """How many levels are taken."""
        if self.ratio is not None:
            return self.ratio.bit_length() - 1
        exact = (n for n in range(1, _LEVELS + 1) if output_size == (grid[0] << n, grid[1] << n))
        return next(exact, _LEVELS)

    def _prepare(self, features: Tensor) -> Tensor:
        dtype = working_dtype(self, features.device)
        with torch.autocast(features.device.type, enabled=False):
            cells = features.permute(0, 2, 3, 1).to(dtype)
            if self.norm is not None:
                cells = self.norm(cells)
            # Dropping whole channels commutes with the levels too.
            kept = F.dropout2d(cells.new_ones(*features.shape[:2], 1, 1), _DROPOUT, self.training).permute(0, 2, 3, 1)
            return cells + _CORRECTION * F.linear(cells * kept, self.upsampler.mixing.weight.flatten(1).to(dtype))
