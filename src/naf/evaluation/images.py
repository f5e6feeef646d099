"""Images and targets of a probe at the sizes of its protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from naf.data.labelled.geometry import resize_image
from naf.evaluation.protocol import ProbeProtocol
from naf.evaluation.task import ImageSet, ProbeTask


class Example(NamedTuple):
    """Images of a batch, not mirrored.

    Attributes:
        indices: in their set.
        image01: (B, 3, S, S), what the backbone sees.
        guidance01: (B, 3, G, G), what guides the upsampling.
        targets: (B, T, T).
    """

    indices: list[int]
    image01: Tensor
    guidance01: Tensor
    targets: Tensor

    def mirrored(self) -> Example:
        """Left to right."""
        return Example(self.indices, *(part.flip(-1) for part in self[1:]))


_Item = tuple[int, Tensor, Tensor, Tensor]


class _Images(Dataset[_Item | ValueError]):
    def __init__(self, task: ProbeTask, images: ImageSet, protocol: ProbeProtocol) -> None:
        self.task, self.images, self.protocol = task, images, protocol

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> _Item | ValueError:
        # What is wrong with a file is handed on as it is: raised in a worker it would come with the worker's traceback.
        try:
            return self._read(index)
        except ValueError as error:
            return error

    def _read(self, index: int) -> _Item:
        at = self.protocol
        photo = self.images.read_image(index)
        image01 = resize_image(photo, at.image_size, at.geometry)
        is_other = at.guidance_size not in (None, at.image_size)
        guidance01 = resize_image(photo, at.guidance_size, at.geometry) if is_other and at.guidance_size else image01
        return index, image01, guidance01, self.task.target(self.images, index, at.target_size, at.geometry)


def batches(
    task: ProbeTask, images: ImageSet, protocol: ProbeProtocol, order: Sequence[Sequence[int]], workers: int = 0
) -> Iterator[Example]:
    """Batches in a given order.

    Args:
        task: makes the targets.
        images: of a split.
        protocol: sizes and geometry.
        order: indices of each batch.
        workers: processes that read images.

    Raises:
        ValueError: for a file that cannot be used, as its set tells.
    """
    if not order:
        return
    loader = DataLoader(
        _Images(task, images, protocol),
        batch_sampler=[list(part) for part in order],
        num_workers=workers,
        collate_fn=_collate,
    )
    for batch in loader:
        if isinstance(batch, ValueError):
            raise batch
        indices, image01, guidance01, targets = batch
        yield Example(indices.tolist(), image01, guidance01, targets)


def _collate(items: list[_Item | ValueError]) -> Any:
    """A batch, or the first error in it."""
    return next((item for item in items if isinstance(item, ValueError)), None) or default_collate(items)


def training_order(images: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices of the batches of an epoch; the last may be smaller."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return [part.tolist() for part in torch.randperm(images, generator=generator).split(batch_size)]


def mirrored(batches: int, probability: float, seed: int, epoch: int) -> list[bool]:
    """Whether each batch of an epoch is mirrored."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch + 500_009)
    return (torch.rand(batches, generator=generator) < probability).tolist()
