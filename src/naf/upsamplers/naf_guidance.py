"""What NAF makes of an image: queries and keys, and the attention over a neighborhood of coarse cells."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from naf.ops.attention import Backend, neighborhood_attention, neighborhood_scores
from naf.ops.attention_blocked import compute_dtype
from naf.ops.neighborhood import Neighborhood
from naf.ops.points import average_at, scores_at
from naf.upsamplers.base import Attention, Guidance


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

    def with_neighborhood(self, neighborhood: Neighborhood) -> NeighborhoodGuidance:
        """The same queries and keys with other windows, e.g. of another kernel size; nothing is encoded again.

        Args:
            neighborhood: between the same grids.

        Raises:
            ValueError: if it is between others.
        """
        grids = neighborhood.grid, neighborhood.output_size
        if grids != (self.grid, self.output_size):
            raise ValueError(f"neighborhood is between {grids}, the guidance between {(self.grid, self.output_size)}")
        other = copy.copy(self)
        other.neighborhood = neighborhood
        return other

    def scores(self) -> Tensor:
        """Scaled scores before the softmax, (B, n, Ho, Wo, kh * kw), kernel rows slowest."""
        return neighborhood_scores(self.queries, self.keys, self.neighborhood, scale=self.scale)

    def _check_features(self, features: Tensor) -> None:
        super()._check_features(features)
        check_heads(features, self.heads, self.heads * self.queries.shape[-1])

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
        dtype = compute_dtype(self.queries, self.keys, values)
        for row, col in zip(rows.split(4096), cols.split(4096), strict=True):
            cells = self.neighborhood.rows[row].to(self.keys.device), self.neighborhood.cols[col].to(self.keys.device)
            points = average_at(self._point_scores(row, col, dtype), values, *cells)
            parts.append(points.permute(0, 1, 3, 2).flatten(1, 2))  # (B, C, N)
        return torch.cat(parts, dim=2) if parts else features.new_empty(*features.shape[:2], 0)

    def _point_scores(self, rows: Tensor, cols: Tensor, dtype: torch.dtype) -> Tensor:
        """Scaled scores of N output pixels, (B, n, N, kh * kw), in dtype."""
        near_rows, near_cols = (
            table.to(self.keys.device) for table in (self.neighborhood.rows[rows], self.neighborhood.cols[cols])
        )
        queries = self.queries[:, :, rows, cols].to(dtype)
        return scores_at(queries, self.keys, near_rows, near_cols, self.scale)

    def _attention(self, row: int, col: int, features: Tensor | None) -> Attention:
        del features  # the weights come from the image alone
        rows, cols = self.neighborhood.rows[row].to(self.keys.device), self.neighborhood.cols[col].to(self.keys.device)
        dtype = compute_dtype(self.queries, self.keys)
        weights = self._point_scores(torch.tensor([row]), torch.tensor([col]), dtype).softmax(-1)
        return Attention(weights[:, :, 0].unflatten(-1, (len(rows), len(cols))), rows, cols)


def _merge_heads(x: Tensor) -> Tensor:
    """(B, n, H, W, e) as (B, n*e, H, W); free of copies for the attention's memory layout."""
    return x.permute(0, 2, 3, 1, 4).flatten(3).permute(0, 3, 1, 2)


def check_heads(features: Tensor, heads: int, dim: int) -> None:
    """Refuse features whose channels the heads do not divide, and say what would do.

    Raises:
        ValueError: then.
    """
    channels = features.shape[1]
    if channels % heads:
        full = -(-channels // heads) * heads
        divisors = " or ".join(str(n) for n in range(1, heads) if channels % n == 0 and dim % n == 0)
        raise ValueError(
            f"features have {channels} channels, which heads_attn={heads} does not divide: pad them with zeros to "
            f"{full} channels and drop the last {full - channels} of the output, take 'naf+', whose one head serves "
            f"any number, or weights that were trained with heads_attn={divisors}"
        )
