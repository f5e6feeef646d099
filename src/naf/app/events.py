"""Which event of the page leads to what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from naf.app.endpoints import Endpoints
from naf.app.handlers import Handlers
from naf.app.interface import Page, lay_out
from naf.app.sessions import Session, Sessions
from naf.app.shelf import Shelf
from naf.app.workbench import Workbench

_FIRST = ("naf+", "naf", "bilinear")  # looked at first, where it is there
_COMPARED = ("bilinear", "jbf", "naf", "naf+")

# The link of a finished download is followed by itself.
_FOLLOW = "() => document.querySelector('#naf-receipt a')?.click()"

# What the page's clock is set to when an event is sent, alone or after the value that was chosen.
_WHEN, _VALUE_WHEN = "() => performance.now()", "value => [value, performance.now()]"

_CHECK_SECONDS, _KEEP_SECONDS = 3600, 24 * 3600  # of uploads


def build(workbench: Workbench, folder: Path, samples: list[Path]) -> tuple[gr.Blocks, Sessions]:
    """The whole application, to be launched.

    Args:
        workbench: does the work.
        folder: the application's own; Gradio's GRADIO_TEMP_DIR.
        samples: the sample photos, in that folder.

    Returns:
        The application and its open pages.
    """
    names = workbench.upsamplers
    upsampler = next(name for name in (*_FIRST, *names) if name in names)
    methods = tuple(name for name in _COMPARED if name in names) or (upsampler,)
    sessions, shelf = Sessions(Session(upsampler, methods, workbench.defaults)), Shelf(folder)
    with gr.Blocks(
        title="NAF: features, upsampled",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(_CHECK_SECONDS, _KEEP_SECONDS),
    ) as blocks:
        Endpoints(workbench, shelf).register()  # first: their names are theirs
        page = lay_out(workbench, samples, methods, upsampler)
        _connect(blocks, page, Handlers(workbench, sessions, page, shelf, samples))
    return blocks, sessions


def _connect(blocks: gr.Blocks, page: Page, handlers: Handlers) -> None:
    drawn: list[Any] = [part for view in page.views.values() for part in view.parts]
    drawn += [page.kernel_size, page.head, page.receipt]
    everything = [page.photo, page.status, page.cancel, *drawn]
    moved = [page.tabs, *drawn]  # without the status: a short event would end its progress bar
    shared: dict[str, Any] = {"api_visibility": "private"}
    # The progress bar lies over the status; pictures stay as they are until the new ones come. Newer work ends older.
    long = {**shared, "show_progress_on": page.status, "concurrency_limit": 4, "trigger_mode": "multiple"}
    quick = {**shared, "show_progress": "hidden", "concurrency_limit": 4}
    # Every choice is sent, with when and what it chose, and begun at once; the handlers show the last one only.
    latest = {**quick, "trigger_mode": "multiple", "concurrency_limit": None}
    settings: list[Any] = [page.backbone, page.upsampler, page.side]

    page.photo.upload(handlers.take_upload, page.photo, everything, preprocess=False, **long)
    page.photo.clear(handlers.clear, None, everything, **quick)
    page.samples.select(handlers.take_sample, None, everything, **long)
    for control in settings:
        control.input(handlers.change, settings, everything, **long)
    page.run.click(handlers.change, settings, everything, **long)
    page.cancel.click(handlers.cancel, None, [page.cancel], queue=False, show_progress="hidden", **shared)
    blocks.unload(handlers.leave)

    for name, view in page.views.items():
        if name == "compare":
            view.tab.select(handlers.show(name), None, everything, **long)
        else:
            view.tab.select(handlers.show(name), None, drawn, **quick)
    page.photo.select(handlers.choose_on_photo, page.clock, moved, js=_WHEN, **latest)
    for picture in (
        *page.views["similarity"].pictures,
        *page.views["segments"].pictures,
        page.views["attention"].pictures[0],
    ):
        picture.select(handlers.choose_on_picture, page.clock, moved, js=_WHEN, **latest)
    page.kernel_size.input(handlers.choose_kernel, [page.kernel_size, page.clock], drawn, js=_VALUE_WHEN, **latest)
    page.head.input(handlers.choose_head, [page.head, page.clock], drawn, js=_VALUE_WHEN, **latest)
    page.clusters.input(handlers.choose_clusters, [page.clusters, page.clock], drawn, js=_VALUE_WHEN, **latest)
    page.compare.click(handlers.compare, page.methods, everything, **long)
    for what, button in page.saves.items():
        button.click(handlers.save(what), None, everything, **long).success(None, None, None, js=_FOLLOW, **shared)
