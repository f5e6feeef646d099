"""Restormer (Zamir et al., CVPR 2022, arXiv 2111.09881): a U-shaped transformer that attends between channels.

The standard network: layer norms with a bias, convolutions without. Names in the state dict are the authors'.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.restoration.registry import register
from naf.restoration.tiled import TiledRestorer
from naf.upsamplers.checks import whole_number


@register(
    "restormer",
    paper="arXiv 2111.09881",
    summary="Restormer: a U-shaped transformer with attention between channels",
)
class Restormer(TiledRestorer):
    """Four levels of transformer blocks, each at half the sides and twice the channels of the one above.

    Its attention compares channels over all pixels, so that every output pixel depends on the whole image.

    Args:
        dim: channels at the first level, a multiple of heads[0].
        num_blocks: blocks of each level, the last being the bottom.
        num_refinement_blocks: blocks after the last decoder.
        heads: attention heads of each level.
        ffn_expansion_factor: width of the feed-forward part over that of the block.

    Raises:
        ValueError: for values outside the above.
    """

    multiple = 8

    def __init__(
        self,
        dim: int = 48,
        num_blocks: Sequence[int] = (4, 6, 6, 8),
        num_refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        ffn_expansion_factor: float = 2.66,
    ) -> None:
        super().__init__()
        self.dim = whole_number("dim", dim, 1)
        for name, value in (("num_blocks", num_blocks), ("heads", heads)):
            if len(value) != 4:
                raise ValueError(f"{name} is {value!r}, expected four numbers, one a level")
        blocks = [whole_number(f"num_blocks[{level}]", count, 1) for level, count in enumerate(num_blocks)]
        widths = [dim << level for level in range(4)]
        for level, (width, count) in enumerate(zip(widths, heads, strict=True)):
            whole_number(f"heads[{level}]", count, 1)
            if width % count or width % 2:
                raise ValueError(
                    f"dim is {dim}, expected {width} channels of level {level + 1} to be even and a "
                    f"multiple of heads[{level}] = {count}"
                )
        if not ffn_expansion_factor * dim >= 1:
            raise ValueError(f"ffn_expansion_factor is {ffn_expansion_factor!r}, expected at least one channel")

        def stack(width: int, count: int, number: int) -> nn.Sequential:
            return nn.Sequential(*(_Block(width, number, ffn_expansion_factor) for _ in range(count)))

        self.patch_embed = _Embedding(dim)
        self.encoder_level1 = stack(widths[0], blocks[0], heads[0])
        self.down1_2 = _Halving(widths[0])
        self.encoder_level2 = stack(widths[1], blocks[1], heads[1])
        self.down2_3 = _Halving(widths[1])
        self.encoder_level3 = stack(widths[2], blocks[2], heads[2])
        self.down3_4 = _Halving(widths[2])
        self.latent = stack(widths[3], blocks[3], heads[3])
        self.up4_3 = _Doubling(widths[3])
        self.reduce_chan_level3 = nn.Conv2d(2 * widths[2], widths[2], 1, bias=False)
        self.decoder_level3 = stack(widths[2], blocks[2], heads[2])
        self.up3_2 = _Doubling(widths[2])
        self.reduce_chan_level2 = nn.Conv2d(2 * widths[1], widths[1], 1, bias=False)
        self.decoder_level2 = stack(widths[1], blocks[1], heads[1])
        self.up2_1 = _Doubling(widths[1])
        # The uppermost decoder keeps both halves, the skip's and its own: twice the channels of its level.
        self.decoder_level1 = stack(2 * dim, blocks[0], heads[0])
        self.refinement = stack(2 * dim, whole_number("num_refinement_blocks", num_refinement_blocks, 0), heads[0])
        self.output = nn.Conv2d(2 * dim, 3, 3, padding=1, bias=False)

    @property
    def bytes_per_pixel(self) -> int:
        """The widest maps of a block of the uppermost decoder, and the skips."""
        return 4 * 40 * self.dim

    def _restore(self, noisy: Tensor) -> Tensor:
        skip1 = self.encoder_level1(self.patch_embed(noisy))
        skip2 = self.encoder_level2(self.down1_2(skip1))
        skip3 = self.encoder_level3(self.down2_3(skip2))
        x = self.up4_3(self.latent(self.down3_4(skip3)))
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([x, skip3], 1)))
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x), skip2], 1)))
        x = self.refinement(self.decoder_level1(torch.cat([self.up2_1(x), skip1], 1)))
        residual: Tensor = self.output(x)
        return noisy + residual


class _Embedding(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 3, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.proj(image)
        return out


class _Halving(nn.Module):
    """(B, C, H, W) → (B, 2C, H/2, W/2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class _Doubling(nn.Module):
    """(B, C, H, W) → (B, C/2, 2H, 2W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class _Block(nn.Module):
    """Attention between channels and a gated feed-forward part, each on normalised input and added to it."""

    def __init__(self, width: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm1 = _PixelNorm(width)
        self.attn = _ChannelAttention(width, heads)
        self.norm2 = _PixelNorm(width)
        self.ffn = _GatedFeedForward(width, int(width * expansion))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class _PixelNorm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x.permute(0, 2, 3, 1))
        return out.permute(0, 3, 1, 2)


class _ChannelAttention(nn.Module):
    """Each output channel is a weighted mean of its head's channels; weights compare them over all pixels."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=False)
        self.project_out = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.qkv_dwconv(self.qkv(x))  # (B, 3C, H, W)
        q, k, v = maps.unflatten(1, (3, self.heads, -1)).flatten(4).unbind(1)  # (B, n, C/n, H*W) each
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature  # (B, n, C/n, C/n)
        mixed = scores.softmax(-1) @ v
        out: Tensor = self.project_out(mixed.flatten(1, 2).unflatten(2, x.shape[2:]))
        return out


class _GatedFeedForward(nn.Module):
    """Two halves of a wider map, one through GELU gating the other."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(width, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        out: Tensor = self.project_out(F.gelu(gate) * value)
        return out
