"""Features on disk, so that many trainings and evaluations pay the backbone once."""

from __future__ import annotations

import logging
import os
import uuid
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from naf.data.atomic import replace_file

_log = logging.getLogger(__name__)

_FORMAT = "naf features 1"
_SHARD_BYTES = 64 << 20
_OPEN_SHARDS = 64


_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def cache_dtype(key: str, name: object) -> torch.dtype:
    """The dtype that a configuration names for a cache.

    Raises:
        ValueError: naming the key, for one that a cache does not store.
    """
    if name not in _DTYPES:
        raise ValueError(f"{key} is {name!r}, expected one of {', '.join(_DTYPES)}")
    return _DTYPES[str(name)]


class CacheError(RuntimeError):
    """A feature cache that is another backbone's, or that cannot be written."""


class FeatureCache:
    """Features by key, in safetensors shards in a folder.

    Several processes may use the folder at once: each writes shards of its own, whole or not at all, and sees those
    of the others after its own next one.

    Args:
        folder: made if missing.
        fingerprint: of what made the features (:func:`naf.backbones.fingerprint.fingerprint_of`).
        dtype: that they are stored in.

    Raises:
        CacheError: if the folder holds features of another fingerprint or dtype, or cannot be made.
    """

    def __init__(self, folder: str | Path, fingerprint: str, dtype: torch.dtype = torch.float16) -> None:
        self.folder, self.fingerprint, self.dtype = Path(folder), fingerprint, dtype
        self._metadata = {"format": _FORMAT, "fingerprint": fingerprint, "dtype": str(dtype).removeprefix("torch.")}
        self._shard_of: dict[str, str] = {}
        self._seen: set[str] = set()
        self._open: OrderedDict[str, Any] = OrderedDict()  # least recently used first
        self._pending: dict[str, Tensor] = {}
        self._pending_bytes = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f"the feature cache {self.folder} cannot be made: {error}") from error
        self._find_shards()

    def __len__(self) -> int:
        return len(self._shard_of.keys() | self._pending.keys())

    def get(self, key: str) -> Tensor | None:
        """The features of a key, on the CPU in the cache's dtype and not to be written to; None if not there."""
        if key in self._pending:
            return self._pending[key]
        name = self._shard_of.get(key)
        if name is None:
            return None
        try:
            return self._shard(name).get_tensor(key)  # type: ignore[no-any-return]
        except (SafetensorError, OSError) as error:
            self._drop(name, error)
            return None

    def put(self, key: str, tensor: Tensor) -> Tensor:
        """Keep features; on disk when a shard is full, or at :meth:`flush`.

        Args:
            key: what they are of.
            tensor: any shape.

        Returns:
            What :meth:`get` gives from now on: rounded to the cache's dtype, on the CPU.

        Raises:
            CacheError: if the dtype cannot hold the values, or a shard cannot be written.
        """
        kept = tensor.detach().to("cpu", self.dtype, copy=True).contiguous()
        if not kept.isfinite().all():
            name = str(self.dtype).removeprefix("torch.")
            raise CacheError(
                f"features hold values up to {tensor.abs().max().item():g}, which the cache's {name} cannot hold: "
                "take bfloat16 or float32, or no cache"
            )
        if key not in self._pending:
            self._pending_bytes += kept.numel() * kept.element_size()
        self._pending[key] = kept
        if self._pending_bytes >= _SHARD_BYTES:
            self.flush()
        return kept

    def flush(self) -> None:
        """Write what is not on disk yet.

        Raises:
            CacheError: if it cannot be written; no part of it is left in the folder then.
        """
        if not self._pending:
            return
        name = f"features-{os.environ.get('RANK', '0')}-{os.getpid()}-{uuid.uuid4().hex}.safetensors"
        try:
            replace_file(self.folder / name, lambda path: save_file(self._pending, path, self._metadata))
        except (OSError, SafetensorError) as error:
            raise CacheError(
                f"features cannot be written to the cache {self.folder}: {error}. Free space there, choose another "
                "folder, or do without a cache"
            ) from error
        self._shard_of.update(dict.fromkeys(self._pending, name))
        self._seen.add(name)
        self._pending, self._pending_bytes = {}, 0
        self._find_shards()

    def _find_shards(self) -> None:
        """Take up the shards that are new in the folder."""
        for path in sorted(self.folder.glob("features-*.safetensors")):
            if path.name in self._seen:
                continue
            self._seen.add(path.name)
            try:
                file = self._shard(path.name)
                metadata, keys = file.metadata() or {}, file.keys()
            except (SafetensorError, OSError) as error:
                self._drop(path.name, error)
                continue
            for what, expected in self._metadata.items():
                if metadata.get(what) != expected:
                    raise CacheError(
                        f"{path} has {what} {metadata.get(what)!r}, expected {expected!r}: the folder holds features "
                        "of another backbone, of other weights or settings. Choose another folder"
                    )
            self._shard_of.update(dict.fromkeys(keys, path.name))

    def _shard(self, name: str) -> Any:
        """A shard, mapped into memory."""
        if name not in self._open:
            self._open[name] = safe_open(self.folder / name, "pt")
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(name)
        return self._open[name]

    def _drop(self, name: str, error: Exception) -> None:
        """Forget a shard, and remove it if it is damaged; it may also just be gone, or out of reach for now."""
        _log.warning("%s cannot be read, its features are computed anew: %s", self.folder / name, error)
        self._shard_of = {key: shard for key, shard in self._shard_of.items() if shard != name}
        self._open.pop(name, None)
        if isinstance(error, SafetensorError):
            with suppress(OSError):
                (self.folder / name).unlink()
