"""What happens on the page: each event becomes questions to the workbench and updates of components."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from naf.app import markup
from naf.app.analysis import Cancelled, Report, Settings, part, silent
from naf.app.failures import EXPECTED, told
from naf.app.interface import Page
from naf.app.networks import first_line
from naf.app.sessions import Session, Sessions
from naf.app.shelf import Shelf
from naf.app.views import Updates, Views
from naf.app.workbench import MOST_COMPARED, Workbench

_SHOWN_BY_BROWSERS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "WEBP")
_BACKBONE_SHARE = 0.25  # of an analysis that the backbone is expected to take


class Handlers:
    """Events of all pages.

    Args:
        workbench: does the work.
        sessions: what each page looks at.
        page: its components.
        shelf: where pictures and downloads are put.
        samples: the sample photos.
    """

    def __init__(self, workbench: Workbench, sessions: Sessions, page: Page, shelf: Shelf, samples: list[Path]) -> None:
        self.workbench, self.sessions, self.page, self.shelf, self.samples = workbench, sessions, page, shelf, samples
        self.views = Views(workbench, page, shelf)
        # An update without components, or no update at all, would empty everything.
        self._unchanged: Updates = {page.receipt: gr.skip()}

    # A photo and what is done with it ---------------------------------------------------------------------------------

    def take_upload(
        self,
        payload: dict[str, Any] | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (how Gradio asks for it)
    ) -> Iterator[Updates]:
        """A photo was dropped, pasted or chosen."""
        if payload is None:
            yield self._unchanged
            return
        try:
            path = self.shelf.uploaded(payload)
        except EXPECTED as error:
            raise told(error) from error
        yield from self._open(self._session(request), path, payload.get("orig_name") or path.name, progress)

    def take_sample(
        self,
        chosen: gr.SelectData,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Updates]:
        """A sample was clicked."""
        path = self.samples[int(chosen.index)]
        yield {self.page.photo: str(path)}
        yield from self._open(self._session(request), path, path.name, progress)

    def change(
        self,
        backbone: str,
        upsampler: str,
        side: int,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Updates]:
        """A setting was changed, or "Run" pressed."""
        session, settings = self._session(request), Settings(backbone.strip(), int(side))
        if session.photo is None:  # taken up when a photo comes
            session.settings, session.upsampler = settings, upsampler
            yield self._unchanged
            return
        session.wanted = settings, upsampler  # a photo that comes meanwhile is seen with them
        yield from self._long(session, progress, lambda report: self._analyse(session, settings, upsampler, report))

    def clear(self, request: gr.Request) -> Updates:
        """The photo was taken away."""
        session = self._session(request)
        session.stop()
        session.photo = None
        session.drawn.clear()
        return {
            **self.views.clear(),
            self.page.status: markup.idle(),
            self.page.cancel: gr.Button("Cancel", interactive=False),
        }

    def cancel(self, request: gr.Request) -> Updates:
        """What runs for this page stops at its next report."""
        self._session(request).stop()
        return {self.page.cancel: gr.Button("Stopping", interactive=False)}

    def leave(self, request: gr.Request) -> None:
        """The page was closed."""
        self.sessions.close(request.session_hash)

    # Views ------------------------------------------------------------------------------------------------------------

    def show(self, tab: str) -> Callable[..., Iterator[Updates]]:
        """What to do when a tab is opened."""

        def showing(
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> Iterator[Updates]:
            session = self._session(request)
            session.tab = tab
            if session.photo is None or session.drawn.get(tab) == session.key(tab):
                yield self._unchanged
            elif tab == "compare":
                yield {self.page.views[tab].empty: ""}
                yield from self._long(session, progress, lambda report: iter([self.views.draw(session, tab, report)]))
            else:
                yield self.views.draw(session, tab, silent)

        return showing

    # The last choice wins, whatever arrives or is drawn first; `when` is the browser's time of it.

    def choose_on_photo(self, when: float, clicked: gr.SelectData, request: gr.Request) -> Updates:
        """A pixel of the photo was clicked."""
        return self._choose(self._session(request), when, clicked, on_photo=True)

    def choose_on_picture(self, when: float, clicked: gr.SelectData, request: gr.Request) -> Updates:
        """A pixel of a picture at the output size was clicked."""
        return self._choose(self._session(request), when, clicked, on_photo=False)

    def choose_kernel(self, kernel_size: int | None, when: float, request: gr.Request) -> Updates:
        """Another kernel size for the attention view."""
        return self._redrawn(self._session(request), when, "attention", kernel_size=kernel_size)

    def choose_head(self, head: int, when: float, request: gr.Request) -> Updates:
        """Another head for the attention view; below 0 the mean of all."""
        return self._redrawn(self._session(request), when, "attention", head=head if head >= 0 else None)

    def choose_clusters(self, clusters: int, when: float, request: gr.Request) -> Updates:
        """Another number of segments."""
        return self._redrawn(self._session(request), when, "segments", clusters=int(clusters))

    def compare(
        self,
        methods: list[str],
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[Updates]:
        """The methods chosen are to be compared."""
        session = self._session(request)
        if not methods:
            raise gr.Error("Choose at least one upsampler.", title="Nothing to compare", print_exception=False)
        session.methods = tuple(methods[:MOST_COMPARED])
        if session.photo is None:
            yield self._unchanged
        else:
            yield from self._long(session, progress, lambda report: iter([self.views.draw(session, "compare", report)]))

    def save(self, what: str) -> Callable[..., Iterator[Updates]]:
        """What to do when a download is asked for."""

        def saving(
            request: gr.Request,
            progress: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> Iterator[Updates]:
            session = self._session(request)

            def work(report: Report) -> Iterator[Updates]:
                yield {self.page.receipt: markup.receipt(self.views.save(session, what, report))}

            yield {self.page.receipt: ""}
            yield from self._long(session, progress, work)

        return saving

    # How --------------------------------------------------------------------------------------------------------------

    def _session(self, request: gr.Request) -> Session:
        return self.sessions.of(request.session_hash)

    def _long(
        self, session: Session, progress: gr.Progress, work: Callable[[Report], Iterator[Updates]]
    ) -> Iterator[Updates]:
        """Work that shows its progress and can be cancelled; a failure is told and leaves the page usable."""
        page, flag = self.page, session.begin()

        def report(share: float, step: str) -> None:
            if flag.is_set():
                raise Cancelled
            progress(share, desc=step)

        yield {page.cancel: gr.Button("Cancel", interactive=True)}
        ended: Updates = {page.cancel: gr.Button("Cancel", interactive=False)}
        try:
            yield from work(report)
        except Cancelled:
            again = "“Run” starts again."
            ended |= {page.status: markup.stopped(again), **self.views.give_up(session, "Cancelled", again)}
        except EXPECTED as error:
            if session.work is flag:
                session.wanted = None
                why = first_line(error)
                views = self.views.give_up(session, "That did not work", why) if session.photo else self.views.clear()
                yield {**ended, page.status: markup.failed(why), **views}
            raise told(error) from error
        yield ended if session.work is flag else self._unchanged  # newer work may have taken over the page

    def _open(self, session: Session, path: Path, name: str, progress: gr.Progress) -> Iterator[Updates]:
        page = self.page

        def work(report: Report) -> Iterator[Updates]:
            session.photo = None
            session.drawn.clear()
            yield self.views.wait(session)
            report(0.0, "reading the photo")
            try:
                photo = self.workbench.open(path, name)
            except EXPECTED:
                yield {page.photo: None}
                raise
            session.photo, session.point = photo, (0.5, 0.5)
            session.shown = photo.size[1], photo.size[0]
            yield from self._analyse(session, *(session.wanted or (session.settings, session.upsampler)), report)

        yield from self._long(session, progress, work)

    def _analyse(self, session: Session, settings: Settings, upsampler: str, report: Report) -> Iterator[Updates]:
        """Run backbone and upsampler and draw the features and the open tab."""
        page, photo = self.page, session.opened
        coarse = self.workbench.coarse(photo, settings, part(report, 0.0, _BACKBONE_SHARE))
        sharp = self.workbench.sharp(photo, settings, upsampler, part(report, _BACKBONE_SHARE, 1.0))
        report(1.0, "drawing")
        if upsampler != session.upsampler:
            session.kernel_size = session.head = None
        session.settings, session.upsampler, session.wanted = settings, upsampler, None
        updates: Updates = {page.status: markup.facts(coarse, sharp)}
        if photo.format not in _SHOWN_BY_BROWSERS:
            session.shown = coarse.photo.size
            updates[page.photo] = self.shelf.put(coarse.photo, "photo")
        yield updates | self.views.wait(session) | self.views.draw(session, "features", report)
        if session.tab != "features":
            yield self.views.draw(session, session.tab, report)

    def _choose(self, session: Session, when: float, clicked: gr.SelectData, *, on_photo: bool) -> Updates:
        photo = session.photo
        if photo is None:  # pictures are there, so the page had one
            raise gr.Error(
                "The application no longer knows this photo: it was restarted, or many other pages were opened. "
                "Drop the photo again.",
                title="This page is out of date",
                print_exception=False,
            )
        height, width = self.workbench.output_size(photo, session.settings)
        across, down = session.shown if on_photo else (width, height)
        x, y = clicked.index
        is_shown = session.tab in ("similarity", "attention")
        tab = session.tab if is_shown else "similarity"
        updates = self._redrawn(session, when, tab, point=(_share(x, across), _share(y, down)), tab=tab)
        return updates if is_shown else {self.page.tabs: gr.Tabs(selected=tab), **updates}

    def _redrawn(self, session: Session, when: float, tab: str, /, **choice: Any) -> Updates:
        """A view after a quick choice, if that is still the latest when it is drawn."""
        if not session.choose(when, **choice) or session.photo is None:
            return self._unchanged
        drawn = self.views.draw(session, tab, silent)
        return drawn if session.chosen_at == when else self._unchanged


def _share(position: float, length: int) -> float:
    return min(max((position + 0.5) / length, 0.0), 1.0)
