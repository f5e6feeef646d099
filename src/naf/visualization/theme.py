"""Colours of what stands around pictures, light and dark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """One set of colours, each as #rrggbb.

    Attributes:
        paper: ground.
        ink: titles.
        quiet: figures and notes; contrast with the paper of at least 4.5 (WCAG 2.2, AA).
        rule: frames and lines.
    """

    paper: str
    ink: str
    quiet: str
    rule: str


THEMES = {
    "light": Theme(paper="#ffffff", ink="#14171c", quiet="#5a626e", rule="#dfe2e7"),
    "dark": Theme(paper="#111318", ink="#f3f4f6", quiet="#9ea6b2", rule="#31353d"),
}


def find_theme(name: str) -> Theme:
    """A theme by its name.

    Raises:
        ValueError: for another than "light" and "dark".
    """
    if name not in THEMES:
        raise ValueError(f"theme is {name!r}, expected one of {', '.join(map(repr, THEMES))}")
    return THEMES[name]
