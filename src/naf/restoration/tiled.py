"""Restorers that take large images in overlapping tiles."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor

from naf.restoration.base import Restorer
from naf.restoration.tiles import restore_in_tiles

APPROXIMATE_OVERLAP = 64
"""Pixels that tiles overlap by where no overlap would be exact."""


class TiledRestorer(Restorer):
    """A restorer whose output is put together from tiles where the whole image takes too much memory."""

    @property
    def reach(self) -> int | None:
        """Pixels to each side that an output pixel depends on; None for the whole image."""
        return None

    @property
    @abstractmethod
    def bytes_per_pixel(self) -> int:
        """That :meth:`forward` takes, float32, on the CPU without gradients, about."""

    def memory(self, size: tuple[int, int]) -> int:
        """In proportion to the pixels."""
        return math.prod(size) * self.bytes_per_pixel

    def _restore_large(
        self, noisy: Tensor, memory_budget: int, approximate: bool, on_progress: Callable[[float], object]
    ) -> Tensor:
        size, overlap = (noisy.shape[2], noisy.shape[3]), self.reach
        if self.memory(size) <= memory_budget:
            restored: Tensor = self(noisy)
            on_progress(1.0)
            return restored
        if overlap is None:
            if not approximate:
                raise ValueError(
                    f"{self._label} takes about {self.memory(size) >> 20} MiB for an image of {size} pixels, "
                    f"memory_budget is {memory_budget >> 20} MiB, and each output pixel depends on the whole image: "
                    "pass a larger memory_budget, or approximate=True for tiles, whose result is another one"
                )
            overlap = APPROXIMATE_OVERLAP
        side = math.isqrt(memory_budget // self.bytes_per_pixel)
        return restore_in_tiles(self._restore, noisy, side, overlap, self.multiple, self.smallest, on_progress)
