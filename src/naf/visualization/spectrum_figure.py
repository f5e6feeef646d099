"""A pixel's spectrum as one figure: from the photo to the weights, and the waves that lead there.

matplotlib is imported where something is drawn: `pip install matplotlib`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from naf.visualization.spectrum import Spectrum
from naf.visualization.spectrum_panels import Scene, draw_chain, draw_maps, draw_profile, draw_waves
from naf.visualization.theme import find_theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 12.0, 7.8  # inches
_LEFT, _RIGHT = 0.05, 0.985


def spectrum_figure(
    spectrum: Spectrum,
    image01: Tensor | None = None,
    *,
    head: int | None = None,
    theme: str = "light",
    title: str = "",
) -> Figure:
    """What a pixel's score is made of.

    Above, maps of the neighborhood: the photo; the kernel that the pixel's frequencies would have if all cells looked
    like the pixel; its score with every pixel; the attention weights. Below, for two cells on either side of the pixel,
    which position alone would treat much alike and content does not: the magnitude and the phase of each wave; the
    waves added head to tail; the scores along the line through both, and the kernels of their waves.

    Args:
        spectrum: of one output pixel.
        image01: photo, (3, H, W), values from 0 to 1; None leaves its map out.
        head: attention head, 0 … n - 1; None for the mean of all.
        theme: "light" or "dark".
        title: what stands above, beside the pixel and the grids: the upsampler's name, say.

    Returns:
        The figure, apart from pyplot: `figure.savefig(path)` writes it. A notebook shows it after
        `%matplotlib inline`.

    Raises:
        ValueError: for a head or theme that is not there, an image of another shape, or if matplotlib is missing.
    """
    if image01 is not None and (image01.ndim != 3 or image01.shape[0] != 3):
        raise ValueError(f"image01 has shape {tuple(image01.shape)}, expected (3, H, W)")
    scene = Scene(spectrum.of_head(head), find_theme(theme), is_dark=theme == "dark")
    figure = _new_figure()
    figure.set_facecolor(scene.theme.paper)
    _headline(figure, scene, spectrum, head, title)
    maps = 3 if image01 is None else 4
    upper = figure.add_gridspec(1, maps, left=_LEFT, right=_RIGHT, top=0.866, bottom=0.505, wspace=0.085)
    draw_maps(scene, [figure.add_subplot(upper[0, index]) for index in range(maps)], image01)
    lower = figure.add_gridspec(
        1, 3, left=_LEFT, right=_RIGHT, top=0.408, bottom=0.068, wspace=0.14, width_ratios=(1.3, 1, 1.15)
    )
    stacked = lower[0, 0].subgridspec(2, 1, hspace=0.62, height_ratios=(1.25, 1))
    bars = figure.add_subplot(stacked[0])
    draw_waves(scene, bars, figure.add_subplot(stacked[1], sharex=bars))
    draw_chain(scene, figure.add_subplot(lower[0, 1]))
    draw_profile(scene, figure.add_subplot(lower[0, 2]))
    return figure


def _new_figure() -> Figure:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ValueError("figures need matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=100)
    figure.set_layout_engine("none")  # whatever a user's settings say
    return figure


def _headline(figure: Figure, scene: Scene, spectrum: Spectrum, head: int | None, title: str) -> None:
    count, (row, col) = len(spectrum.weights), spectrum.position
    heads = "one head" if count == 1 else f"mean of {count} heads" if head is None else f"head {head + 1} of {count}"
    grids = "{}x{} → {}x{}".format(*spectrum.grid, *spectrum.output_size)
    facts = [*([title] if title else []), f"pixel ({row}, {col})", grids, heads]
    figure.text(_LEFT, 0.965, "A score is a sum of waves", va="center", **scene.text(17, bold=True))
    figure.text(_RIGHT, 0.965, "  ·  ".join(facts), va="center", ha="right", **scene.text(10.5, quiet=True))
