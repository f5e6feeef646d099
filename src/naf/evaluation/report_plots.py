"""Tables of evaluations as plots: a dot an upsampler, with error bars; ratio studies as lines over the grid.

matplotlib is imported where something is drawn: `pip install 'naf-upsampler[eval]'`.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naf.data.atomic import replace_file
from naf.evaluation.report_published import PublishedSide
from naf.evaluation.report_tables import Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAF, _OTHER, _GREY = "#d62728", "#1f77b4", "#555555"
_COLOURS = ("#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#bcbd22", "#e377c2", "#4d4d4d")
_MARKERS = "s^vDPX<>p*"
_PANELS = 4  # in a row
_GRID = re.compile(r"grid (\d+)")


def plot_table(table: Table, published: PublishedSide, title: str, path: Path) -> None:
    """Draw a table, PNG.

    Args:
        table: with at least one cell.
        published: drawn hollow where it may be compared.
        title: above.
        path: replaced if there.

    Raises:
        ValueError: if matplotlib is missing.
    """
    over_grid = table.group.task == "ratio" and all(_GRID.fullmatch(it.variant) for it in table.group.columns)
    figure = _lines(table) if over_grid else _dots(table, published)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    replace_file(path, partial(figure.savefig, format="png", dpi=150))


def _dots(table: Table, published: PublishedSide) -> Figure:
    group = table.group
    rows = list(reversed(group.rows))  # the first on top
    across, down = _layout(len(group.columns))
    figure = _figure(2.0 + 2.6 * across, down * (1.1 + 0.3 * len(rows)))
    panels = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, column in zip(panels.flat, group.columns, strict=False):
        known = {row: table.cells[row, column] for row in rows if (row, column) in table.cells}
        base = known.get(table.baseline)
        if base is not None:
            axes.axvline(base.mean, color="#bbbbbb", linestyle="--", linewidth=1, zorder=1)
        for row, cell in known.items():
            axes.errorbar(
                cell.mean,
                rows.index(row),
                xerr=cell.deviation,
                fmt="o",
                markersize=6,
                capsize=3,
                color=_NAF if _is_naf(row) else _OTHER,
                zorder=3,
            )
        if published.is_comparable:
            _hollow(axes, rows, column, published)
        axes.set_title(column.label, loc="left", fontsize=9)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(table.metric.heading, fontsize=9)
        axes.margins(x=0.12)
        _light(axes)
    _hide(panels, len(group.columns))
    words = []
    if table.baseline:
        words.append(f"dashed: {table.baseline}")
    if any(cell.deviation is not None for cell in table.cells.values()):
        words.append("bars: standard deviation over seeds")
    if published.values and published.is_comparable:
        words.append("hollow: published")
    figure.supxlabel("; ".join(words), x=0.99, ha="right", fontsize=8, color=_GREY)
    return figure


def _hollow(axes: Axes, rows: list[str], column: Column, published: PublishedSide) -> None:
    for (row, at), values in published.values.items():
        if at == column and row in rows:
            numbers = [value for value in values if not isinstance(value, str)]
            axes.plot(numbers, [rows.index(row)] * len(numbers), "D", color="black", markerfacecolor="none", zorder=4)


def _lines(table: Table) -> Figure:
    group = table.group
    backbones = list(dict.fromkeys(column.backbone for column in group.columns))
    across, down = _layout(len(backbones))
    figure = _figure(2.0 + 3.6 * across, 3.6 * down)
    panels = figure.subplots(down, across, squeeze=False)
    for axes, backbone in zip(panels.flat, backbones, strict=False):
        columns = {_side(column): column for column in group.columns if column.backbone == backbone}
        for row in group.rows:
            known = {side: table.cells[row, column] for side, column in columns.items() if (row, column) in table.cells}
            if known:
                axes.errorbar(
                    list(known),
                    [cell.mean for cell in known.values()],
                    yerr=[cell.deviation or 0.0 for cell in known.values()],
                    capsize=3,
                    elinewidth=1.2,
                    markersize=5,
                    label=row,
                    **_style(row, group.rows),
                )
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(columns), [f"{side}" for side in columns])
        axes.minorticks_off()
        axes.set_title(backbone, loc="left", fontsize=9)
        axes.set_xlabel("side of the coarse grid", fontsize=9)
        axes.set_ylabel(table.metric.heading, fontsize=9)
        _light(axes)
    _hide(panels, len(backbones))
    handles = {
        label: handle for axes in panels.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _style(row: str, rows: Any) -> dict[str, Any]:
    """Colour, marker and width: NAF is red and drawn last."""
    naf = [it for it in rows if _is_naf(it)]
    if row in naf:
        dashes = ("-", "--", ":", "-.")[naf.index(row) % 4]
        return {"color": _NAF, "marker": "o", "linewidth": 2.2, "linestyle": dashes, "zorder": 3}
    place = [it for it in rows if it not in naf].index(row)
    return {
        "color": _COLOURS[place % len(_COLOURS)],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linewidth": 1.3,
        "zorder": 2,
    }


def _side(column: Column) -> int:
    match = _GRID.fullmatch(column.variant)
    assert match is not None
    return int(match[1])


def _is_naf(row: str) -> bool:
    return row.lower().startswith("naf")


def _layout(panels: int) -> tuple[int, int]:
    """Panels across and down."""
    down = -(-panels // _PANELS)
    return -(-panels // down), down


def _hide(panels: Any, used: int) -> None:
    for axes in list(panels.flat)[used:]:
        axes.set_visible(False)


def _light(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ValueError("plots need matplotlib: pip install 'naf-upsampler[eval]'") from None
    return Figure(figsize=(width, max(height, 2.4)), layout="constrained")
