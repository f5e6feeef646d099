"""What NAF's scores are made of: channel pairs that RoPE turns, as complex numbers, and how fast they turn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from naf.upsamplers.base import Guidance, Upsampler
from naf.upsamplers.checks import whole_number
from naf.upsamplers.naf import NAF
from naf.upsamplers.naf_guidance import NeighborhoodGuidance
from naf.upsamplers.naf_position import SpatialGuidance


@dataclass(frozen=True, eq=False)
class Source:
    """One output pixel of a guidance, and the upsampler that the guidance came from; both fit what follows.

    Attributes:
        upsampler: with RoPE and keys that are means of queries.
        guidance: of one image.
        row: output row.
        col: output column.
        rows: coarse rows of the pixel's neighborhood, (kh,) int64 on the CPU.
        cols: coarse columns, (kw,) int64 on the CPU.
    """

    upsampler: NAF
    guidance: NeighborhoodGuidance
    row: int
    col: int
    rows: Tensor
    cols: Tensor

    @classmethod
    def of(cls, upsampler: Upsampler, guidance: Guidance, row: int, col: int) -> Source:
        """Check that the four fit.

        Raises:
            ValueError: if not, or if scores of such an upsampler are no sums of waves.
        """
        naf = check_upsampler(upsampler)
        if not isinstance(guidance, NeighborhoodGuidance) or isinstance(guidance, SpatialGuidance):
            raise ValueError(f"guidance is a {type(guidance).__name__}, expected one that the upsampler encoded")
        heads, width = guidance.heads, guidance.heads * guidance.queries.shape[-1]
        if (heads, width) != (naf.heads_attn, naf.dim):
            raise ValueError(
                f"guidance has {width} channels in {heads} heads, the upsampler {naf.dim} in {naf.heads_attn}: "
                "expected one that this upsampler encoded"
            )
        if guidance.batch != 1:
            raise ValueError(f"guidance has batch {guidance.batch}, expected one image")
        height, width = guidance.output_size
        row, col = whole_number("row", row, 0, height - 1), whole_number("col", col, 0, width - 1)
        tables = guidance.neighborhood
        return cls(naf, guidance, row, col, tables.rows[row].cpu(), tables.cols[col].cpu())

    @property
    def frequencies(self) -> Tensor:
        """Cycles per coarse cell of each band along rows and columns, (J, 2) float64."""
        scales, grid = self.upsampler.coordinate_scales(self.guidance.grid), self.guidance.grid
        # Coordinates run over 2 · scale from edge to edge.
        step = [2 * float(scale) / side for scale, side in zip(scales, grid, strict=True)]
        return torch.tensor(step, dtype=torch.float64) / self.periods[:, None]

    @property
    def periods(self) -> Tensor:
        """λ of each band in RoPE's coordinate, (J,) float64."""
        return self.upsampler.image_encoder.rope.periods.detach().double().cpu()

    @property
    def region(self) -> tuple[slice, slice]:
        """Rows and columns of the output under the neighborhood."""
        down, across = (
            slice(cell_pixels(int(cells.min()), h, height).start, cell_pixels(int(cells.max()), h, height).stop)
            for cells, h, height in zip(
                (self.rows, self.cols), self.guidance.grid, self.guidance.output_size, strict=True
            )
        )
        return down, across

    @property
    def own(self) -> Tensor:
        """The pixel's query as pairs, (n, m, J, 2)."""
        return self.pairs(self.guidance.queries[0, :, self.row, self.col])

    def pairs(self, x: Tensor) -> Tensor:
        """Queries or keys as complex numbers: a turn by RoPE is a product with exp(iΦ).

        Args:
            x: (n, …, d), as the guidance holds them.

        Returns:
            (n, m, J, 2, …) complex128 on the CPU: attention head, RoPE head within it, band, axis (rows, columns).
        """
        joined, order = x.detach().movedim(0, -2).flatten(-2).double().cpu(), self.guidance.order
        if order is not None:
            joined = joined[..., order.cpu().argsort()]
        # A RoPE head holds the first channels of all pairs, then the second ones; each half rows, then columns.
        split = joined.unflatten(-1, (x.shape[0], self.upsampler.heads_rope // x.shape[0], 2, 2, -1))
        pairs = torch.complex(split[..., 0, :, :], split[..., 1, :, :])  # (…, n, m, 2, J)
        return pairs.movedim((-4, -3, -1, -2), (0, 1, 2, 3))


def check_upsampler(upsampler: Upsampler) -> NAF:
    """The upsampler, if its scores are sums of waves.

    Raises:
        ValueError: if not.
    """
    if not isinstance(upsampler, NAF):
        name = getattr(upsampler, "name", "") or type(upsampler).__name__
        raise ValueError(f"upsampler is {name}, expected NAF: only its scores are sums of waves")
    label = upsampler.name or "NAF"
    for name, expected in (("position", "rope"), ("key_pooling", "average")):
        if getattr(upsampler, name) != expected:
            raise ValueError(
                f"upsampler is {label} with {name}={getattr(upsampler, name)!r}, expected {name}={expected!r}: only "
                "there scores are sums of waves"
            )
    if upsampler.heads_rope % upsampler.heads_attn:
        raise ValueError(
            f"upsampler is {label} with heads_rope={upsampler.heads_rope} and heads_attn={upsampler.heads_attn}, "
            "expected a multiple: else the two channels that turn together lie in different attention heads"
        )
    if upsampler.training and upsampler.rope_rescale != 1:
        raise ValueError(
            f"upsampler is {label} in training mode, where frequencies are drawn anew at each call: call eval() first"
        )
    return upsampler


def cell_pixels(cell: int, coarse: int, fine: int) -> slice:
    """The output positions that a key is the mean of, along one axis: the window of adaptive average pooling."""
    return slice(cell * fine // coarse, -(-(cell + 1) * fine // coarse))
