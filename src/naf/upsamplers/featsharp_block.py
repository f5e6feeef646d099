"""FeatSharp's block: attention within a window of pixels, and a gated feed-forward network.

Maps are (B, H, W, G) here. Attention works on tiles of pixels with their surroundings, never on all pairs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.linear import normalize, project

_TILE = 8  # pixels along a side that share one set of keys


class WindowAttention(nn.Module):
    """Attention of each pixel to those at most `window` rows and columns away, with linear biases (ALiBi).

    A head's width is rounded up to a power of two for queries and keys; values keep the real one. Head n lowers its
    scores by the distance in rows (n even) or columns (n odd) times 2^-floor((n + 2) / 2).

    Args:
        dim: channels, a multiple of heads.
        heads: attention heads.
        window: reach in rows and columns.
    """

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.width, self.window = heads, dim // heads, window
        padded = 1 << (self.width - 1).bit_length()
        self.qkv = nn.Linear(dim, 3 * heads * padded, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, first: int, last: int) -> Tensor:
        """Attention for some of the rows.

        Args:
            x: rows of the map, all within reach included, (B, R, W, G).
            first: first row of x to compute.
            last: last row of x to compute + 1.

        Returns:
            (B, last - first, W, G).
        """
        batch, height, width, _ = x.shape
        packed = project(x.flatten(1, 2), self.qkv).view(batch, height, width, 3, self.heads, -1)
        rows = [self._tile_row(packed, top, min(top + _TILE, last)) for top in range(first, last, _TILE)]
        merged: Tensor = project(torch.cat(rows, dim=1).flatten(1, 2), self.proj).unflatten(1, (-1, width))
        return merged

    def _tile_row(self, packed: Tensor, top: int, bottom: int) -> Tensor:
        """One row of tiles: (B, R, W, 3, n, d) → rows top … bottom - 1, (B, rows, W, G)."""
        batch, height, width = packed.shape[:3]
        reach, rows, tiles = self.window, bottom - top, -(-width // _TILE)
        low, high, right = max(top - reach, 0), min(bottom + reach, height), tiles * _TILE - width
        q = F.pad(packed[:, top:bottom, :, 0], (0, 0, 0, 0, 0, right)).unflatten(2, (tiles, _TILE))
        q = q.permute(0, 2, 4, 1, 3, 5).flatten(3, 4).flatten(0, 1)  # (B * tiles, n, pixels, d)
        around = F.pad(packed[:, low:high, :, 1:].flatten(3, 4), (0, 0, 0, 0, reach, reach + right))
        around = around.unfold(2, _TILE + 2 * reach, _TILE).permute(
            0, 2, 3, 1, 5, 4
        )  # (B, tiles, 2n, rows, columns, d)
        k, v = around.flatten(3, 4).flatten(0, 1).chunk(2, dim=1)  # (B * tiles, n, surroundings, d)
        mask = self._mask(range(top, bottom), range(low, high), width, tiles).to(q.device, q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, mask.repeat(batch, 1, 1, 1), scale=self.width**-0.5)
        out = out[..., : self.width].unflatten(2, (rows, _TILE)).unflatten(0, (batch, tiles))
        merged: Tensor = out.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)[:, :, :width]
        return merged

    def _mask(self, rows: range, around: range, width: int, tiles: int) -> Tensor:
        """What is added to the scores, (tiles, n, pixels, surroundings) float32."""
        reach, span = self.window, _TILE + 2 * self.window
        down = (torch.tensor(rows)[:, None] - torch.tensor(around)).abs()  # (rows, rows around)
        across = (torch.arange(_TILE)[:, None] + reach - torch.arange(span)).abs()  # (8, columns around)
        down, across = down[:, None, :, None].expand(-1, _TILE, -1, span), across[None, :, None, :]
        across = across.expand_as(down)
        column = torch.arange(tiles)[:, None] * _TILE - reach + torch.arange(span)
        inside = ((column >= 0) & (column < width)).repeat(1, len(around))  # (tiles, surroundings)
        near = ((down <= reach) & (across <= reach)).flatten(2).flatten(0, 1)
        slopes = [2.0 ** -((head + 2) // 2) * (across if head % 2 else down) for head in range(self.heads)]
        biases = -torch.stack(slopes).flatten(3).flatten(1, 2)  # (n, pixels, surroundings)
        # Finite: pixels that only pad a tile may see nothing, and their NaN would spoil gradients.
        return biases.masked_fill(~(near & inside[:, None])[:, None], -1e4)


class SwiGLU(nn.Module):
    """Gated feed-forward network.

    Args:
        inputs: channels of the input.
        outputs: channels of the output; the hidden width is 8/3 of it, rounded up to a multiple of 8.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = (4 * outputs * 2 // 3 + 7) // 8 * 8
        self.w12 = nn.Linear(inputs, 2 * hidden)
        self.w3 = nn.Linear(hidden, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, n, inputs) → (B, n, outputs)."""
        gate, value = project(tokens, self.w12).chunk(2, dim=-1)
        return project(F.silu(gate) * value, self.w3)


class LayerScale(nn.Module):
    """A learned factor for each channel, near zero at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """(…, channels) → the same shape."""
        return x * self.gamma.to(x.dtype)


class Block(nn.Module):
    """Attention and feed-forward network, a residual on the first half of the channels.

    Args:
        channels: C; the input has 2C, the output C.
        heads: attention heads.
        window: reach of the attention.
        use_layer_norm: whether layer norms stand before both parts.
    """

    def __init__(self, channels: int, heads: int, window: int, *, use_layer_norm: bool) -> None:
        super().__init__()
        self.channels = channels
        self.norm1: nn.Module = nn.LayerNorm(2 * channels) if use_layer_norm else nn.Identity()
        self.attn = WindowAttention(2 * channels, heads, window)
        self.ls1 = LayerScale(2 * channels)
        self.norm2: nn.Module = nn.LayerNorm(2 * channels) if use_layer_norm else nn.Identity()
        self.mlp = SwiGLU(2 * channels, channels)
        self.ls2 = LayerScale(channels)

    def forward(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Some rows of the result.

        Args:
            x: the whole map, (B, H, W, 2C).
            start: first row.
            stop: last row + 1.

        Returns:
            (B, stop - start, W, C).
        """
        low, high = max(start - self.attn.window, 0), min(stop + self.attn.window, x.shape[1])
        attended = self.attn(_normalized(x[:, low:high], self.norm1), start - low, stop - low)
        rows = x[:, start:stop] + self.ls1(attended)
        change = self.mlp(_normalized(rows, self.norm2).flatten(1, 2)).unflatten(1, (-1, x.shape[2]))
        sharpened: Tensor = rows[..., : self.channels] + self.ls2(change)
        return sharpened


def _normalized(x: Tensor, norm: nn.Module) -> Tensor:
    return normalize(x, norm) if isinstance(norm, nn.LayerNorm) else x
