"""Spatial kernels in place of RoPE: the score of a pixel and a cell falls with their distance (NAF, eq. 6, table 7).

The factor exp(-|p - q| / (2 σ²)) multiplies the content score inside the softmax, with the sum of absolute differences
("manhattan") or of squares ("gaussian") for the norm, and σ is learned. The paper leaves open the unit, whether heads
share σ and where it starts. Here: coarse cells, one σ a head, a quarter of the window's width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from naf.ops.attention import Backend
from naf.ops.attention_factors import factored_attention
from naf.ops.neighborhood import Neighborhood
from naf.upsamplers.naf_guidance import NeighborhoodGuidance

Position = Literal["rope", "none", "manhattan", "gaussian"]


class SpatialKernel(nn.Module):
    """Learned width of each attention head's factor.

    Args:
        norm: "manhattan" or "gaussian".
        heads: attention heads.
        kernel_size: cells a side of the window.

    Attributes:
        log_sigma: ln σ, (heads,), σ in coarse cells; its exponential cannot become 0.
    """

    def __init__(self, norm: Position, heads: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = norm
        self.log_sigma = nn.Parameter(torch.full((heads,), math.log((kernel_size - 1) / 4)))

    def forward(self, fine: int, coarse: int, dtype: torch.dtype) -> Tensor:
        """Factors along one axis of `fine` positions over `coarse` cells, (heads, fine, coarse).

        That of a pixel and a cell is the product of their rows' and their columns' one.
        """
        device = self.log_sigma.device
        position = (torch.arange(fine, device=device) + 0.5).to(dtype) * (coarse / fine) - 0.5
        distance = (position[:, None] - torch.arange(coarse, device=device)).abs()
        power = distance.square() if self.norm == "gaussian" else distance
        return torch.exp(-power / (2 * torch.exp(2 * self.log_sigma.to(dtype))[:, None, None]))


class SpatialGuidance(NeighborhoodGuidance):
    """Queries and keys without a position of their own, and factors on their scores.

    Attributes:
        row_factors: (n, Ho, h).
        col_factors: (n, Wo, w).
    """

    def __init__(
        self,
        queries: Tensor,
        keys: Tensor,
        neighborhood: Neighborhood,
        backend: Backend,
        order: Tensor | None,
        kernel: SpatialKernel,
    ) -> None:
        super().__init__(queries, keys, neighborhood, backend, order)
        dtype = torch.promote_types(queries.dtype, torch.float32)
        (ho, wo), (h, w) = neighborhood.output_size, neighborhood.grid
        self.row_factors, self.col_factors = kernel(ho, h, dtype), kernel(wo, w, dtype)

    def scores(self) -> Tensor:
        """Scaled scores before the softmax, factors included, (B, n, Ho, Wo, kh * kw), kernel rows slowest."""
        rows, cols = (x.to(self.keys.device) for x in (self.neighborhood.rows, self.neighborhood.cols))
        row = self.row_factors.gather(2, rows.expand(self.heads, -1, -1))[:, :, None, :, None]
        col = self.col_factors.gather(2, cols.expand(self.heads, -1, -1))[:, None, :, None, :]
        factors: Tensor = row * col
        return super().scores() * factors.flatten(3)

    def _attend(self, values: Tensor, start: int, stop: int) -> Tensor:
        queries, neighborhood = self.queries[:, :, start:stop], self.neighborhood.band(start, stop)
        factors = self.row_factors[:, start:stop], self.col_factors
        with torch.autocast(queries.device.type, enabled=False):
            return factored_attention(queries, self.keys, values, neighborhood, *factors, scale=self.scale)

    def _point_scores(self, rows: Tensor, cols: Tensor, dtype: torch.dtype) -> Tensor:
        near_rows, near_cols = self.neighborhood.rows[rows], self.neighborhood.cols[cols]
        row = self.row_factors[:, rows[:, None], near_rows][..., :, None]  # (n, N, kh, 1)
        col = self.col_factors[:, cols[:, None], near_cols][..., None, :]
        factors: Tensor = row * col
        return super()._point_scores(rows, cols, dtype) * factors.flatten(2).to(dtype)
