"""The panels of :func:`naf.visualization.spectrum_figure.spectrum_figure`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from naf.visualization.heat import heat_colors, heat_range
from naf.visualization.spectrum import Spectrum
from naf.visualization.theme import Theme
from naf.visualization.typography import FONTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cell = tuple[int, int]

_FINE = 361  # points of a curve or a side of a kernel


@dataclass(frozen=True, eq=False)
class Scene:
    """What all panels share.

    Attributes:
        spectrum: of one head, or of the mean.
        theme: colours of paper and text.
        is_dark: whether the paper is.
    """

    spectrum: Spectrum
    theme: Theme
    is_dark: bool

    @property
    def colors(self) -> tuple[str, str]:
        """Of cell 1 and of cell 2; also told apart by those who see no red or no green."""
        return ("#58b4f0", "#f59a4e") if self.is_dark else ("#0b6fb8", "#d4600b")

    @cached_property
    def centre(self) -> Cell:
        """Index of the cell in whose row and column the pixel lies, or next to it."""
        rows, cols = self.spectrum.row_offsets.abs(), self.spectrum.col_offsets.abs()
        return int(rows.argmin()), int(cols.argmin())

    @cached_property
    def examples(self) -> list[Cell]:
        """Cells 1 and 2: on one line through the pixel, 1 no nearer to it than 2, the scores as far apart as they get.

        Where position alone would make 1 at most as good as 2, content makes it better. The higher score is first, also
        where there is no such pair. A window of one cell has no second.
        """
        (i, j), scores = self.centre, self.spectrum.scores[0]
        rows, cols = self.spectrum.rows, self.spectrum.cols
        lines = (
            [(i, other) for other in range(len(cols)) if cols[other] != cols[j]],
            [(other, j) for other in range(len(rows)) if rows[other] != rows[i]],
        )
        pairs = [
            [first, second]
            for line in lines
            for first, second in permutations(line, 2)
            if abs(self.distance(first)) > abs(self.distance(second)) - 0.75  # mirrored cells differ by up to one
        ]
        best = max(pairs, key=lambda pair: float(scores[pair[0]] - scores[pair[1]]), default=[self.centre])
        return sorted(best, key=lambda cell: -float(scores[cell]))

    @property
    def axis(self) -> int:
        """Of the line through both: 0 down, 1 across."""
        low = self.examples[-1]
        return 0 if low[0] != self.centre[0] else 1

    def distance(self, cell: Cell) -> float:
        """From the pixel along the line that the cell lies on, in cells."""
        offsets = self.spectrum.row_offsets[cell[0]], self.spectrum.col_offsets[cell[1]]
        return float(offsets[0] if cell[0] != self.centre[0] else offsets[1])

    def text(self, size: float, *, bold: bool = False, quiet: bool = False) -> dict[str, Any]:
        """How text looks, for matplotlib."""
        from matplotlib.font_manager import FontProperties

        face = FontProperties(fname=str(FONTS / f"Inter-{'SemiBold' if bold else 'Regular'}.ttf"), size=size)
        return {"fontproperties": face, "color": self.theme.quiet if quiet else self.theme.ink}

    def head(self, axes: Axes, title: str, caption: str) -> None:
        """Title and caption above a panel."""
        for text, lift, style in (
            (title, 22, self.text(12.5, bold=True)),
            (caption, 7, self.text(9.6, quiet=True)),
        ):
            axes.annotate(text, (0, 1), (0, lift), xycoords="axes fraction", textcoords="offset points", **style)

    def plain(self, axes: Axes) -> None:
        """Paper, two quiet axes, small figures."""
        axes.set_facecolor(self.theme.paper)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(self.theme.rule)
        axes.tick_params(length=0, pad=4)

    def label(self, axes: Axes, x: str = "") -> None:
        """What runs along an axis, and the figures of both, after these are set."""
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set(**self.text(9, quiet=True))
        axes.set_xlabel(x, labelpad=5, **self.text(9.6, quiet=True))


def draw_maps(scene: Scene, panels: Sequence[Axes], image01: Tensor | None) -> None:
    """The neighborhood: photo (if given), kernel of position alone, scores of pixels, weights of cells."""
    spectrum = scene.spectrum
    down, across = _edges(spectrum.row_offsets), _edges(spectrum.col_offsets)
    if image01 is not None:
        _show(panels[0], *_photo(spectrum, image01))
        for x in spectrum.col_offsets[1:] - 0.5:
            panels[0].axvline(float(x), color="white", alpha=0.35, linewidth=0.6)
        for y in spectrum.row_offsets[1:] - 0.5:
            panels[0].axhline(float(y), color="white", alpha=0.35, linewidth=0.6)
        kernel = f"{down[1] - down[0]:.0f} x {across[1] - across[0]:.0f}"
        scene.head(panels[0], "The pixel and its cells", f"{kernel} coarse cells, two of them marked")
    alone, pixels, weights = panels[-3:]
    position = spectrum.kernel(_points(down), _points(across))[0]
    scores, low_high = spectrum.pixel_scores[0], heat_range(spectrum.pixel_scores[0], position)
    _show(alone, _heat(position, *low_high), (*across, *down[::-1]))
    scene.head(alone, "Position alone", "score if everything looked like the pixel")
    _show(pixels, _heat(scores, *low_high), _extent(spectrum, spectrum.corner, scores.shape, spectrum.output_size))
    scene.head(pixels, "Position and content", "score of every pixel: content turns phases")
    share = _by_cell(spectrum)
    _show(weights, _heat(share, 0.0, float(share.max())), (*across, *down[::-1]))
    scene.head(weights, "Attention", "mean score of each cell, then softmax")
    for axes in panels:
        axes.set(xlim=across, ylim=down[::-1], xticks=[], yticks=[], anchor="NW")
        axes.spines[:].set_color(scene.theme.rule)
        _ring(axes)
    for axes in (panels[0], weights) if image01 is not None else (weights,):
        for name, cell, color in zip("12", scene.examples, scene.colors, strict=False):
            _box(scene, axes, name, cell, color)


def draw_waves(scene: Scene, bars: Axes, dots: Axes) -> None:
    """Magnitude and phase of each band, finest left."""
    spectrum, count = scene.spectrum, len(scene.spectrum.periods)
    amplitudes, parts = spectrum.amplitudes[0].numpy(), spectrum.contributions[0].numpy()  # (J, 2, kh, kw)
    phases = spectrum.phases[0].rad2deg().numpy()
    width = 0.8 / len(scene.examples)
    largest = max(amplitudes.max(), 1e-12)
    for index, (cell, color) in enumerate(zip(scene.examples, scene.colors, strict=False)):
        at = np.arange(count) + (index - (len(scene.examples) - 1) / 2) * width
        place = (..., *cell)
        bars.bar(at, parts[place].sum(1), width * 0.86, color=color)
        outline = amplitudes[place].sum(1)
        bars.bar(at, outline, width * 0.86, facecolor="none", edgecolor=color, linewidth=0.9)
        for axis in (0, 1):
            sizes = min(90, 1440 / count) * amplitudes[place][:, axis] / largest
            dots.scatter(at, phases[place][:, axis], sizes, color=color, alpha=0.85, linewidths=0)
    periods = 1 / spectrum.frequencies[:, scene.axis]
    low, high = _edges((spectrum.row_offsets, spectrum.col_offsets)[scene.axis])
    window = high - low
    fine = int((periods < window).sum())
    step = math.ceil(count / 12)
    for axes in (bars, dots):
        scene.plain(axes)
        axes.axhline(0, color=scene.theme.rule, linewidth=0.9, zorder=0)
        if fine:
            axes.axvspan(-0.6, fine - 0.5, color=scene.theme.rule, alpha=0.45, linewidth=0, zorder=-1)
        axes.set_xlim(-0.6, count - 0.4)
        axes.spines[:].set_visible(False)
    low, high = bars.get_ylim()
    bars.set_ylim(low, high + 0.22 * (high - low))  # room for two words
    bars.set_yticks([])
    bars.tick_params(labelbottom=False)
    dots.set(ylim=(-200, 200), yticks=[-180, 0, 180], yticklabels=["−180°", "0°", "180°"])
    dots.set_xticks(range(0, count, step), [f"{period:.{int(period < 10)}f}" for period in periods[::step].tolist()])
    scene.head(bars, "Magnitude of each wave", "outline: A, filled: its part A cos(Ψ + ωΔ) of the score")
    scene.head(dots, "Phase Ψ of each wave", "0° where the cell looks like the pixel; area: magnitude")
    for text, x, align, is_there in (("where", -0.45, "left", fine > 0), ("what", count - 0.45, "right", fine < count)):
        if is_there:
            style = {"ha": align, "va": "top", "transform": bars.get_xaxis_transform(), **scene.text(9.2, bold=True)}
            bars.text(x, 0.97, text, **style)
    scene.label(bars)
    shaded = (
        f"shaded: shorter than the window of {window:.0f}" if fine else f"all longer than the window of {window:.0f}"
    )
    scene.label(dots, x=f"period in coarse cells; {shaded}")


def draw_chain(scene: Scene, axes: Axes) -> None:
    """The waves of each example as arrows, head to tail: how far they get to the right is the score."""
    scene.plain(axes)
    for name, cell, color in zip("12", scene.examples, scene.colors, strict=False):
        waves = scene.spectrum.waves[0, :, :, cell[0], cell[1]].sum(1).flip(0)  # coarsest first
        path = torch.cat([waves.new_zeros(1), waves.cumsum(0)]).numpy()
        axes.plot(path.real, path.imag, color=color, linewidth=2, marker="o", markersize=3.2, solid_joinstyle="round")
        x, y = float(path[-1].real), float(path[-1].imag)
        axes.plot([x, x], [y, 0], color=color, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.plot(x, 0, color=color, marker="D", markersize=5.5, clip_on=False)
        style = {**scene.text(10, bold=True), "color": color}
        shift = (0, 8 if y >= 0 else -16)
        axes.annotate(f"cell {name}: {x:.1f}", (x, y), shift, textcoords="offset points", ha="center", **style)
    axes.axhline(0, color=scene.theme.rule, linewidth=0.9, zorder=0)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.margins(0.14, 0.25)
    scene.head(axes, "Added head to tail", "in phase they get far, out of phase they curl")
    scene.label(axes, x="score, from the coarsest wave to the finest")


def draw_profile(scene: Scene, axes: Axes) -> None:
    """Scores along the line through cell 1, the pixel and cell 2."""
    spectrum, axis, (i, j) = scene.spectrum, scene.axis, scene.centre
    offsets = (spectrum.row_offsets, spectrum.col_offsets)
    along = _points(_edges(offsets[axis]))
    still = offsets[1 - axis][[(i, j)[1 - axis]]]

    def curve(cell: Cell | None) -> np.ndarray:
        values = spectrum.kernel(along, still, cell) if axis == 0 else spectrum.kernel(still, along, cell)
        return values.flatten().numpy()

    axes.plot(
        along.numpy(),
        curve(None),
        color=scene.theme.quiet,
        linewidth=1.6,
        linestyle=(0, (4, 2)),
        label="position alone",
    )
    for name, cell, color in zip("12", scene.examples, scene.colors, strict=False):
        axes.plot(along.numpy(), curve(cell), color=color, linewidth=1.6, label=f"waves of cell {name}")
    scores = (spectrum.scores[0][:, j] if axis == 0 else spectrum.scores[0][i]).numpy()
    at = offsets[axis].numpy()
    axes.plot(at, scores, color=scene.theme.ink, linestyle="none", marker="o", markersize=5.5, label="score")
    for cell, color in zip(scene.examples, scene.colors, strict=False):
        axes.plot(
            scene.distance(cell), float(spectrum.scores[0][cell]), color=color, marker="o", markersize=9, zorder=1
        )
    scene.plain(axes)
    axes.axvline(0, color=scene.theme.rule, linewidth=0.9, zorder=0)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.24 * (high - low), high)  # room for the legend
    face = scene.text(8.8)["fontproperties"]
    legend = axes.legend(loc="lower center", frameon=False, ncols=2, prop=face, columnspacing=1.6, borderpad=0)
    for text in legend.get_texts():
        text.set_color(scene.theme.ink)
    way = "up and down" if axis == 0 else "left and right"
    scene.head(axes, "The kernel through the pixel", f"Σ A cos(Ψ + ωΔ), {way}")
    scene.label(axes, x="distance Δ from the pixel, in cells")


def _points(edges: tuple[float, float]) -> Tensor:
    """Centres of _FINE equal parts between two edges, float64."""
    low, high = edges
    return low + (torch.arange(_FINE, dtype=torch.float64) + 0.5) * ((high - low) / _FINE)


def _edges(offsets: Tensor) -> tuple[float, float]:
    return float(offsets.min()) - 0.5, float(offsets.max()) + 0.5


def _heat(values: Tensor, low: float, high: float) -> Tensor:
    return heat_colors((values - low) / max(high - low, 1e-12))


def _show(axes: Axes, colors: Tensor, extent: tuple[float, float, float, float]) -> None:
    """(3, H, W) at left, right, bottom, top."""
    axes.imshow(colors.permute(1, 2, 0).numpy(), extent=extent, interpolation="nearest")


def _by_cell(spectrum: Spectrum) -> Tensor:
    """The weights of the cells from the first to the last; one that occurs twice has the sum."""
    rows, cols = (cells - cells.min() for cells in (spectrum.rows, spectrum.cols))
    summed = torch.zeros(int(rows.max()) + 1, int(cols.max()) + 1, dtype=spectrum.weights.dtype)
    return summed.index_put((rows[:, None], cols[None]), spectrum.weights[0], accumulate=True)


def _photo(spectrum: Spectrum, image01: Tensor) -> tuple[Tensor, tuple[float, float, float, float]]:
    """The part of the photo under the neighborhood, and where it lies."""
    whole, shown = image01.shape[1:], spectrum.pixel_scores.shape[1:]
    top, left = (
        first * side // fine for first, side, fine in zip(spectrum.corner, whole, spectrum.output_size, strict=True)
    )
    last = [first + length for first, length in zip(spectrum.corner, shown, strict=True)]
    bottom, right = (-(-end * side // fine) for end, side, fine in zip(last, whole, spectrum.output_size, strict=True))
    part = image01[:, top:bottom, left:right].detach().float().clamp(0, 1).cpu()
    return part, _extent(spectrum, (top, left), part.shape[1:], whole)


def _extent(
    spectrum: Spectrum, corner: Sequence[int], size: Sequence[int], whole: Sequence[int]
) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of a part of a map of `whole` rows and columns, in cells from the pixel."""
    own = [
        (at + 0.5) * h / fine
        for at, h, fine in zip(spectrum.position, spectrum.grid, spectrum.output_size, strict=True)
    ]
    top, left = (first * h / side - at for first, h, side, at in zip(corner, spectrum.grid, whole, own, strict=True))
    tall, wide = (length * h / side for length, h, side in zip(size, spectrum.grid, whole, strict=True))
    return left, left + wide, top + tall, top


def _ring(axes: Axes) -> None:
    for color, width in (("#101318", 3.4), ("white", 1.6)):
        axes.plot(0, 0, marker="o", markersize=10, markerfacecolor="none", markeredgecolor=color, markeredgewidth=width)


def _box(scene: Scene, axes: Axes, name: str, cell: Cell, color: str) -> None:
    from matplotlib.patches import Rectangle

    x, y = float(scene.spectrum.col_offsets[cell[1]]), float(scene.spectrum.row_offsets[cell[0]])
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="none", edgecolor="white", linewidth=3.2))
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="none", edgecolor=color, linewidth=1.8))
    style = {**scene.text(8.5, bold=True), "color": scene.theme.paper}
    box = {"boxstyle": "round,pad=0.22", "facecolor": color, "edgecolor": "white", "linewidth": 1}
    axes.text(x, y - 0.5, name, ha="center", va="center", bbox=box, **style)
