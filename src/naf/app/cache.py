"""What was computed, kept as long as memory for it lasts; the least recently used goes first."""

from __future__ import annotations

import functools
import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

Block = tuple[str, int]
"""A piece of memory: where, and its address."""


class ByteCache:
    """A mapping that holds at most so many bytes of tensors and pictures. Threads may share it.

    Memory that several entries refer to counts once, and as long as one of them stays.

    Args:
        limit: most bytes. A value that is larger by itself is not kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: OrderedDict[Hashable, tuple[Any, dict[Block, int]]] = OrderedDict()
        self._owners: Counter[Block] = Counter()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return self._bytes

    def kept(self) -> list[Hashable]:
        """Keys of the entries, least recently used first."""
        with self._lock:
            return list(self._entries)

    def get(self, key: Hashable) -> Any:
        """The value, now the most recently used; None where there is none."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value, in place of an older one of this key and of whatever else has to go."""
        blocks = dict(_blocks(value, set()))
        with self._lock:
            if key in self._entries:
                self._drop(key)
            if sum(blocks.values()) > self.limit:
                return
            self._entries[key] = value, blocks
            for block, size in blocks.items():
                self._bytes += size if self._owners[block] == 0 else 0
                self._owners[block] += 1
            while self._bytes > self.limit:
                self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        _, blocks = self._entries.pop(key)
        for block, size in blocks.items():
            self._owners[block] -= 1
            if not self._owners[block]:
                del self._owners[block]
                self._bytes -= size


def held_bytes(value: Any) -> int:
    """Bytes of the tensors, arrays and pictures that a value refers to; networks do not count."""
    return sum(dict(_blocks(value, set())).values())


def _blocks(value: Any, seen: set[int]) -> Iterator[tuple[Block, int]]:
    """Memory that a value refers to, with its bytes; a block may come more than once."""
    if id(value) in seen or isinstance(value, nn.Module | type | str | int | float | torch.device | torch.dtype):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        yield (str(value.device), storage.data_ptr()), storage.nbytes()
    elif isinstance(value, Image.Image):
        yield ("picture", id(value)), value.width * value.height * len(value.getbands())
    elif isinstance(value, np.ndarray):
        yield ("array", id(value)), value.nbytes
    else:
        for part in _parts(value):
            yield from _blocks(part, seen)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, tuple | list | set | frozenset):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, FunctionType):
        return [cell.cell_contents for cell in value.__closure__ or ()]
    return list(getattr(value, "__dict__", {}).values())
