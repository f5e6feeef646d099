"""One way to open a clip, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from naf.data.video.clip import Clip
from naf.data.video.file import open_video
from naf.data.video.folder import open_folder


def open_clip(
    path: str | Path, *, fps: float | None = None, on_progress: Callable[[float], object] = lambda _: None
) -> Clip:
    """A video file, or a folder of frames.

    Args:
        path: of either.
        fps: frames a second of a folder, 25 if None; a video has its own times.
        on_progress: called with the share done, 0 … 1.

    Raises:
        ClipError: see :func:`~naf.data.video.file.open_video` and :func:`~naf.data.video.folder.open_folder`.
        ValueError: if a rate is given for a video, or makes no sense.
    """
    path = Path(path)
    if path.is_dir():
        return open_folder(path, 25.0 if fps is None else fps, on_progress)
    if fps is not None:
        raise ValueError(f"fps is given, but {path} is no folder of frames: a video keeps its own times")
    return open_video(path, on_progress)
