"""The same spectrum pixel by pixel, before keys are pooled (arXiv 2511.18452, appendix A, eq. 18-22).

A key is the mean of the queries q' of its cell, so the score of a cell is the mean of the scores of its pixels. These
follow from the map G before RoPE: with r the length of a pair of G and Ψ the angle from the pair at p to that at q',

    S(p, q') = Σ_c r_c(p) r_c(q') cos(Ψ_c + ΔΦ_c)                                   (eq. 22)
             = Σ_c (G_c(p)·G_c(q')) cos ΔΦ_c − (G_c(p) × G_c(q')) sin ΔΦ_c          (eq. 18)

That holds at every ratio: where it is no integer, adaptive pooling takes the plain mean of windows that overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from naf.upsamplers.base import Guidance, Upsampler
from naf.visualization.spectrum_pairs import Source, cell_pixels


@dataclass(frozen=True, eq=False)
class PixelSpectrum:
    """One output pixel against every output pixel under its neighborhood; m RoPE heads in each of n attention heads.

    Attributes:
        products: conj(G_c(p)) G_c(q') with the score's factor, (n, m, J, 2, Hp, Wp) complex128. The real part is the
            dot product of eq. 18, the imaginary part the cross product.
        turns: ΔΦ in radians, (J, 2, Hp, Wp).
        row_windows: rows of these pixels that each coarse row of the neighborhood averages.
        col_windows: likewise for columns.
    """

    products: Tensor
    turns: Tensor
    row_windows: tuple[slice, ...]
    col_windows: tuple[slice, ...]

    @classmethod
    @torch.no_grad()
    def of_guidance(cls, upsampler: Upsampler, guidance: Guidance, row: int, col: int) -> PixelSpectrum:
        """As :meth:`naf.visualization.spectrum.Spectrum.of_guidance`.

        It holds 8 bytes for each channel and pixel under the neighborhood, 42 MB for NAF at ratio 16, and takes three
        times as much while it is made.
        """
        source = Source.of(upsampler, guidance, row, col)
        guidance, encoder = source.guidance, source.upsampler.image_encoder
        down, across = source.region
        scales = source.upsampler.coordinate_scales(guidance.grid)
        angles = encoder.angles(guidance.output_size, guidance.queries.dtype, scales)
        row_angles, col_angles = (table.detach().double().cpu() for table in angles)  # (Ho, J), (Wo, J)
        size = len(source.periods), down.stop - down.start, across.stop - across.start
        from_row = (row_angles[down] - row_angles[source.row]).T[:, :, None].expand(size)
        from_col = (col_angles[across] - col_angles[source.col]).T[:, None].expand(size)
        turns = torch.stack([from_row, from_col], dim=1)  # (J, 2, Hp, Wp)
        # G is what RoPE turned: turned back, without encoding again.
        around = source.pairs(guidance.queries[0, :, down, across])
        here = torch.stack([row_angles[source.row], col_angles[source.col]], dim=1)  # (J, 2)
        own = source.own * torch.polar(torch.ones_like(here), -here)
        there = turns + here[..., None, None]
        around *= torch.polar(torch.ones_like(there), -there)
        around *= guidance.scale * own.conj()[..., None, None]
        (h, w), (height, width) = guidance.grid, guidance.output_size
        return cls(
            around,
            turns,
            _windows(source.rows, h, height, down.start),
            _windows(source.cols, w, width, across.start),
        )

    @property
    def magnitudes(self) -> Tensor:
        """r_c(p) r_c(q') with the score's factor, (n, m, J, 2, Hp, Wp)."""
        return self.products.abs()

    @property
    def phases(self) -> Tensor:
        """Ψ_c in radians, -π … π, (n, m, J, 2, Hp, Wp)."""
        return self.products.angle()

    def by_products(self) -> Tensor:
        """Eq. 18, summed over the RoPE heads of a band: (n, J, 2, Hp, Wp)."""
        return (self.products.real * self.turns.cos() - self.products.imag * self.turns.sin()).sum(1)

    def by_phases(self) -> Tensor:
        """Eq. 22, summed over the RoPE heads of a band: (n, J, 2, Hp, Wp)."""
        return (self.magnitudes * (self.phases + self.turns).cos()).sum(1)

    def cell_means(self, values: Tensor) -> Tensor:
        """Means over the pixels of each cell, which make scores of pixels scores of cells.

        Args:
            values: (…, Hp, Wp).

        Returns:
            (…, kh, kw).
        """
        rows = torch.stack([values[..., window, :].mean(-2) for window in self.row_windows], dim=-2)
        return torch.stack([rows[..., window].mean(-1) for window in self.col_windows], dim=-1)


def _windows(cells: Tensor, coarse: int, fine: int, first: int) -> tuple[slice, ...]:
    windows = (cell_pixels(int(cell), coarse, fine) for cell in cells)
    return tuple(slice(window.start - first, window.stop - first) for window in windows)
