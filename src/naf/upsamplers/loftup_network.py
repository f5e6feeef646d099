"""LoftUp's layers: parameters under the official names, and what they compute on tokens.

Tokens are (B, n, D).
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.fourier import fourier_code, grid_coordinates
from naf.ops.linear import linear, normalize, project, runs_on_convolutions
from naf.upsamplers.channel_norm import ChannelNorm

_SCORES = 1 << 20  # attention weights a step on the CPU: 4 MiB

GRID_FREQUENCIES = 5  # of the coarse grid's position code
GRID_CHANNELS = 2 * 2 * GRID_FREQUENCIES


class KeysValues(NamedTuple):
    """Keys (B, n, cells, d), which hold the scale of the scores, and values (B, n, d, cells) of one layer."""

    keys: Tensor
    values: Tensor


class Phases(nn.Module):
    """Learned phases of a Fourier code, one for each channel and frequency, for sines and for cosines."""

    def __init__(self, channels: int, frequencies: int) -> None:
        super().__init__()
        self.biases = nn.Parameter(torch.randn(2, channels, frequencies))

    def forward(self, x: Tensor) -> Tensor:
        """Code of (…, channels), in the dtype of x, float32 or float64."""
        with torch.autocast(x.device.type, enabled=False):
            return fourier_code(x, self.biases.to(x.dtype))


class Colors(nn.Module):
    """Scale each colour channel to -0.5 … 0.5 by its extremes over the whole batch."""

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) → the same shape."""
        low, high = image.amin((0, 2, 3), keepdim=True), image.amax((0, 2, 3), keepdim=True)
        return (image - low) / (high - low).clamp(min=1e-4) - 0.5


class CrossAttention(nn.Module):
    """Attention of pixels to the cells of the coarse grid; one norm serves keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_q, self.norm_kv = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)  # holds parameters

    def keys_values(self, cells: Tensor) -> KeysValues:
        """Keys and values of the cells (B, cells, D)."""
        _, weight, bias = self._projections(cells.dtype)
        packed = linear(normalize(cells, self.norm_kv), weight, bias)
        heads = self.attention.num_heads
        keys, values = packed.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)
        return KeysValues((keys / math.sqrt(keys.shape[-1])).contiguous(), values.mT.contiguous())

    def forward(self, tokens: Tensor, cells: KeysValues) -> Tensor:
        """What is added to the tokens (B, n, D)."""
        heads = self.attention.num_heads
        (weight, bias), _, _ = self._projections(tokens.dtype)
        queries = normalize(tokens, self.norm_q)
        if runs_on_convolutions(tokens) and not tokens.requires_grad and not cells.keys.requires_grad:
            split = [linear(queries, *part) for part in zip(weight.chunk(heads), bias.chunk(heads), strict=True)]
            attended = _attend(split, cells)
        else:
            q = linear(queries, weight, bias).unflatten(-1, (heads, -1)).transpose(1, 2)
            merged = F.scaled_dot_product_attention(q, cells.keys, cells.values.mT.contiguous(), scale=1.0)
            attended = merged.transpose(1, 2).flatten(2)
        return project(attended, self.attention.out_proj)

    def _projections(self, dtype: torch.dtype) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """(weight, bias) of the queries; weight and bias of keys and values together."""
        packed, bias = self.attention.in_proj_weight.to(dtype), self.attention.in_proj_bias.to(dtype)
        dim = packed.shape[1]
        return (packed[:dim], bias[:dim]), packed[dim:], bias[dim:]


class FeedForward(nn.Module):
    """Norm, a hidden layer, GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        # The identity stands where the official network has a dropout of rate 0.
        self.net = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, dim)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """What is added to the tokens (B, n, D)."""
        norm, up, _, _, down = self.net
        hidden = F.gelu(project(normalize(tokens, cast(nn.LayerNorm, norm)), cast(nn.Linear, up)))
        return project(hidden, cast(nn.Linear, down))


class Transformer(nn.Module):
    """Layers of cross-attention and feed-forward, and a last norm."""

    def __init__(self, dim: int, heads: int, layers: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([CrossAttention(dim, heads), FeedForward(dim, hidden)]) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def keys_values(self, cells: Tensor) -> list[KeysValues]:
        """Of each layer; the cells (B, cells, D) are the same for all."""
        return [attention.keys_values(cells) for attention, _ in self._pairs()]

    def forward(self, tokens: Tensor, cells: list[KeysValues]) -> Tensor:
        """(B, n, D) → the same shape."""
        for (attention, feed_forward), layer_cells in zip(self._pairs(), cells, strict=True):
            tokens = tokens + attention(tokens, layer_cells)
            tokens = tokens + feed_forward(tokens)
        return normalize(tokens, self.norm)

    def _pairs(self) -> list[tuple[CrossAttention, FeedForward]]:
        return [cast("tuple[CrossAttention, FeedForward]", tuple(cast(nn.ModuleList, layer))) for layer in self.layers]


class Network(nn.Module):
    """All but the norm of the features.

    Args:
        dim: channels of the features and of the output.
        frequencies: of the Fourier code of coordinates and colours.
        heads: attention heads.
        layers: of the transformer.
    """

    def __init__(self, dim: int, frequencies: int, heads: int, layers: int) -> None:
        super().__init__()
        width, code = dim + GRID_CHANNELS, 2 * 5 * frequencies + 3
        self.lr_pe = Phases(2, GRID_FREQUENCIES)
        self.fourier_feat = nn.Sequential(Colors(), Phases(5, frequencies))
        convs = [nn.Conv2d(channels, width, 3, padding=1) for channels in (code, width)]
        self.first_conv = nn.Sequential(
            ChannelNorm(code), convs[0], nn.BatchNorm2d(width), nn.ReLU(), convs[1], nn.BatchNorm2d(width), nn.ReLU()
        )
        self.final_conv = nn.Sequential(nn.Conv2d(width, dim, 1), nn.LayerNorm(dim, eps=1e-6))
        self.ca_transformer = Transformer(width, heads, layers, dim)

    def code(self, colors: Tensor, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Normalised Fourier code of the pixels of some rows: the input of the convolutions.

        Args:
            colors: scaled colours of the whole image, (B, 3, H, W), float32 or float64.
            start: first row.
            stop: last row + 1.
            dtype: of the result; the code itself is computed in that of the colours.

        Returns:
            (B, 10 * frequencies + 3, stop - start, W), channels last in memory.
        """
        band = colors[:, :, start:stop].permute(0, 2, 3, 1)
        coordinates = self._coordinates((colors.shape[2], colors.shape[3]), slice(start, stop), band)
        waves = self.fourier_feat[1](torch.cat([coordinates, band], dim=-1))
        code: Tensor = self.first_conv[0](torch.cat([waves, band], dim=-1).to(dtype))
        return code.permute(0, 3, 1, 2)

    def cells(self, features: Tensor, code_dtype: torch.dtype) -> Tensor:
        """Tokens of the normalised features (B, h, w, dim) with their position code, (B, h * w, D)."""
        whole = (features.shape[1], features.shape[2])
        like = features[..., :1].to(code_dtype)
        position = self.lr_pe(self._coordinates(whole, slice(None), like)).to(features.dtype)
        return torch.cat([features, position], dim=-1).flatten(1, 2)

    def decode(self, tokens: Tensor, cells: list[KeysValues]) -> Tensor:
        """Pixels (B, n, D) → output (B, n, dim)."""
        conv, norm = cast(nn.Conv2d, self.final_conv[0]), cast(nn.LayerNorm, self.final_conv[1])
        return normalize(project(self.ca_transformer(tokens, cells), conv), norm)

    @staticmethod
    def _coordinates(size: tuple[int, int], rows: slice, like: Tensor) -> Tensor:
        """(B, rows, W, 2) for the batch, dtype and device of `like`."""
        pair = torch.stack(grid_coordinates(size, rows, like.dtype, like.device), dim=-1)
        return pair.expand(like.shape[0], -1, -1, -1)


def _attend(queries: list[Tensor], cells: KeysValues) -> Tensor:
    """Attention head by head, in steps of queries whose weights stay in cache. No gradients.

    Args:
        queries: of each head, (B, n, d).
        cells: keys and values.

    Returns:
        (B, n, heads * d).
    """
    batch, count, channels = queries[0].shape
    keys, values = cells
    step = min(count, max(64, _SCORES // keys.shape[2]))
    weights = keys.new_empty(1, step, keys.shape[2])  # written again and again: fresh memory costs more than a softmax
    out = keys.new_empty(batch, count, len(queries), channels)
    for head, query in enumerate(queries):
        for index in range(batch):
            for start in range(0, count, step):
                part = slice(start, min(start + step, count))
                scores = linear(query[index : index + 1, part], keys[index, head])
                torch.softmax(scores, -1, out=weights[:, : scores.shape[1]])
                out[index, part, head] = linear(weights[:, : scores.shape[1]], values[index, head])[0]
    return out.flatten(2)
