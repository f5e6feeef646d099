"""Where a result comes from: the checkout and the command."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path


def commit() -> str | None:
    """Of the checkout that this package is run from, None outside of one."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None


def command() -> str:
    """The command line of this process, without the path of its program; empty in a notebook, which has none."""
    if Path(sys.argv[0]).name == "ipykernel_launcher.py":
        return ""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
