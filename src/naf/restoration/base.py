"""The contract of every restorer: a noisy image in, the restored image out, of the same size."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from naf.restoration.tiles import padded
from naf.upsamplers.base import MEMORY_BUDGET
from naf.upsamplers.checks import check_map, whole_number
from naf.weight_record import WeightRecord

_GREATEST = 16.0  # of a 0 … 1 image under any noise worth restoring; 8-bit values lie beyond


class Restorer(nn.Module, ABC):
    """Maps a noisy image to the restored image.

    Class attributes tell what a method needs; tests hold every method to them.
    """

    multiple: ClassVar[int] = 1
    """What the network's sides must be a multiple of; other images are padded and the output is cropped."""
    smallest: ClassVar[int] = 1
    """Least side that the network takes; smaller images are padded likewise."""
    name: str = ""
    """What `naf.restoration.create` was asked for."""
    weights_source: str = "untrained"
    """In words, what `naf.restoration.create` loaded."""
    config: Mapping[str, Any] | None = None
    """Constructor arguments in full; None where `naf.restoration.create` did not make it."""
    record: WeightRecord | None = None
    """What the file that it was filled from says of itself."""
    calling_options: ClassVar[tuple[str, ...]] = ()
    """Constructor arguments that choose how to compute, not what the weights mean: a caller may overrule a file's."""
    computed_buffers: ClassVar[tuple[str, ...]] = ()
    """Entries of the state dict that follow from the configuration; a checkpoint must agree with them."""

    def forward(self, noisy: Tensor) -> Tensor:
        """Restore images.

        Where a method needs sides of a certain multiple, rows and columns are added below and to the right by
        reflection (by repetition of the last one where the image is too small for that), and cut off again.

        Args:
            noisy: (B, 3, H, W), RGB on the 0 … 1 scale as the noise left it: neither clamped nor normalised.

        Returns:
            (B, 3, H, W), same scale, not clamped; dtype of `noisy`.

        Raises:
            TypeError: for non-float or non-tensor input.
            ValueError: for another shape, NaN or infinities, or values of another scale.
        """
        self._check(noisy)
        height, width = noisy.shape[2:]
        restored: Tensor = self._restore(padded(noisy, self.multiple, self.smallest))[:, :, :height, :width]
        return restored

    @torch.no_grad()
    def restore(
        self,
        noisy: Tensor,
        *,
        memory_budget: int = MEMORY_BUDGET,
        approximate: bool = False,
        on_progress: Callable[[float], object] = lambda _: None,
    ) -> Tensor:
        """Restore images of any size in bounded memory, one after the other, without gradients.

        An image that would take more than `memory_budget` is restored in parts that overlap as far as one output
        pixel sees, so that the result is that of :meth:`forward`, up to rounding. NAF works in bands of rows.

        Args:
            noisy: as for :meth:`forward`.
            memory_budget: bytes that the network may take beside input and output, about. Parts are never smaller
                than four overlaps, whatever they take; NAF's bands have a least size too.
            approximate: let a method whose every pixel depends on the whole image (Restormer) work in parts all the
                same. Its result is then another one, with faint steps where parts meet.
            on_progress: called with the share of the work done, 0 … 1.

        Returns:
            (B, 3, H, W), as :meth:`forward`.

        Raises:
            TypeError, ValueError: as :meth:`forward`; also in training mode, and where only an approximation would
                keep within the memory and none was asked for.
        """
        self._check(noisy)
        budget = whole_number("memory_budget", memory_budget, 0)
        if self.training:
            raise ValueError("the restorer is in training mode, expected evaluation mode: call its eval() first")
        done: list[Tensor] = []
        for image in noisy.split(1):

            def report(share: float, before: int = len(done)) -> None:
                on_progress((before + share) / len(noisy))

            done.append(self._restore_large(image, budget, approximate, report))
        return done[0] if len(done) == 1 else torch.cat(done)

    @abstractmethod
    def memory(self, size: tuple[int, int]) -> int:
        """Bytes that :meth:`forward` takes for one image (rows, columns) on the CPU without gradients, about."""

    @abstractmethod
    def _restore(self, noisy: Tensor) -> Tensor:
        """As :meth:`forward`, for checked images with sides as the network needs them."""

    @abstractmethod
    def _restore_large(
        self, noisy: Tensor, memory_budget: int, approximate: bool, on_progress: Callable[[float], object]
    ) -> Tensor:
        """As :meth:`restore`, for one checked image."""

    def _check(self, noisy: Tensor) -> None:
        check_map("noisy", noisy, 3)
        if torch.compiler.is_compiling():
            return
        low, high = torch.stack(noisy.detach().aminmax()).tolist()
        if not (math.isfinite(low) and math.isfinite(high)):
            bad = int((~noisy.isfinite()).sum())
            raise ValueError(f"noisy holds {bad} NaN or infinite values of {noisy.numel()}, expected finite values")
        if max(-low, high) > _GREATEST:
            raise ValueError(
                f"noisy has values from {low:g} to {high:g}, expected the 0 … 1 scale plus noise: divide 8-bit images "
                "by 255"
            )

    @property
    def _label(self) -> str:
        return self.name or type(self).__name__
