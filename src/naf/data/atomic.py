"""Files that are never half-written: to a temporary name first, then renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Make a file whole or not at all: readers see the old one or the new one.

    Args:
        path: where to; replaced if there.
        write: called with the temporary path.

    Raises:
        OSError: if it cannot be written; likewise whatever `write` raises.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # some writers make files that only their owner can read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
