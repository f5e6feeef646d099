"""What a stopped run needs to go on: how many rows are finished, and what was computed once for the image."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from naf.data.atomic import replace_file


class SavedState(MutableMapping[str, Tensor]):
    """Small tensors by name, all written anew to one safetensors file at each change.

    Args:
        path: the file; read if it is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tensors = load_file(path) if path.exists() else {}

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __setitem__(self, key: str, value: Tensor) -> None:
        self._tensors[key] = value.contiguous()
        self._save()

    def __delitem__(self, key: str) -> None:
        del self._tensors[key]
        self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(exist_ok=True)
        replace_file(self._path, lambda temporary: save_file(self._tensors, temporary))


class Record:
    """How far a map has been written; lies in the folder STORE.resume beside the store until the map is complete.

    Args:
        store: path of the store.
        name: of the map in it.

    Attributes:
        rows: finished rows, from the top.
        state: see :class:`SavedState`.
    """

    def __init__(self, store: Path, name: str) -> None:
        self._folder = store.with_name(f"{store.name}.resume")
        self._rows_path, self._state_path = (self._folder / f"{name}.{kind}" for kind in ("json", "safetensors"))
        self.rows = int(json.loads(self._rows_path.read_text())["rows"]) if self._rows_path.exists() else 0
        self.state = SavedState(self._state_path)

    def advance(self, rows: int) -> None:
        """Note that this many rows are on disk now."""
        self._folder.mkdir(exist_ok=True)
        replace_file(self._rows_path, lambda temporary: temporary.write_text(json.dumps({"rows": rows})))
        self.rows = rows

    def remove(self) -> None:
        """Forget everything, also on disk."""
        for path in (self._rows_path, self._state_path):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or another map's record is in it
            self._folder.rmdir()
        self.rows, self.state = 0, SavedState(self._state_path)
