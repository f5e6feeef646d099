"""Views of photos, loaded and joined to the batch of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from naf.training.photos.folder import PhotoFolder, Sample
from naf.training.plan import StepPlan
from naf.training.sampler import Ticket


@dataclass(frozen=True, eq=False)
class Batch:
    """One process's images of a step.

    Attributes:
        plan: what the step does.
        image01: (B, 3, S, S) float32, values from 0 to 1.
        segments: (B, S, S) int64; None where the photo set has no label maps.
        keys: of the views; None where one will not come again.
        first: index of the first image in the global batch; the others follow.
    """

    plan: StepPlan
    image01: Tensor
    segments: Tensor | None
    keys: list[str] | None
    first: int

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        segments = None if self.segments is None else self.segments.to(device, non_blocking=non_blocking)
        return replace(self, image01=self.image01.to(device, non_blocking=non_blocking), segments=segments)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory."""
        segments = None if self.segments is None else self.segments.pin_memory()
        return replace(self, image01=self.image01.pin_memory(), segments=segments)


class TicketDataset(Dataset[tuple[Ticket, Sample]]):
    """Loads what the tickets of a :class:`~naf.training.sampler.StepSampler` name.

    Args:
        photo_sets: the photos of each source, by the source's name.
    """

    def __init__(self, photo_sets: Mapping[str, PhotoFolder]) -> None:
        self.photo_sets = dict(photo_sets)

    def __getitem__(self, ticket: Ticket) -> tuple[Ticket, Sample]:
        return ticket, self.photo_sets[ticket.plan.source].load(ticket.photo_index, ticket.plan, ticket.index)


def collate(samples: Sequence[tuple[Ticket, Sample]]) -> Batch:
    """Join the images that one process loads at a step, in the order of their tickets."""
    tickets, views = zip(*samples, strict=True)
    segments = [view.segments for view in views if view.segments is not None]
    keys = [view.key for view in views if view.key is not None]
    return Batch(
        plan=tickets[0].plan,
        image01=torch.stack([view.image01 for view in views]),
        segments=torch.stack(segments) if segments else None,
        keys=keys if len(keys) == len(views) else None,
        first=tickets[0].index,
    )
