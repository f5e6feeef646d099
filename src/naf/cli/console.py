"""How the command line speaks: results on standard output, errors on standard error, one line each."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

INTERRUPTED = 130
"""The exit status of what Ctrl-C ended; of a training SIGTERM, too."""


def fail(message: str) -> None:
    """Print an error."""
    errors.print("error:", style="bold red", end=" ")
    errors.print(message, markup=False)


def print_table(table: Table) -> None:
    """Print a table whole: a narrow terminal wraps its lines, a file or a pipe takes them as they are."""
    width = console.measure(table, options=console.options.update(max_width=1000)).maximum
    Console(highlight=False, soft_wrap=True, width=max(width, console.width)).print(table)


def progress() -> Progress:
    """A progress bar with elapsed and remaining time; vanishes where the output is no terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
