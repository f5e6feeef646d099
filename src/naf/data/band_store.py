"""The contract of stores: a map on disk, written in bands of rows, that goes on where a run was stopped."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from naf.data.resume import Record

BAND_BYTES = 256 << 20
_BAND_ROWS = 256
_SETTINGS = "settings"


class BandStore(ABC):
    """One map (C, H, W) on disk.

    Args:
        path: of the store.
        name: of the map.
        shape: (C, H, W).
        dtype: of the map.
        metadata: text that is stored beside the map. A run goes on only with the same.
        settings: hash of everything else that decides the values; likewise.
        overwrite: replaces what is there.

    Attributes:
        holds_many: whether one path holds maps of several names.
        band_rows: best height of a band: the file's chunks are complete after each.

    Raises:
        ValueError: if the map was made otherwise or the file is another's; if the disk has no room.
    """

    holds_many: ClassVar[bool]

    def __init__(
        self,
        path: Path,
        name: str,
        shape: tuple[int, int, int],
        dtype: torch.dtype,
        metadata: Mapping[str, object],
        settings: str,
        *,
        overwrite: bool = False,
    ) -> None:
        self.path, self.name, self.shape, self.dtype = path, name, shape, dtype
        own = {"size": "x".join(map(str, shape)), "dtype": str(dtype).removeprefix("torch."), _SETTINGS: settings}
        self.metadata = {key: str(value) for key, value in metadata.items()} | own
        self.band_rows = self._choose_band_rows()
        self._record = Record(path, name)
        if overwrite:
            self._remove()
        found = self._open()
        if found is not None:
            self._compare(found)
        self._check_disk()
        if found is None:
            self._record.remove()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._create()

    @property
    def done(self) -> int:
        """Finished rows, from the top."""
        return self.shape[1] if self.is_complete else self._record.rows

    @property
    def state(self) -> MutableMapping[str, Tensor]:
        """Small tensors that are kept until the map is complete; see `Upsampler.iter_rows`."""
        return self._record.state

    def write(self, rows: slice, band: Tensor) -> None:
        """Write the next rows.

        Args:
            rows: they begin where the finished rows end.
            band: (C, rows, W), on the CPU.
        """
        if rows.start != self.done:
            raise ValueError(f"rows begin at {rows.start}, expected {self.done}: bands are written from top to bottom")
        self._write(rows, band.to(self.dtype))
        self._record.advance(rows.stop)

    def finish(self) -> None:
        """Mark the map complete and drop what only a resumed run needs."""
        if self.done != self.shape[1]:
            raise ValueError(f"{self.done} of {self.shape[1]} rows are written, expected all of them")
        if not self.is_complete:
            self._finish()
        self._record.remove()

    @property
    def is_complete(self) -> bool:
        """Whether every row is written and marked so."""
        return self.has_complete(self.path, self.name)

    @staticmethod
    @abstractmethod
    def has_complete(path: Path, name: str) -> bool:
        """Whether a store holds the complete map of a name, however that was made."""

    @abstractmethod
    def read(self, rows: slice) -> Tensor:
        """Finished rows, (C, rows, W)."""

    @abstractmethod
    def _open(self) -> dict[str, str] | None:
        """Metadata of the map where it is there already."""

    @abstractmethod
    def _create(self) -> None: ...

    @abstractmethod
    def _write(self, rows: slice, band: Tensor) -> None: ...

    @abstractmethod
    def _finish(self) -> None: ...

    @abstractmethod
    def _remove(self) -> None: ...

    def _choose_band_rows(self) -> int:
        return max(1, min(_BAND_ROWS, BAND_BYTES // self._row_bytes))

    @property
    def _row_bytes(self) -> int:
        return self.shape[0] * self.shape[2] * self.dtype.itemsize

    def _compare(self, found: Mapping[str, str]) -> None:
        other = [
            f"{key} {found.get(key)!r}, now {value!r}"
            for key, value in self.metadata.items()
            if key != _SETTINGS and found.get(key) != value
        ]
        if not other and found.get(_SETTINGS) != self.metadata[_SETTINGS]:
            other = ["another image or other weights"]
        if other:
            raise ValueError(
                f"{self._label} was made with other settings ({'; '.join(other)}): choose another name, or replace it "
                "by overwrite (--overwrite)"
            )

    def _check_disk(self) -> None:
        """Uncompressed size: features are noise to most compressors."""
        needed = (self.shape[1] - self.done) * self._row_bytes
        folder = next(parent for parent in self.path.absolute().parents if parent.is_dir())
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise ValueError(
                f"{self._label} needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free in {folder}: choose "
                "another place, a smaller output size or a smaller dtype"
            )

    @property
    def _label(self) -> str:
        return str(self.path)
