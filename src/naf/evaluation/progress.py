"""How far an evaluation is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SAID_EVERY = 30.0  # seconds


@contextmanager
def told(console: Console, what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, elsewhere a line every half minute.

    Args:
        console: where to.
        what: is being done.
        total: steps.

    Yields:
        A function to be called after each step.
    """
    if console.is_terminal:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(TextColumn("{task.description}", markup=False), *columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)
        return
    begun = said = time.monotonic()
    done = 0

    def step() -> None:
        nonlocal said, done
        done += 1
        now = time.monotonic()
        if now - said > _SAID_EVERY and done < total:
            left = timedelta(seconds=round((now - begun) / done * (total - done)))
            console.print(f"{what}: {done} of {total}, {left} left", markup=False)
            said = now

    yield step


def whole_time(seconds: float) -> str:
    """What a dry run says of the whole, in words."""
    return f"about {timedelta(seconds=round(seconds))} for the whole of it, at this pace"
