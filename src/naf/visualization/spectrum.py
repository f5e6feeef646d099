"""NAF's score of a pixel and a coarse cell as a sum of waves (arXiv 2511.18452, appendix A, eq. 10 and 18-24).

RoPE turns each pair of channels by an angle that grows with the position: band j by one turn every λ_j. So a pair's
part of the score is a wave in the distance from the pixel to the cell. Its magnitude is the product of the two lengths,
its phase the angle between what the encoder saw here and there. The sum of the waves is the score. Everything is
computed in float64 from the guidance's own queries and keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from naf.upsamplers.base import Guidance, Upsampler
from naf.upsamplers.checks import whole_number
from naf.visualization.spectrum_pairs import Source, check_upsampler


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The scores of one output pixel, band by band; n attention heads, J bands, axes 0 (rows) and 1 (columns).

    The n heads hold m RoPE heads each, which have the same bands: their m waves of a band are one wave here.

    Attributes:
        position: output pixel (row, column).
        grid: coarse grid (h, w).
        output_size: (Ho, Wo).
        rows: coarse rows of the neighborhood, (kh,) int64.
        cols: coarse columns, (kw,) int64. One that occurs twice counts twice.
        periods: λ_j in RoPE's coordinate, (J,).
        frequencies: ω_j / 2π in cycles per coarse cell along rows and columns, (J, 2).
        power: squared length of the pixel's own pairs with the score's factor, (n, J, 2): the amplitudes of a score
            with itself.
        waves: conj(Q) K with the score's factor, (n, J, 2, kh, kw) complex128.
        weights: the guidance's own attention, (n, kh, kw); the softmax of :attr:`scores`.
        pixel_scores: score with each output pixel under the neighborhood, (n, Hp, Wp); its mean over the pixels of a
            cell is the cell's score.
        corner: output row and column of the first of these pixels.
    """

    position: tuple[int, int]
    grid: tuple[int, int]
    output_size: tuple[int, int]
    rows: Tensor
    cols: Tensor
    periods: Tensor
    frequencies: Tensor
    power: Tensor
    waves: Tensor
    weights: Tensor
    pixel_scores: Tensor
    corner: tuple[int, int]

    @classmethod
    @torch.no_grad()
    def of_guidance(cls, upsampler: Upsampler, guidance: Guidance, row: int, col: int) -> Spectrum:
        """The spectrum of one more pixel of an image that is encoded already.

        Args:
            upsampler: NAF with RoPE, in evaluation mode.
            guidance: what its `encode` gave for one image.
            row: output row, 0 … Ho - 1.
            col: output column, 0 … Wo - 1.

        Raises:
            ValueError: for another upsampler, a guidance of another or of several images, a pixel outside.
        """
        source = Source.of(upsampler, guidance, row, col)
        guidance, own = source.guidance, source.own
        keys = guidance.keys[0].index_select(1, source.rows.to(guidance.keys.device))
        keys = source.pairs(keys.index_select(2, source.cols.to(guidance.keys.device)))  # (n, m, J, 2, kh, kw)
        down, across = source.region
        dtype = torch.promote_types(guidance.queries.dtype, torch.float32)
        around = guidance.queries[0, :, down, across].to(dtype)
        near = torch.einsum("nhwd,nd->nhw", around, guidance.queries[0, :, source.row, source.col].to(dtype))
        return cls(
            (source.row, source.col),
            guidance.grid,
            guidance.output_size,
            source.rows,
            source.cols,
            source.periods,
            source.frequencies,
            guidance.scale * own.abs().square().sum(1),
            guidance.scale * (own.conj()[..., None, None] * keys).sum(1),
            guidance.attention(source.row, source.col).weights[0].double().cpu(),
            guidance.scale * near.double().cpu(),
            (down.start, across.start),
        )

    @property
    def row_offsets(self) -> Tensor:
        """Distance from the pixel's centre down to the centre of each coarse row, (kh,), in cells."""
        return self._offsets(self.rows, 0)

    @property
    def col_offsets(self) -> Tensor:
        """Distance from the pixel's centre to the right to the centre of each coarse column, (kw,), in cells."""
        return self._offsets(self.cols, 1)

    @property
    def amplitudes(self) -> Tensor:
        """A of eq. 23, (n, J, 2, kh, kw)."""
        return self.waves.abs()

    @property
    def phases(self) -> Tensor:
        """Ψ of eq. 23 in radians, -π … π, (n, J, 2, kh, kw): what differs but the position; 0 where nothing does."""
        return (self.waves * torch.polar(torch.ones_like(self.turns), -self.turns)).angle()

    @property
    def turns(self) -> Tensor:
        """ω Δ of eq. 23 in radians, (J, 2, kh, kw): what the way from the pixel to the cell adds to the phase."""
        size = len(self.periods), len(self.rows), len(self.cols)
        down = _angles(self.frequencies[:, 0], self.row_offsets)[:, :, None].expand(size)
        across = _angles(self.frequencies[:, 1], self.col_offsets)[:, None].expand(size)
        return torch.stack([down, across], dim=1)

    @property
    def contributions(self) -> Tensor:
        """A cos(Ψ + ω Δ): each band's part of the score, (n, J, 2, kh, kw)."""
        return self.waves.real

    @property
    def scores(self) -> Tensor:
        """Sum of the contributions, (n, kh, kw): the guidance's scaled scores before the softmax."""
        return self.contributions.sum((1, 2))

    @property
    def low_pass(self) -> Tensor:
        """What the mean over a cell's pixels leaves of each band, (J, 2): sin(πf) / (s sin(πf/s)) at ratio s.

        Exact where the ratio is an integer.
        """
        ratio = [fine / coarse for fine, coarse in zip(self.output_size, self.grid, strict=True)]
        return low_pass(self.frequencies, torch.tensor(ratio, dtype=torch.float64))

    def kernel(self, rows: Tensor, cols: Tensor, cell: tuple[int, int] | None = None) -> Tensor:
        """Eq. 23: Σ A cos(Ψ + ω Δ) at any distance, with one set of amplitudes and phases.

        Args:
            rows: distances down, (R,), in cells.
            cols: distances to the right, (C,), in cells.
            cell: index (i, j) into rows and columns of the neighborhood: its amplitudes and phases. None: those that
                every cell would have if all looked like the pixel itself, power times low-pass and 0, so what
                position alone makes of the pixel's frequencies.

        Returns:
            (n, R, C). With a cell, its value at the cell's own distance is the cell's score.
        """
        if cell is None:
            factors = torch.complex(self.power * self.low_pass, torch.zeros_like(self.power))
        else:
            factors = torch.polar(self.amplitudes, self.phases)[..., cell[0], cell[1]]  # (n, J, 2)
        down, across = (
            (factors[..., axis, None] * torch.polar(torch.ones_like(angles), angles)).real.sum(1)
            for axis, angles in (
                (0, _angles(self.frequencies[:, 0], rows.double())),
                (1, _angles(self.frequencies[:, 1], cols.double())),
            )
        )
        summed: Tensor = down[:, :, None] + across[:, None]
        return summed

    def of_head(self, head: int | None) -> Spectrum:
        """One attention head alone, or the mean of all as one: n is 1.

        Args:
            head: 0 … n - 1; None for the mean, whose weights are the mean of the heads' and no softmax of its scores.

        Raises:
            ValueError: for a head that is not there.
        """
        chosen = slice(None) if head is None else slice(whole_number("head", head, 0, len(self.weights) - 1), head + 1)
        names = ("power", "waves", "weights", "pixel_scores")
        return replace(self, **{name: getattr(self, name)[chosen].mean(0, keepdim=True) for name in names})

    def _offsets(self, cells: Tensor, axis: int) -> Tensor:
        own = (self.position[axis] + 0.5) * self.grid[axis] / self.output_size[axis]
        return cells.double() + 0.5 - own


def spectrum(
    upsampler: Upsampler, image: Tensor, grid: Sequence[int], output_size: Sequence[int], row: int, col: int
) -> Spectrum:
    """The scores of one output pixel, band by band.

    Args:
        upsampler: NAF with RoPE, in evaluation mode.
        image: (1, 3, H, W), ImageNet-normalised (see `naf.normalize`).
        grid: coarse grid (h, w).
        output_size: (Ho, Wo).
        row: output row, 0 … Ho - 1.
        col: output column, 0 … Wo - 1.

    Returns:
        Its spectrum. For more pixels of one image use :meth:`Spectrum.of_guidance`, which encodes nothing.

    Raises:
        TypeError, ValueError: as `upsampler.encode`; also for what :meth:`Spectrum.of_guidance` refuses.

    Example:
        >>> import naf, torch
        >>> upsampler = naf.create("naf+", weights=None)
        >>> image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> found = spectrum(upsampler, image, (8, 8), (64, 64), row=20, col=30)
        >>> found.contributions.shape  # heads, bands, axes, kernel rows and columns
        torch.Size([1, 16, 2, 8, 8])
        >>> torch.allclose(found.scores.flatten(1).softmax(1), found.weights.flatten(1), atol=1e-6)
        True
    """
    check_upsampler(upsampler)  # before the image is encoded for nothing
    with torch.no_grad():
        guidance = upsampler.encode(image, output_size, grid)
    return Spectrum.of_guidance(upsampler, guidance, row, col)


def low_pass(frequencies: Tensor, ratio: Tensor) -> Tensor:
    """What is left of a wave in the mean over the s pixels of a cell: sin(πf) / (s sin(πf/s)).

    Args:
        frequencies: f, cycles per cell, any shape.
        ratio: s, pixels a cell along the axis, broadcast with it.
    """
    turn = math.pi * frequencies / ratio  # half the angle from pixel to pixel
    whole = (turn / math.pi).round()
    is_whole = (turn - math.pi * whole).abs() < 1e-9  # all pixels in phase, or each second one in the opposite
    sign = torch.cos(math.pi * whole * (ratio - 1)).sign()
    gain = torch.sin(ratio * turn) / (ratio * torch.sin(turn).masked_fill(is_whole, 1))
    return torch.where(is_whole, sign, gain)


def _angles(frequencies: Tensor, offsets: Tensor) -> Tensor:
    """(J,) cycles per cell and (N,) cells as (J, N) radians."""
    return 2 * math.pi * frequencies[:, None] * offsets
