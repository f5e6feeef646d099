"""Stores of maps, written in bands of rows with bounded memory.

- ``.zarr``: a zarr v3 group with one array (C, H, W) a map, cut into chunks of all channels, so that a crop is read
  without the rest. Rows that are not written yet are NaN.
- ``.safetensors``: one map, tensor "features" (C, H, W); under a temporary name until it is complete.

Both carry the same metadata as text. A run that is killed loses the band that it was writing, no more; a power
failure may lose what the system had not yet brought to disk.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from naf.data.band_store import BandStore

_CHUNK_BYTES = 4 << 20
_SAFETENSORS_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}


class ZarrStore(BandStore):
    """A map as an array of a zarr v3 group; see :class:`BandStore`."""

    holds_many = True

    @staticmethod
    def has_complete(path: Path, name: str) -> bool:  # noqa: D102
        about = path / name / "zarr.json"
        return about.exists() and bool(json.loads(about.read_text())["attributes"].get("complete"))

    def read(self, rows: slice) -> Tensor:  # noqa: D102
        return torch.from_numpy(np.asarray(self._array()[:, rows]))

    def _open(self) -> dict[str, str] | None:
        is_empty = self.path.is_dir() and not any(self.path.iterdir())
        if self.path.exists() and not is_empty and not (self.path / "zarr.json").exists():
            raise ValueError(f"{self.path} exists and is no zarr v3 group: choose another name")
        if not (self.path / self.name / "zarr.json").exists():  # a run may be killed before that is written
            return None
        return {key: str(value) for key, value in self._array().attrs.items()}

    def _array(self) -> Any:
        return import_zarr().open_array(self.path / self.name, mode="r+")

    def _create(self) -> None:
        zarr = import_zarr()
        # Shuffled bytes and lz4: a third smaller for features, about as fast as no compression.
        zarr.open_group(self.path, mode="a", zarr_format=3).create_array(
            self.name,
            shape=self.shape,
            chunks=self._chunks(),
            dtype=str(self.dtype).removeprefix("torch."),
            compressors=zarr.codecs.BloscCodec(cname="lz4", clevel=1, shuffle="shuffle"),
            fill_value=math.nan,
            dimension_names=("channel", "row", "column"),
            attributes=self.metadata | {"complete": False},
        )

    def _chunks(self) -> tuple[int, int, int]:
        channels, height, width = self.shape
        pixels = max(1, _CHUNK_BYTES // (channels * self.dtype.itemsize))
        side = 1 << (pixels.bit_length() - 1) // 2  # a power of two, at most the root of the pixels
        return channels, min(side, height), min(side, width)

    def _choose_band_rows(self) -> int:
        rows = self._chunks()[1]
        return max(rows, super()._choose_band_rows() // rows * rows)

    def _write(self, rows: slice, band: Tensor) -> None:
        self._array()[:, rows] = band.numpy()

    def _finish(self) -> None:
        self._array().attrs["complete"] = True

    def _remove(self) -> None:
        if (self.path / self.name / "zarr.json").exists():
            del import_zarr().open_group(self.path, mode="r+")[self.name]

    @property
    def _label(self) -> str:
        return f"{self.name} in {self.path}"


class SafetensorsStore(BandStore):
    """A map as a safetensors file; see :class:`BandStore`."""

    holds_many = False

    @staticmethod
    def has_complete(path: Path, name: str) -> bool:  # noqa: D102
        del name
        return path.exists()

    def read(self, rows: slice) -> Tensor:  # noqa: D102
        channels, _, width = self.shape
        block = bytearray(channels * (rows.stop - rows.start) * width * self.dtype.itemsize)
        view = memoryview(block)
        with (self.path if self.is_complete else self._partial).open("rb") as file:
            for part, offset in zip(self._split(view), self._offsets(file, rows), strict=True):
                file.seek(offset)
                file.readinto(part)
        return torch.frombuffer(block, dtype=self.dtype).view(channels, -1, width)

    @property
    def _partial(self) -> Path:
        return self.path.with_name(f".{self.path.name}.partial")

    def _open(self) -> dict[str, str] | None:
        path = self.path if self.path.exists() else self._partial
        if not path.exists():
            return None
        with path.open("rb") as file:
            return dict(_read_header(file).get("__metadata__", {}))

    def _create(self) -> None:
        size = self.shape[1] * self._row_bytes
        about = {"dtype": _SAFETENSORS_NAMES[self.dtype], "shape": self.shape, "data_offsets": [0, size]}
        header = json.dumps({"__metadata__": self.metadata, "features": about}).encode()
        header += b" " * (-len(header) % 8)
        with self._partial.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + size)

    def _write(self, rows: slice, band: Tensor) -> None:
        # Block by block instead of a memory map, whose dirty pages would count as the process's memory.
        view = band.contiguous().view(torch.uint8).numpy().data.cast("B")
        with self._partial.open("r+b") as file:
            for part, offset in zip(self._split(view), self._offsets(file, rows), strict=True):
                file.seek(offset)
                file.write(part)

    def _offsets(self, file: BinaryIO, rows: slice) -> list[int]:
        """Where each channel's rows begin in the file."""
        file.seek(0)
        start = 8 + int.from_bytes(file.read(8), "little")
        channels, height, width = self.shape
        row_bytes = width * self.dtype.itemsize
        return [start + (channel * height + rows.start) * row_bytes for channel in range(channels)]

    def _split(self, view: memoryview) -> list[memoryview]:
        """One part for each channel."""
        size = len(view) // self.shape[0]
        return [view[start : start + size] for start in range(0, len(view), size)]

    def _finish(self) -> None:
        self._partial.replace(self.path)

    def _remove(self) -> None:
        for path in (self.path, self._partial):
            path.unlink(missing_ok=True)


def store_class(path: Path, dtype: torch.dtype) -> type[BandStore]:
    """The kind of store that a path's suffix asks for.

    Raises:
        ValueError: for another suffix than .zarr and .safetensors, or a dtype that it cannot hold.
    """
    if path.suffix == ".safetensors":
        return SafetensorsStore
    if path.suffix != ".zarr":
        raise ValueError(f"{path} has suffix {path.suffix!r}, expected .zarr or .safetensors")
    if dtype == torch.bfloat16:
        raise ValueError("zarr cannot hold bfloat16: take float16 or float32, or a .safetensors file")
    import_zarr()
    return ZarrStore


def import_zarr() -> Any:
    """The zarr package.

    Raises:
        RuntimeError: if it is not installed, or too old; says how to get it.
    """
    try:
        import zarr
        from zarr.codecs import BloscCodec  # noqa: F401 (version 2 has none)
    except ImportError:
        raise RuntimeError(
            "a .zarr store needs the package zarr, version 3 or later: pip install 'naf-upsampler[stream]'"
        ) from None
    return zarr


def _read_header(file: BinaryIO) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return header
