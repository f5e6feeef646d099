"""Sections as a LaTeX document that compiles on its own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from naf.evaluation.report_section import Grid, Section, Text

_HEAD = r"""% Compile with: pdflatex report.tex (packages booktabs and graphicx; the plots lie beside this file).
% Tables can be taken out as they are.
\documentclass[a4paper]{article}
\usepackage[utf8]{inputenc}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage[margin=2.5cm]{geometry}
\newcommand{\fitted}[1]{\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{#1}}
\setlength{\parindent}{0pt}
\begin{document}
\sloppy
\section*{Evaluation}
"""

_SYMBOLS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "δ": r"$\delta$",
    "σ": r"$\sigma$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\to$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
}
_MINUS = re.compile(r"^-(?=\d)")
_DASHES = re.compile(r"-(?=-)")


def document(sections: Sequence[Section], legend: str, plots: Sequence[Sequence[str]]) -> str:
    """The whole document.

    Args:
        sections: in order.
        legend: how tables are read.
        plots: file names, by section.
    """
    parts = [
        _HEAD + escaped(legend).replace(r"\{best\}", r"\textbf{bold}").replace(r"\{second\}", r"\underline{underlined}")
    ]
    for section, names in zip(sections, plots, strict=True):
        parts += ["", rf"\subsection*{{{escaped(section.title)}}}"]
        parts += [_table(grid) for grid in section.grids]
        parts += [rf"\begin{{center}}\includegraphics[width=\linewidth]{{{name}}}\end{{center}}" for name in names]
        parts += [r"{\footnotesize\raggedright"]
        parts += [rf"\textbf{{{escaped(name)}:}} {escaped(words)}\par" for name, words in section.facts]
        if section.commands:
            parts += [r"\textbf{Commands:}\par", *map(_command, section.commands)]
        parts += ["}"]
    return "\n".join([*parts, r"\end{document}", ""])


def escaped(text: str) -> str:
    """Text as LaTeX prints it; what its fonts lack becomes the nearest letter, or a question mark."""
    return "".join(map(_letter, _DASHES.sub("-\0", " ".join(text.split()))))


def _letter(letter: str) -> str:
    if letter == "\0":  # keeps two hyphens from becoming a dash
        return "{}"
    if letter in _SYMBOLS:
        return _SYMBOLS[letter]
    if letter.isascii() or (letter.isalpha() and ord(letter) < 256 and unicodedata.decomposition(letter)):
        return letter
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"


def _command(text: str) -> str:
    straight = escaped(text).replace("'", r"{\char13}")  # the font's upright quote
    return rf"\texttt{{{straight}}}\par"


def _table(grid: Grid) -> str:
    lines = [
        r"\begin{center}\begin{minipage}{\linewidth}\centering",
        escaped(grid.caption) + r"\\[2pt]",
        rf"\fitted{{\begin{{tabular}}{{l{'r' * (len(grid.headings) - 1)}}}",
        r"\toprule",
        " & ".join(map(escaped, grid.headings)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_cell, row)) + r" \\" for row in grid.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{minipage}\end{center}",
    ]
    return "\n".join(lines)


def _cell(cell: Text) -> str:
    text = _MINUS.sub("$-$", escaped(cell.text))
    return {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}", "": text}[cell.mark]
