"""The application's own folder: what is uploaded to it, what the page shows or hands out, the oldest removed."""

from __future__ import annotations

import secrets
import shutil
from collections import deque
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image

from naf.app.analysis import WorkbenchError

_PICTURES = 300  # of all pages together; a page that has loaded its picture needs the file no more
_DOWNLOADS = 8  # folders


class Shelf:
    """A place for uploads, pictures and downloads; safe to use from several threads.

    Args:
        folder: where; what lies in it is served.
        pictures: kept at most.
        downloads: kept at most.
    """

    def __init__(self, folder: Path, *, pictures: int = _PICTURES, downloads: int = _DOWNLOADS) -> None:
        self.folder = folder.resolve()
        self._most = {"pictures": pictures, "downloads": downloads}
        self._kept: dict[str, deque[Path]] = {"pictures": deque(), "downloads": deque()}
        self._lock = Lock()

    def put(self, picture: Image.Image, name: str) -> str:
        """Write a picture as NAME.png, quickly rather than small, and give its path."""
        path = self._room("pictures") / f"{name}.png"
        picture.save(path, compress_level=1)
        return str(path)

    def room(self) -> Path:
        """An empty folder for one download."""
        return self._room("downloads")

    def uploaded(self, payload: Any) -> Path:
        """The path of a file that was uploaded here.

        Args:
            payload: what the browser or a client says of the file.

        Raises:
            WorkbenchError: for any other file.
        """
        name = payload.get("path") if isinstance(payload, dict) else None
        try:
            path = Path(name).resolve() if isinstance(name, str) and name else None
            if path is not None and path.is_relative_to(self.folder) and path.is_file():
                return path
        except (OSError, ValueError, RuntimeError):  # a name too long, with a zero byte, or a loop of links
            pass
        raise WorkbenchError("the photo is no uploaded file: send it with the upload of the page or of gradio_client")

    def _room(self, kind: str) -> Path:
        room = self.folder / kind / secrets.token_hex(16)  # cannot be guessed by another page
        room.mkdir(parents=True)
        with self._lock:
            kept = self._kept[kind]
            kept.append(room)
            old = [kept.popleft() for _ in range(len(kept) - self._most[kind])]
        for each in old:
            shutil.rmtree(each, ignore_errors=True)
        return room
