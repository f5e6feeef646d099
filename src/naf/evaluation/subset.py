"""Some images of a set, evenly spread."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from PIL import Image


class _Images(Protocol):
    """What a data set gives."""

    @property
    def names(self) -> list[str]: ...

    @property
    def note(self) -> str: ...

    def __len__(self) -> int: ...

    def read_image(self, index: int) -> Image.Image: ...

    def files(self, index: int) -> Sequence[Path]: ...


S = TypeVar("S", bound=_Images)


class Subset(Generic[S]):
    """At most so many images of a set.

    Args:
        whole: the set.
        limit: how many; None for all.

    Attributes:
        indices: of the images, in the whole set.

    Raises:
        ValueError: if limit is below 1.
    """

    def __init__(self, whole: S, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}, expected at least 1 image or null")
        self.whole = whole
        number = len(whole) if limit is None else min(limit, len(whole))
        self.indices = [index * len(whole) // number for index in range(number)]
        self._fingerprint = ""

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def names(self) -> list[str]:
        """Of the images."""
        names = self.whole.names
        return [names[index] for index in self.indices]

    @property
    def note(self) -> str:
        """The set's, and how many images were taken."""
        taken = f"{len(self):,} images taken of {len(self.whole):,}" if len(self) < len(self.whole) else ""
        return "; ".join(part for part in (self.whole.note, taken) if part)

    def read_image(self, index: int) -> Image.Image:
        """RGB, 8 bits a channel."""
        return self.whole.read_image(self.indices[index])

    def fingerprint(self) -> str:
        """Hash of the images' names and of the sizes of their files, which are looked at once."""
        if not self._fingerprint:
            lines = [
                f"{name} {' '.join(str(file.stat().st_size) for file in self.whole.files(index))}"
                for index, name in zip(self.indices, self.names, strict=True)
            ]
            self._fingerprint = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return self._fingerprint
