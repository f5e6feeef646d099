"""What JAFAR and AnyUp share: an image encoder, a positional rotation, and attention whose values are the features.

The heads' weights are averaged and weigh the raw features, so each output is a weighted mean of features. Keys
depend on the features too, so a guidance holds the queries and the pooled keys of the image, and an upsampling
finishes the keys. Names in the state dicts are those of the official releases.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.attention import neighborhood_attention, point_scores
from naf.ops.autograd import savable
from naf.ops.neighborhood import Neighborhood, make_window
from naf.ops.norm_act import Moments
from naf.ops.points import average_at, scores_at
from naf.ops.residual import NormActLinear, bands_of, residual_blocks_
from naf.upsamplers.base import Attention, Guidance, Upsampler
from naf.upsamplers.checks import whole_number
from naf.upsamplers.execution import needs_plain_layers, working_dtype

GROUPS, EPS = 8, 1e-5  # of every group norm

_ROWS_BYTES = 4 << 20  # of a band of the query convolution


class ResidualBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), 1x1 convolutions without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, EPS)
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, channels, EPS)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)

    def layers(self) -> Iterator[tuple[nn.GroupNorm, nn.Conv2d]]:
        """Norm and convolution of both steps."""
        yield self.norm1, self.conv1
        yield self.norm2, self.conv2

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) → the same shape, in the dtype of x."""
        y = x
        for norm, conv in self.layers():
            weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
            y = F.conv2d(F.silu(F.group_norm(y, GROUPS, weight, bias, EPS)), conv.weight.to(x.dtype))
        return x + y


class Encoder(nn.Sequential):
    """A convolution without bias, then residual blocks."""

    def __init__(self, first: nn.Module, blocks: Iterable[ResidualBlock]) -> None:
        super().__init__(first, *blocks)

    def steps(self, dtype: torch.dtype) -> list[tuple[NormActLinear, NormActLinear]]:
        """The blocks' parameters, as :func:`residual_blocks_` takes them."""
        blocks = [module for module in self if isinstance(module, ResidualBlock)]
        return [
            tuple(NormActLinear(*(p.to(dtype) for p in (n.weight, n.bias, c.weight))) for n, c in block.layers())  # type: ignore[misc]
            for block in blocks
        ]


class Conv(nn.Conv2d):
    """A convolution without bias that pads by reflection and works in the dtype of its input."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H, W)."""
        padding = self.kernel_size[0] // 2
        if min(x.shape[2:]) <= padding:
            raise ValueError(
                f"a map is {tuple(x.shape[2:])}, expected at least {padding + 1} on each side for the reflect padding "
                f"of a {self.kernel_size[0]}x{self.kernel_size[0]} convolution"
            )
        padded = F.pad(x, (padding,) * 4, mode="reflect") if padding else x
        return F.conv2d(padded, self.weight.to(x.dtype))


class Rotation(nn.Module):
    """Positional rotation by learned frequencies: E cos(a) + R(E) sin(a), a = (row, column) @ freqs.

    R maps the halves (x, y) of the channels to (-y, x). Coordinates run from 0 to 1, both ends included.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter = 100.0 ** torch.linspace(0, -1, channels // 4)
        freqs = torch.zeros(2, channels)
        freqs[0, : channels // 2] = freqs[1, channels // 2 :] = 2 * math.pi * quarter.repeat(2)
        self.freqs = nn.Parameter(freqs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) → the same shape."""
        cos, sin = (table.permute(2, 0, 1) for table in self.tables(x.shape[2], x.shape[3], x.dtype))
        first, second = x.chunk(2, dim=1)
        return x * cos + torch.cat([-second, first], dim=1) * sin

    def rotate_(self, x: Tensor) -> None:
        """The same for one map (H, W, D), in place, in bands of rows. No gradients."""
        height, width, channels = x.shape
        rows, cols = self._axes(height, width, x.dtype)
        half = channels // 2
        step = max(1, (1 << 18) // (width * channels))
        for start in range(0, height, step):
            band = x[start : start + step]
            cos, sin = _combine(rows[:, start : start + step], cols)
            turned = torch.cat([band[..., half:] * -sin[..., :half], band[..., :half] * sin[..., half:]], dim=-1)
            band.mul_(cos).add_(turned)

    def tables(self, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine at each position, (H, W, D)."""
        return _combine(*self._axes(height, width, dtype))

    def _axes(self, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine along the rows, (2, H, D), and along the columns, (2, W, D)."""
        freqs = self.freqs.to(torch.promote_types(dtype, torch.float32))
        axes = []
        for size, frequency in zip((height, width), freqs, strict=True):
            angle = torch.linspace(0, 1, size, dtype=freqs.dtype, device=freqs.device)[:, None] * frequency
            axes.append(torch.stack([angle.cos(), angle.sin()]).to(dtype))
        return axes[0], axes[1]


def _combine(rows: Tensor, cols: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the sums of row and column angles: no cosine is taken a pixel."""
    (cos_row, sin_row), (cos_col, sin_col) = rows[:, :, None], cols[:, None]
    return cos_row * cos_col - sin_row * sin_col, sin_row * cos_col + cos_row * sin_col


class CrossAttention(nn.Module):
    """Norms and projections of queries and keys.

    `attention` holds parameters only. Its value projection, its output projection and `norm_v` are part of the
    published files and never reach the output.
    """

    def __init__(self, dim: int, heads: int, value_dim: int | None) -> None:
        super().__init__()
        self.norm_q = nn.RMSNorm(dim)
        self.norm_k = nn.RMSNorm(dim)
        if value_dim is not None:
            self.norm_v = nn.RMSNorm(value_dim)
        self.attention = nn.MultiheadAttention(dim, heads, vdim=value_dim, batch_first=True)

    def queries(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D), heads side by side."""
        return self._project(x, self.norm_q, 0)

    def keys(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D), heads side by side."""
        return self._project(x, self.norm_k, 1)

    def _project(self, x: Tensor, norm: nn.RMSNorm, part: int) -> Tensor:
        packed = self.attention.in_proj_weight
        weight = (self.attention.q_proj_weight, self.attention.k_proj_weight)[part] if packed is None else None
        if weight is None:
            weight = packed.chunk(3)[part]
        bias = self.attention.in_proj_bias.chunk(3)[part]
        normalised = F.rms_norm(x, (x.shape[-1],), norm.weight.to(x.dtype))
        return F.linear(normalised, weight.to(x.dtype), bias.to(x.dtype))


class CrossDecode(nn.Module):
    """A 3x3 convolution of the queries, zero-padded, and the attention."""

    def __init__(self, dim: int, heads: int, value_dim: int | None) -> None:
        super().__init__()
        self.cross_attn = CrossAttention(dim, heads, value_dim)
        self.conv2d = nn.Conv2d(dim, dim, 3, padding=1, bias=False)


class CrossAttentionGuidance(Guidance):
    """Queries of a batch of images, and what finishes the keys once the features are known.

    Attributes:
        queries: (B, n, Ho, Wo, d).
        pooled: keys of the images before the features have their say, (B, D, h, w).
        neighborhood: which coarse cells each output pixel attends to.
    """

    def __init__(
        self, upsampler: CrossAttentionUpsampler, queries: Tensor, pooled: Tensor, neighborhood: Neighborhood
    ) -> None:
        super().__init__(queries.shape[0], neighborhood.grid, neighborhood.output_size)
        self.queries, self.pooled, self.neighborhood = queries, pooled, neighborhood
        self._upsampler = upsampler
        self.heads, self.scale = queries.shape[1], 1 / math.sqrt(queries.shape[-1])

    def keys(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, n, h, w, d)."""
        pooled, values = savable(self.pooled, features.to(self.pooled.dtype))
        return split_heads(self._upsampler.keys(pooled, values), self.heads)

    def _attend(self, keys: Tensor, features: Tensor, start: int, stop: int) -> Tensor:
        values, band = features.permute(0, 2, 3, 1)[:, None], self.neighborhood.band(start, stop)
        out = neighborhood_attention(self.queries[:, :, start:stop], keys, values, band, scale=self.scale)
        return out[:, 0].permute(0, 3, 1, 2)

    def _upsample(self, features: Tensor) -> Tensor:
        return self._attend(self.keys(features), features, 0, self.output_size[0])

    def _bands(self, features: Tensor) -> Callable[[int, int], Tensor]:
        keys = self.keys(features)
        return lambda start, stop: self._attend(keys, features, start, stop)

    def _upsample_linear(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if weight.shape[0] >= weight.shape[1]:
            return super()._upsample_linear(features, weight, bias)
        # Given the keys the output is linear in the values and the weights sum to one: the head, bias included, first.
        values = F.conv2d(features, weight[:, :, None, None], bias)
        return self._attend(self.keys(features), values, 0, self.output_size[0])

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        keys, values, parts = self.keys(features), features.permute(0, 2, 3, 1)[:, None], []
        for row, col in zip(rows.split(1024), cols.split(1024), strict=True):
            cells = self.neighborhood.rows[row].to(keys.device), self.neighborhood.cols[col].to(keys.device)
            scores = scores_at(self.queries[:, :, row, col], keys, *cells, self.scale)
            points = average_at(scores, values, *cells)
            parts.append(points[:, 0].mT)
        return torch.cat(parts, dim=2) if parts else features.new_empty(*features.shape[:2], 0)

    def _attention(self, row: int, col: int, features: Tensor | None) -> Attention:
        if features is None:
            raise TypeError("features is None, expected (B, C, h, w): the weights of this method depend on them")
        rows, cols = (
            table[table >= 0].to(self.queries.device)
            for table in (self.neighborhood.rows[row], self.neighborhood.cols[col])
        )
        query = self.queries[:, :, row, col][:, :, None]
        weights = point_scores(query, self.keys(features), rows[None], cols[None], self.scale).softmax(-1)
        return Attention(weights.mean(1).unflatten(-1, (len(rows), len(cols))), rows, cols)


class CrossAttentionUpsampler(Upsampler):
    """Base of JAFAR and AnyUp; subclasses fill in the encoders and finish the keys."""

    is_linear = False  # the keys depend on the features
    image_encoder: Encoder
    query_encoder: Encoder
    key_encoder: Encoder
    rope: Rotation
    cross_decode: CrossDecode
    normalizes_queries: bool
    window_ratio: float
    """Half a window's side as a share of the grid's, 0 or less for the whole grid."""

    @abstractmethod
    def keys(self, pooled: Tensor, features: Tensor) -> Tensor:
        """Pooled keys of the images (B, D, h, w) and features (B, C, h, w) → key tokens (B, h, w, D)."""

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """Three maps at the size of the image, and the queries."""
        dim = self.cross_decode.conv2d.in_channels
        return 4 * dim * (3 * math.prod(image_size) + math.prod(output_size)) + (64 << 20)

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> CrossAttentionGuidance:
        dtype = working_dtype(self, image.device)
        image = self._prepare(image.to(dtype), output_size)
        if needs_plain_layers(self, image):
            queries, pooled = self._encode_plain(image, output_size, grid)
        else:
            parts = [self._encode_lean(each, output_size, grid) for each in image]
            queries, pooled = (torch.stack(part) for part in zip(*parts, strict=True))
        heads = self.cross_decode.cross_attn.attention.num_heads
        window = make_window(grid, output_size, self.window_ratio)
        return CrossAttentionGuidance(self, split_heads(queries, heads), pooled, window)

    def _prepare(self, image: Tensor, output_size: tuple[int, int]) -> Tensor:
        del output_size
        return image

    def _encode_plain(self, image: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        encoded = self.rope(self.image_encoder(image))
        x = F.adaptive_avg_pool2d(self.query_encoder(encoded), size)
        if self.normalizes_queries:
            x = F.group_norm(x, GROUPS, eps=EPS)
        x = F.conv2d(x, self.cross_decode.conv2d.weight.to(x.dtype), padding=1)
        queries = self.cross_decode.cross_attn.queries(x.permute(0, 2, 3, 1))
        return queries, F.adaptive_avg_pool2d(self.key_encoder(encoded), grid)

    def _encode_lean(self, image: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Queries (Ho, Wo, D) and pooled keys (D, h, w) of one image; three maps are held."""
        first = self.image_encoder[0](image[None].contiguous(memory_format=torch.channels_last))
        height, width = image.shape[1:]
        x = first[0].permute(1, 2, 0).reshape(height * width, -1)
        del first
        inner = torch.empty_like(x)
        residual_blocks_(x, inner, self.image_encoder.steps(x.dtype), groups=GROUPS, eps=EPS)
        self.rope.rotate_(x.unflatten(0, (height, width)))
        keys = torch.empty_like(x)
        _encode_into(x, self.key_encoder, keys, inner)
        pooled = pool_tokens(keys.unflatten(0, (height, width)), grid).permute(2, 0, 1)
        _encode_into(x, self.query_encoder, x, inner)
        del inner
        tokens = pool_tokens(x.unflatten(0, (height, width)), size)
        # The keys' map has served once they are pooled; on a grid of the image's size it is the pooled keys itself.
        is_free = size == (height, width) != grid
        out = keys.unflatten(0, size) if is_free else tokens.new_empty(*size, tokens.shape[-1])
        self._queries_into(tokens, out)
        return out, pooled

    def _queries_into(self, x: Tensor, out: Tensor) -> None:
        """Norm, 3x3 convolution and projection of tokens (H, W, D), in bands of rows."""
        height, width, channels = x.shape
        scale, shift = x.new_ones(channels), x.new_zeros(channels)
        if self.normalizes_queries:
            moments = Moments()
            tokens = x.flatten(0, 1)
            for band in bands_of(tokens):
                moments.add(tokens[band])
            scale, shift = moments.affine(scale, shift, GROUPS, EPS)
        weight = self.cross_decode.conv2d.weight.to(x.dtype).contiguous(memory_format=torch.channels_last)
        step = max(1, _ROWS_BYTES * torch.get_num_threads() // (width * channels * x.element_size()))
        for start in range(0, height, step):
            stop = min(start + step, height)
            top, bottom = max(start - 1, 0), min(stop + 1, height)
            padded = x.new_zeros(stop - start + 2, width + 2, channels)
            inner = padded[top - start + 1 : bottom - start + 1, 1:-1]
            torch.addcmul(shift, x[top:bottom], scale, out=inner)
            rows = F.conv2d(padded.permute(2, 0, 1)[None], weight)[0].permute(1, 2, 0)
            out[start:stop] = self.cross_decode.cross_attn.queries(rows)


def _encode_into(x: Tensor, encoder: Encoder, out: Tensor, inner: Tensor) -> None:
    """Tokens (N, D) through an encoder that starts with a 1x1 convolution; `out` may be x."""
    first = encoder[0]
    assert isinstance(first, nn.Conv2d)
    weight = first.weight.to(x.dtype).flatten(1).T
    for band in bands_of(x):
        out[band] = x[band] @ weight
    residual_blocks_(out, inner, encoder.steps(x.dtype), groups=GROUPS, eps=EPS)


def pool_tokens(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Adaptive average pooling of one map (H, W, D); the map itself where the size is right already."""
    if tuple(x.shape[:2]) == size:
        return x
    return F.adaptive_avg_pool2d(x.permute(2, 0, 1)[None], size)[0].permute(1, 2, 0)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(B, H, W, D) → (B, n, H, W, d)."""
    split: Tensor = tokens.unflatten(-1, (heads, -1)).permute(0, 3, 1, 2, 4)
    return split


def check_widths(qk_dim: int, num_heads: int) -> None:
    """Refuse widths that groups, heads or the rotation do not divide.

    Raises:
        ValueError: if so.
    """
    whole_number("num_heads", num_heads, 1)
    for divisor, why in ((GROUPS, "the groups of the norms"), (4, "the rotation"), (num_heads, "num_heads")):
        if whole_number("qk_dim", qk_dim, 1) % divisor:
            raise ValueError(f"qk_dim is {qk_dim}, expected a multiple of {divisor} ({why})")
