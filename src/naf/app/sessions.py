"""What one open page is looking at, and whether its work is still wanted."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

from naf.app.analysis import Settings, WorkbenchError
from naf.app.photo import Photo

_SESSIONS = 256  # pages; those not used for longest are forgotten first

Key = tuple[object, ...]


@dataclass
class Session:
    """One page.

    Attributes:
        photo: looked at.
        shown: (width, height) of the photo as the page shows it; clicks are positions on that.
        settings: of backbone and output.
        upsampler: looked at closely.
        methods: compared.
        point: chosen position, (x, y) as shares of width and height.
        kernel_size: of the attention view; None for the method's own.
        head: of the attention view; None for the mean of all.
        clusters: of the segments view.
        tab: that is open.
        drawn: what each tab shows.
        work: set once the latest long work is no longer wanted.
        wanted: settings and upsampler that the controls show, where their work has not ended; else None.
        chosen_at: when the browser had the latest quick choice (a click, a kernel size, …), by its own clock.
    """

    upsampler: str
    methods: tuple[str, ...]
    settings: Settings
    photo: Photo | None = None
    shown: tuple[int, int] = (1, 1)
    point: tuple[float, float] = (0.5, 0.5)
    kernel_size: int | None = None
    head: int | None = None
    clusters: int = 6
    tab: str = "features"
    drawn: dict[str, Key] = field(default_factory=dict)
    work: Event = field(default_factory=Event)
    wanted: tuple[Settings, str] | None = None
    chosen_at: float = -math.inf
    lock: Lock = field(default_factory=Lock)

    @property
    def opened(self) -> Photo:
        """The photo.

        Raises:
            WorkbenchError: if there is none.
        """
        if self.photo is None:
            raise WorkbenchError("there is no photo yet: drop one, or take a sample")
        return self.photo

    def choose(self, when: float, /, **choice: Any) -> bool:
        """Take a quick choice up, unless a later one was: events may overtake each other.

        Args:
            when: by the browser's clock.
            choice: attributes and what they become.
        """
        with self.lock:
            if when < self.chosen_at:
                return False
            self.chosen_at = when
            for name, value in choice.items():
                setattr(self, name, value)
            return True

    def begin(self) -> Event:
        """Start long work: what ran before is no longer wanted. Gives the new flag."""
        self.work.set()
        self.work = Event()
        return self.work

    def stop(self) -> None:
        """Long work is no longer wanted."""
        self.work.set()

    def key(self, tab: str) -> Key:
        """What a tab would show now."""
        about: Key = (self.photo and self.photo.key, self.settings)
        if tab == "compare":
            return (*about, self.methods)
        more: dict[str, Key] = {
            "similarity": (self.point,),
            "attention": (self.point, self.kernel_size, self.head),
            "segments": (self.clusters,),
        }
        return (*about, self.upsampler, *more.get(tab, ()))


class Sessions:
    """The open pages.

    Args:
        first: what a new page looks at.
    """

    def __init__(self, first: Session) -> None:
        self._first = first
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._lock = Lock()

    def of(self, name: str | None) -> Session:
        """The page of a name that the browser drew, a new one where it is not known."""
        first = self._first
        with self._lock:
            session = self._open.pop(name or "", None) or Session(first.upsampler, first.methods, first.settings)
            self._open[name or ""] = session
            forgotten = [self._open.popitem(last=False)[1] for _ in range(len(self._open) - _SESSIONS)]
        for each in forgotten:
            each.stop()
        return session

    def close(self, name: str | None) -> None:
        """Forget a page and stop its work."""
        with self._lock:
            session = self._open.pop(name or "", None)
        if session is not None:
            session.stop()

    def close_all(self) -> None:
        """Forget all pages and stop their work."""
        with self._lock:
            sessions = list(self._open.values())
            self._open.clear()
        for each in sessions:
            each.stop()
