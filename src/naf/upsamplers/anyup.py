"""AnyUp: Universal Feature Upsampling (arXiv 2510.12764).

Queries and keys as in JAFAR; a learned filter bank turns features of any channel count into a code of fixed width,
and each output pixel attends to a window of the coarse grid. One set of weights serves every backbone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.registry import register
from naf.upsamplers.checks import check_map, whole_number
from naf.upsamplers.cross_attention import (
    EPS,
    GROUPS,
    Conv,
    CrossAttentionUpsampler,
    CrossDecode,
    Encoder,
    ResidualBlock,
    Rotation,
    check_widths,
)

_CODE_BYTES = 64 << 20  # of the filter bank's responses held at once


class Block(ResidualBlock):
    """The residual block under AnyUp's names."""

    def __init__(self, channels: int) -> None:
        nn.Module.__init__(self)
        self.block = nn.Sequential(
            nn.GroupNorm(GROUPS, channels, EPS),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.GroupNorm(GROUPS, channels, EPS),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1, bias=False),
        )

    def layers(self) -> Iterator[tuple[nn.GroupNorm, nn.Conv2d]]:
        """Norm and convolution of both steps."""
        norm1, _, conv1, norm2, _, conv2 = self.block
        assert isinstance(norm1, nn.GroupNorm)
        assert isinstance(norm2, nn.GroupNorm)
        assert isinstance(conv1, nn.Conv2d)
        assert isinstance(conv2, nn.Conv2d)
        yield norm1, conv1
        yield norm2, conv2


class Unification(nn.Module):
    """Features of any channel count → a code of `channels` channels.

    Each feature channel is filtered by every learned kernel, zero-padded, and divided by the number of taps inside
    the map. The C * channels responses are laid out channel by channel and then read as (channels, C): softmax over
    the first axis, mean over the second. The paper means "softmax over the kernels, mean over the feature channels";
    the released code reads the layout otherwise, and its weights were trained so.

    The result is given less its mean, 1 / channels. It varies by a small part of that mean only (1e-4 for untrained
    weights), and the norms that follow remove the mean: kept apart, it costs no digits.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(channels, 1, kernel, kernel) / kernel)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, channels, h, w), the mean over the channels 0."""
        batch, channels, height, width = features.shape
        kernel = self.basis.shape[-1]
        padding = kernel // 2
        padded = F.pad(features, (padding,) * 4)
        inside = F.pad(features.new_ones(1, 1, height, width), (padding,) * 4)
        taps = F.conv2d(inside, inside.new_ones(1, 1, kernel, kernel))[0, 0]  # (h, w)
        basis = self.basis.to(features.dtype).flatten(1).T  # (taps, channels)
        row = batch * width * channels * basis.shape[1] * features.element_size()
        step = max(1, _CODE_BYTES // row)
        bands = []
        for start in range(0, height, step):
            stop = min(start + step, height)
            windows = padded[:, :, start : stop + 2 * padding].unfold(2, kernel, 1).unfold(3, kernel, 1)
            windows = windows.permute(0, 2, 3, 1, 4, 5).flatten(4)  # (B, rows, w, C, taps)
            response = windows @ basis / taps[start:stop, :, None, None]  # (B, rows, w, C, channels)
            bands.append(_centred_softmax(response.flatten(3).unflatten(3, (-1, channels))).mean(4))
        return torch.cat(bands, dim=1).permute(0, 3, 1, 2)


def _centred_softmax(x: Tensor) -> Tensor:
    """softmax(x) - 1 / n over dimension 3, without the cancellation."""
    above = (x - x.amax(3, keepdim=True)).expm1()
    return (above - above.mean(3, keepdim=True)) / (x.shape[3] + above.sum(3, keepdim=True))


@register("anyup", paper="arXiv 2510.12764", summary="AnyUp: attention to a window, any features")
class AnyUp(CrossAttentionUpsampler):
    """AnyUp.

    Args:
        input_dim: channels of the image.
        qk_dim: width of queries and keys, a multiple of 8 and of num_heads.
        kernel_size: of the image encoder's first convolution, 1 in all releases, or 3.
        kernel_size_lfu: of the filter bank, odd.
        window_ratio: half the window's side as a share of the grid's; 0 or less attends to the whole grid.
        num_heads: attention heads.
        q_chunk_size: output pixels at a time, about (whole rows); None for as many as suit the device.
        resize_image: resize the image bilinearly to output_size first, the call behind NAF's tables; the authors'
            own call takes it as it is.

    Raises:
        ValueError: for values outside the above.
    """

    normalizes_queries = False
    smallest_grid = 2  # the aggregation pads by reflection
    calling_options = ("q_chunk_size", "resize_image")

    def __init__(
        self,
        input_dim: int = 3,
        qk_dim: int = 128,
        kernel_size: int = 1,
        kernel_size_lfu: int = 5,
        window_ratio: float = 0.1,
        num_heads: int = 4,
        q_chunk_size: int | None = None,
        *,
        resize_image: bool = False,
    ) -> None:
        super().__init__()
        check_widths(qk_dim, num_heads)
        self.image_channels = whole_number("input_dim", input_dim, 1)
        if kernel_size not in (1, 3):
            raise ValueError(f"kernel_size is {kernel_size!r}, expected 1 or 3")
        if whole_number("kernel_size_lfu", kernel_size_lfu, 1) % 2 == 0:
            raise ValueError(f"kernel_size_lfu is {kernel_size_lfu}, expected an odd integer")
        self.q_chunk_size = _chunk(q_chunk_size)
        if not (isinstance(window_ratio, int | float) and math.isfinite(window_ratio)):
            raise ValueError(f"window_ratio is {window_ratio!r}, expected a number")
        self.window_ratio, self.resize_image = float(window_ratio), resize_image
        self.image_encoder = _encoder(Conv(input_dim, qk_dim, kernel_size), qk_dim)
        self.key_encoder = _encoder(Conv(qk_dim, qk_dim, 1), qk_dim)
        self.query_encoder = _encoder(Conv(qk_dim, qk_dim, 1), qk_dim)
        self.key_features_encoder = _encoder(Unification(qk_dim, kernel_size_lfu), qk_dim)
        self.aggregation = _encoder(Conv(2 * qk_dim, qk_dim, 3), qk_dim)
        self.cross_decode = CrossDecode(qk_dim, num_heads, None)
        self.rope = Rotation(qk_dim)

    def forward(
        self,
        image: Tensor | None,
        features: Tensor,
        output_size: Sequence[int] | None = None,
        q_chunk_size: int | None = None,
    ) -> Tensor:
        """Upsample features; see :meth:`Upsampler.forward`.

        Args:
            image: (B, 3, H, W), ImageNet-normalised.
            features: (B, C, h, w), sides at least 2, not normalised.
            output_size: (Ho, Wo); None for the image's size, as in the authors' call.
            q_chunk_size: as for the constructor, for this call; the result is the same.

        Returns:
            (B, C, Ho, Wo), dtype of the features.
        """
        chunk = _chunk(q_chunk_size) or self.q_chunk_size
        if output_size is None:
            if image is None:
                raise TypeError("image is None, expected a tensor: it gives the size of the output")
            check_map("image", image, self.image_channels)
            output_size = image.shape[2:]
        guidance = self._guidance(image, features, output_size)
        if chunk is None:
            return guidance.upsample(features)
        rows = max(1, chunk // guidance.output_size[1])
        return torch.cat([band for _, band in guidance.iter_rows(features, rows)], dim=2)

    def _prepare(self, image: Tensor, output_size: tuple[int, int]) -> Tensor:
        if not self.resize_image or tuple(image.shape[2:]) == output_size:
            return image
        return F.interpolate(image, size=output_size, mode="bilinear", align_corners=False)

    def keys(self, pooled: Tensor, features: Tensor) -> Tensor:
        """Pooled keys of the images (B, D, h, w) and features (B, C, h, w) → key tokens (B, h, w, D)."""
        # The blocks add to what they are given and normalise it, so the mean may be added behind them.
        code = self.key_features_encoder(F.normalize(features, dim=1)) + 1 / pooled.shape[1]
        x = self.aggregation(torch.cat([pooled, code], dim=1))
        return self.cross_decode.cross_attn.keys(x.permute(0, 2, 3, 1))


def _encoder(first: nn.Module, channels: int) -> Encoder:
    return Encoder(first, [Block(channels) for _ in range(2)])


def _chunk(value: int | None) -> int | None:
    return None if value is None else whole_number("q_chunk_size", value, 1)
