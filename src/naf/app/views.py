"""What each tab shows, as updates of the page's components."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gradio as gr

from naf.app import markup
from naf.app.analysis import Report
from naf.app.failures import EXPECTED
from naf.app.interface import KERNEL_SIZES, Page, View
from naf.app.networks import first_line
from naf.app.sessions import Session
from naf.app.shelf import Shelf
from naf.app.workbench import MOST_COMPARED, Workbench

Updates = dict[Any, Any]
"""By component."""


class Views:
    """Draws the tabs of all pages.

    Args:
        workbench: does the work.
        page: the components.
        shelf: where pictures and downloads are put.
    """

    def __init__(self, workbench: Workbench, page: Page, shelf: Shelf) -> None:
        self.workbench, self.page, self.shelf = workbench, page, shelf

    def draw(self, session: Session, tab: str, report: Report) -> Updates:
        """Make a tab show what the session looks at; where that cannot be, why.

        Raises:
            Cancelled: as `report` raises it.
        """
        view, key = self.page.views[tab], session.key(tab)
        try:
            updates: Updates = getattr(self, f"_draw_{tab}")(session, view, report)
        except EXPECTED as error:
            return _refused(view, first_line(error))
        session.drawn[tab] = key
        return {view.empty: "", **updates}

    def wait(self, session: Session) -> Updates:
        """Tabs that show something else than the session looks at say that it is coming."""
        return _merged(_waiting(view) for view in self._stale(session))

    def give_up(self, session: Session, title: str, text: str) -> Updates:
        """Tabs that were waiting say why nothing comes."""
        return {view.empty: markup.empty(title, text) for view in self._stale(session) if not view.has_controls}

    def clear(self) -> Updates:
        """All tabs say what they are for."""
        return {view.empty: markup.empty(*markup.EMPTY[name]) for name, view in self.page.views.items()}

    def save(self, session: Session, what: str, report: Report) -> Path:
        """Write what is to be downloaded: "picture", "features", "sheet" or "report".

        Raises:
            ValueError: as the workbench does, or without a photo.
            Cancelled: as `report` raises it.
        """
        photo, settings, room = session.opened, session.settings, self.shelf.room()
        if what == "picture":
            return self.workbench.save_png(photo, settings, session.upsampler, room, report)
        if what == "features":
            return self.workbench.save_features(photo, settings, session.upsampler, room, report)
        if what == "sheet":
            found = self.workbench.compare(photo, settings, session.methods, report)
            return self.workbench.save_picture(found.sheet, photo, "compare", room)
        names = list(dict.fromkeys((session.upsampler, *session.methods)))[:MOST_COMPARED]
        return self.workbench.save_report(photo, settings, names, *self._pixel(session), session.clusters, room, report)

    def _stale(self, session: Session) -> Iterable[View]:
        return (view for tab, view in self.page.views.items() if session.drawn.get(tab) != session.key(tab))

    def _pixel(self, session: Session) -> tuple[int, int]:
        """The chosen point as (row, column) of the output."""
        height, width = self.workbench.output_size(session.opened, session.settings)
        x, y = session.point
        return min(int(y * height), height - 1), min(int(x * width), width - 1)

    def _draw_features(self, session: Session, view: View, report: Report) -> Updates:
        coarse = self.workbench.coarse(session.opened, session.settings, report)
        sharp = self.workbench.sharp(session.opened, session.settings, session.upsampler, report)
        text = (
            f"Left of the handle {coarse.grid[0]} × {coarse.grid[1]} cells of the backbone, right of it "
            f"{sharp.output_size[0]} × {sharp.output_size[1]} pixels by {sharp.title}. Both are coloured with one PCA "
            "basis: like colours are like features. Click the photo to ask what is alike."
        )
        pair = (self.shelf.put(coarse.picture, "coarse"), self.shelf.put(sharp.picture, "upsampled"))
        return {view.pictures[0]: pair, view.note: markup.note(text)}

    def _draw_similarity(self, session: Session, view: View, report: Report) -> Updates:
        row, col = self._pixel(session)
        found = self.workbench.similarity(session.opened, session.settings, session.upsampler, row, col, report)
        text = (
            f"How alike everything is to pixel ({found.col}, {found.row}), which lies in cell "
            f"({found.cell[1]}, {found.cell[0]}): left by the cells of the backbone, right by {found.title}, in one "
            "scale. Click any picture to move the point."
        )
        coarse, sharp = view.pictures
        return {
            coarse: self.shelf.put(found.coarse, "coarse"),
            sharp: self.shelf.put(found.sharp, "upsampled"),
            view.note: markup.scale(found.low, found.high, text),
        }

    def _draw_attention(self, session: Session, view: View, report: Report) -> Updates:
        page, (row, col) = self.page, self._pixel(session)
        sharp = self.workbench.sharp(session.opened, session.settings, session.upsampler, report)
        found = self.workbench.attention(
            session.opened,
            session.settings,
            session.upsampler,
            row,
            col,
            kernel_size=session.kernel_size if sharp.kernel_size is not None else None,
            head=session.head if session.head is None or session.head < sharp.heads else None,
            report=report,
        )
        over, zoomed = view.pictures
        heads = [("mean of all", -1), *((str(head + 1), head) for head in range(sharp.heads))]
        own = session.kernel_size or sharp.kernel_size
        return {
            over: self.shelf.put(found.picture, "attention"),
            zoomed: self.shelf.put(found.zoomed, "window"),
            view.note: markup.note(found.caption, "naf-one-head" if sharp.heads == 1 else ""),
            page.kernel_size: gr.update(choices=sorted({*KERNEL_SIZES, own}) if own else [], value=own),
            page.head: gr.update(choices=heads, value=-1 if session.head is None else session.head),
        }

    def _draw_segments(self, session: Session, view: View, report: Report) -> Updates:
        found = self.workbench.segments(session.opened, session.settings, session.upsampler, session.clusters, report)
        text = (
            f"{found.k} groups by k-means on the coarse features; no labels. Left each cell, right each pixel of "
            f"{found.title} has the colour of its nearest centre."
        )
        coarse, sharp = view.pictures
        return {
            coarse: self.shelf.put(found.coarse, "coarse"),
            sharp: self.shelf.put(found.sharp, "upsampled"),
            view.note: markup.note(text),
        }

    def _draw_compare(self, session: Session, view: View, report: Report) -> Updates:
        coarse = self.workbench.coarse(session.opened, session.settings, report)
        found = self.workbench.compare(session.opened, session.settings, session.methods, report)
        tiles = [
            ("photo", self.shelf.put(coarse.photo, "photo")),
            ("coarse features", self.shelf.put(coarse.picture, "coarse")),
            *((method.title, self.shelf.put(method.picture, method.upsampler)) for method in found.methods),
        ]
        return {view.note: markup.comparison(tiles, found.methods, found.failures)}

    def _draw_download(self, session: Session, view: View, report: Report) -> Updates:
        del session, view, report
        return {self.page.receipt: ""}


def _waiting(view: View) -> Updates:
    if view.has_controls:  # they stay in reach
        return {view.empty: "", view.note: ""}
    return {view.empty: markup.empty("One moment", "The photo is being looked at.")}


def _merged(updates: Iterable[Updates]) -> Updates:
    return {part: update for each in updates for part, update in each.items()}


def _refused(view: View, reason: str) -> Updates:
    if view.has_controls:
        return {view.empty: "", view.note: markup.remark(reason)}
    return {view.empty: markup.empty("Not with this choice", f"{reason}.")}
