"""Pieces of the page as HTML; whatever comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import torch

from naf.app.analysis import CoarseAnalysis, MethodResult, SharpAnalysis
from naf.data.samples import SAMPLES
from naf.visualization.heat import heat_colors

_STEPS = 12  # of the colour bar

HEADER = """
<header class="naf-header">
  <h1>NAF</h1>
  <p>What a vision backbone's features know about a photo, before and after upsampling.</p>
</header>
"""

EMPTY = {
    "features": (
        "See the features",
        "Drop a photo, or take a sample. Its coarse features and the upsampled ones appear here as colours, with a "
        "handle to slide between them.",
    ),
    "similarity": (
        "Ask a pixel what is alike",
        "With a photo here, click any pixel: a heat map shows where the features are similar, coarse beside upsampled.",
    ),
    "attention": (
        "See what a pixel attends to",
        "With a photo here, click any pixel: the weights of the coarse cells that it is mixed from lie over the photo.",
    ),
    "segments": (
        "Group the features",
        "With a photo here, its features are put into k groups without any labels, coarse beside upsampled.",
    ),
    "compare": (
        "Put methods side by side",
        "With a photo here, up to four upsamplers run on the same features, with time and memory of each.",
    ),
    "download": (
        "Take the results with you",
        "With a photo here, its picture, its features and a report can be downloaded.",
    ),
}


def empty(title: str, text: str) -> str:
    """What stands in a view that has nothing to show: a title, and what to do."""
    return f'<div class="naf-empty"><h2>{escape(title)}</h2><p>{escape(text)}</p></div>'


def credits_line() -> str:
    """Who made the samples."""
    lines = "".join(f"<li>{escape(each.title)}: {escape(each.credit)}</li>" for each in SAMPLES)
    return f'<details class="naf-credits"><summary>Credits of the samples</summary><ul>{lines}</ul></details>'


def note(text: str, kind: str = "") -> str:
    """A sentence under a view, which the style sheet may know by its kind."""
    return f'<p class="naf-note {kind}">{escape(text)}</p>'


def remark(text: str) -> str:
    """A sentence that warns."""
    return f'<p class="naf-remark">{escape(text)}</p>'


def idle() -> str:
    """The state before there is a photo."""
    return '<div class="naf-status"><p>No photo yet.</p></div>'


def stopped(text: str) -> str:
    """The state after a cancel, and what to do."""
    return f'<div class="naf-status" role="status"><p>Cancelled. {escape(text)}</p></div>'


def failed(reason: str) -> str:
    """The state after an error."""
    return f'<div class="naf-status naf-failed" role="alert"><p>{escape(reason)}</p></div>'


def facts(coarse: CoarseAnalysis, sharp: SharpAnalysis) -> str:
    """What ran, on what, and what it cost."""
    cost = f"{coarse.seconds:.1f} s" if coarse.seconds >= 1 else f"{coarse.seconds * 1e3:.0f} ms"
    steps = [
        (coarse.name, f"{_times(coarse.grid)} cells, {coarse.channels} channels", cost),
        (sharp.title, f"{_times(sharp.output_size)} pixels", sharp.figures),
    ]
    parts = "<i>→</i>".join(
        f"<p><strong>{escape(name)}</strong> {escape(made)} <span>{escape(spent)}</span></p>"
        for name, made, spent in steps
    )
    notes = "".join(remark(each) for each in (coarse.note, sharp.note) if each)
    return f'<div class="naf-status naf-facts" role="status">{parts}</div>{notes}'


def scale(low: float, high: float, text: str) -> str:
    """The colour bar of two heat maps, and a sentence."""
    colours = heat_colors(torch.linspace(0, 1, _STEPS)[None])[:, 0].T
    stops = ",".join("#" + "".join(f"{round(255 * value):02x}" for value in colour) for colour in colours.tolist())
    return (
        f'<div class="naf-scale"><span>{low:.2f}</span><i style="background:linear-gradient(90deg,{stops})"></i>'
        f"<span>{high:.2f}</span><b>cosine similarity</b></div>{note(text)}"
    )


def comparison(tiles: Sequence[tuple[str, str]], methods: Sequence[MethodResult], failures: Sequence[str]) -> str:
    """Methods side by side, with bars for time and memory.

    Args:
        tiles: name and path of the pictures that are no method's; then those of the methods, in order.
        methods: that ran.
        failures: one line for each that did not.
    """
    plain = len(tiles) - len(methods)
    slowest = max((each.seconds for each in methods), default=1.0) or 1.0
    largest = max((each.mib for each in methods), default=1.0) or 1.0
    figures = []
    for index, (name, path) in enumerate(tiles):
        bars = ""
        if index >= plain:
            method = methods[index - plain]
            time, memory = method.figures.split(", ", 1)
            bars = _bar("time", method.seconds / slowest, time) + _bar("memory", method.mib / largest, memory)
        figures.append(
            f'<figure><img src="{served(path)}" alt="{escape(name)}" loading="lazy">'
            f"<figcaption><strong>{escape(name)}</strong>{bars}</figcaption></figure>"
        )
    lost = "".join(remark(line) for line in failures)
    return f'<div class="naf-tiles">{"".join(figures)}</div>{lost}'


def receipt(path: Path) -> str:
    """A file that is ready, as a link that the page follows by itself."""
    size = path.stat().st_size / 2**20
    name = escape(path.name)
    return (
        f'<p class="naf-receipt" role="status"><a href="{served(str(path))}" download="{name}">{name}</a> '
        f"<span>{size:.1f} MiB</span></p>"
    )


def served(path: str) -> str:
    """Where the server gives out a file of its folder, relative to the page."""
    return f"gradio_api/file={quote(path)}"


def _bar(name: str, share: float, text: str) -> str:
    width = max(1.0, 100 * min(1.0, share))
    return f'<span class="naf-bar"><em>{name}</em><i><u style="width:{width:.0f}%"></u></i><b>{escape(text)}</b></span>'


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"
