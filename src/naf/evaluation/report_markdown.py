"""Sections as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from naf.benchmark.report import markdown
from naf.evaluation.report_section import Grid, Section, Text

_ESCAPED = re.compile(r"([\\`*|<\[]|(?<![^\W_])_|_(?![^\W_]))")  # an underscore within a word is none of Markdown's


def page(sections: Sequence[Section], legend: str, plots: Sequence[Sequence[str]]) -> str:
    """The whole page.

    Args:
        sections: in order.
        legend: how tables are read.
        plots: file names, by section.
    """
    parts = ["# Evaluation", "", legend.format(best="**bold**", second="<u>underlined</u>"), ""]
    for section, names in zip(sections, plots, strict=True):
        parts += [f"## {_escaped(section.title)}", ""]
        for grid in section.grids:
            parts += [f"**{_escaped(grid.caption)}**", "", _table(grid), ""]
        parts += [line for name in names for line in (f"![{_escaped(section.title)}]({name})", "")]
        parts += [f"- {_escaped(name)}: {_escaped(words)}" for name, words in section.facts]
        if section.commands:
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", "".join(section.commands))), default=0))
            parts += ["", "Commands:", "", f"{fence}sh", *section.commands, fence]
        parts.append("")
    return "\n".join(parts)


def _table(grid: Grid) -> str:
    return markdown([_escaped(text) for text in grid.headings], [[_cell(text) for text in row] for row in grid.rows])


def _cell(cell: Text) -> str:
    text = _escaped(cell.text)
    return {"best": f"**{text}**", "second": f"<u>{text}</u>", "": text}[cell.mark]


def _escaped(text: str) -> str:
    return _ESCAPED.sub(r"\\\1", " ".join(text.split()))
