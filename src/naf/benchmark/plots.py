"""Results of sweeps as plots: measured curves, and the published ones dashed.

matplotlib is imported where something is drawn: `pip install 'naf-upsampler[bench]'`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from naf.benchmark.max_ratio import Limit, MaxRatio
from naf.benchmark.published import DEVICE, Published, published, published_max_ratio
from naf.benchmark.report import TITLES, machine_line
from naf.benchmark.results import Result
from naf.benchmark.sweep import Axis, position
from naf.data.atomic import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES = {  # colour, marker, width
    "naf": ("#d62728", "o", 2.4),
    "naf++": ("#ff9896", "s", 1.5),
    "anyup": ("#1f77b4", "D", 1.5),
    "jafar": ("#2ca02c", "^", 1.5),
    "featup": ("#9467bd", "v", 1.5),
    "loftup": ("#ff7f0e", "P", 1.5),
    "lift": ("#8c564b", "X", 1.5),
    "jbu": ("#17becf", "<", 1.5),
    "guided": ("#bcbd22", ">", 1.5),
    "jbf": ("#e377c2", "p", 1.5),
    "nearest": ("#4d4d4d", "1", 1.0),
    "bilinear": ("#737373", "2", 1.0),
    "bicubic": ("#999999", "3", 1.0),
    "lanczos": ("#bfbfbf", "4", 1.0),
}
_OTHER_STYLE = ("#000000", "*", 1.5)
_FORMATS = ("png", "svg")
_LIMITS: dict[Limit, str] = {
    "memory": "",
    "method": " (all it makes)",
    "search": " or more",
    "time": " or more",
    "error": " (error)",
}


class _Panel(NamedTuple):
    """One quantity: ours and the published one."""

    title: str
    unit: str
    ours: Callable[[Result], float | None]
    theirs: Callable[[Published], float | None]


_PANELS = (
    _Panel("Forward", "ms", lambda r: r.forward.time_ms if r.forward else None, lambda p: p.forward_ms),
    _Panel(
        "Forward + backward + step", "ms", lambda r: r.training.time_ms if r.training else None, lambda p: p.training_ms
    ),
    _Panel("Peak memory, forward", "MiB", lambda r: r.forward.peak_mib if r.forward else None, lambda p: p.forward_mib),
    _Panel(
        "Peak memory, training step",
        "MiB",
        lambda r: r.training.peak_mib if r.training else None,
        lambda p: p.training_mib,
    ),
)


def plot_sweep(axis: Axis, results: Sequence[Result], machine: dict[str, Any], stem: Path) -> list[Path]:
    """Time and memory along an axis, PNG and SVG.

    Args:
        axis: what is on the horizontal axis.
        results: all points along it.
        machine: what :func:`naf.benchmark.measure.machine` says.
        stem: path without suffix; files that are there are replaced.

    Returns:
        The files; none where nothing was measured.

    Raises:
        ValueError: if matplotlib is missing.
    """
    names = list(dict.fromkeys(result.point.upsampler for result in results if result.forward is not None))
    if not names:
        return []
    figure = _figure(11.5, 8)
    grid = figure.subplots(2, 2, sharex=True)
    ticks = sorted({position(result.point, axis) for result in results if result.forward is not None})
    for panel, axes in zip(_PANELS, grid.flat, strict=True):
        for name in names:
            own = [result for result in results if result.point.upsampler == name]
            _curve(axes, [(position(r.point, axis), panel.ours(r)) for r in own], name, measured=True)
            theirs = [(position(r.point, axis), published(axis, r.point)) for r in own]
            _curve(axes, [(at, panel.theirs(p)) for at, p in theirs if p is not None], name, measured=False)
        if panel is _PANELS[0]:
            bare = sorted((position(r.point, axis), r.bare_ms) for r in results if r.bare_ms is not None)
            if bare:
                label = "eight bare convolutions\nof NAF's encoder"
                axes.plot(*zip(*bare, strict=True), color="black", linestyle=":", linewidth=1.5, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_title(panel.title, loc="left", fontsize=11)
        axes.set_ylabel(panel.unit)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[1]:
        axes.set_xlabel(TITLES[axis] + ("" if axis == "channels" else " (x)" if axis == "ratio" else " (pixels)"))
    _legend(figure, grid[0, 0], any(published(axis, result.point) for result in results))
    figure.suptitle(machine_line(machine), x=0.01, ha="left", fontsize=10, color="#555555")
    return _save(figure, stem)


def plot_max_ratio(found: Sequence[MaxRatio], machine: dict[str, Any], stem: Path) -> list[Path]:
    """Bars of the largest ratios, the published ones beside them, PNG and SVG.

    Raises:
        ValueError: if matplotlib is missing.
    """
    ordered = sorted(found, key=lambda it: it.ratio or 0)
    figure = _figure(8, max(2.5, 1.3 + 0.42 * len(ordered)))
    axes = figure.subplots()
    for row, it in enumerate(ordered):
        name, ratio = it.point.upsampler, it.ratio or 0
        axes.barh(row, ratio, height=0.6, color=_STYLES.get(name, _OTHER_STYLE)[0])
        words = ("none" if it.ratio is None else f"x{ratio}") + _LIMITS[it.limited_by]
        axes.text(ratio + 0.6, row, words, va="center", fontsize=9)
        theirs = published_max_ratio(it.point)
        if theirs is not None:
            axes.plot([theirs] * 2, [row - 0.42, row + 0.42], color="black", linestyle="--", linewidth=1.5)
    axes.plot([], [], color="black", linestyle="--", linewidth=1.5, label=f"published, {DEVICE}")
    axes.set_yticks(range(len(ordered)), [it.point.upsampler for it in ordered])
    axes.set_xlabel(f"largest ratio of a forward call within {ordered[0].budget_mib / 1024:.1f} GiB")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    figure.suptitle(machine_line(machine), x=0.01, ha="left", fontsize=10, color="#555555")
    return _save(figure, stem)


def _curve(axes: Axes, points: Sequence[tuple[int, float | None]], name: str, *, measured: bool) -> None:
    known = sorted((at, value) for at, value in points if value)
    if not known:
        return
    color, marker, width = _STYLES.get(name, _OTHER_STYLE)
    style: dict[str, Any] = (
        {"linestyle": "-", "linewidth": width, "label": name}
        if measured
        else {"linestyle": "--", "linewidth": 1.2, "markerfacecolor": "white", "label": f"_{name} published"}
    )
    # NAF is drawn last.
    order = 3 if name == "naf" else 2
    axes.plot(*zip(*known, strict=True), color=color, marker=marker, markersize=5, zorder=order, **style)


def _legend(figure: Figure, axes: Axes, has_published: bool) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if has_published:
        handles += axes.plot([], [], color="black", linestyle="--", marker="o", markerfacecolor="white", linewidth=1.2)
        labels.append(f"published, {DEVICE}\n(same colours)")
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ValueError(
            "plots need matplotlib: pip install 'naf-upsampler[bench]', or go without: --no-plots"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, stem: Path) -> list[Path]:
    paths = [stem.with_suffix(f".{kind}") for kind in _FORMATS]
    for path in paths:
        replace_file(path, partial(figure.savefig, format=path.suffix[1:], dpi=150))
    return paths
