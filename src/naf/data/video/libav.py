"""PyAV, asked for where it is needed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType


def import_av() -> ModuleType:
    """The module `av`.

    Raises:
        ValueError: says how to install it.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise ValueError("videos need av (PyAV): pip install 'naf-upsampler[video]'") from None
    return av


def as_url(path: Path) -> str:
    """A path as FFmpeg takes it: without the prefix, "12:30.mp4" would be a protocol."""
    return f"file:{path}"
