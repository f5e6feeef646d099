"""Photos for training and validation, as Lightning takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Sampler

from naf.training.photos import Batch, PhotoFolder, TicketDataset, collate
from naf.training.plan import Geometry, Stage, StepPlan
from naf.training.sampler import SourceSpec, StepSampler, Ticket, make_plan

_VALIDATION_SEED = 0


class PhotoData(L.LightningDataModule):
    """What each step and each validation loads.

    An epoch is `steps_per_epoch` steps, so that checkpoints lie between epochs.

    Args:
        stages: of the training.
        sources: by name.
        train: photos of each source.
        val: held-out photos of each source that is to be validated.
        seed: of the run.
        steps_per_epoch: steps.
        val_photos: at most so many held-out photos a source are used, evenly spread.
        workers: processes that load photos; 0 loads them in this one.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        sources: Mapping[str, SourceSpec],
        train: Mapping[str, PhotoFolder],
        val: Mapping[str, PhotoFolder],
        *,
        seed: int,
        steps_per_epoch: int,
        val_photos: int = 32,
        workers: int = 2,
    ) -> None:
        super().__init__()
        self.stages, self.sources, self.train, self.val = list(stages), dict(sources), dict(train), dict(val)
        self.seed, self.steps_per_epoch, self.val_photos, self.workers = seed, steps_per_epoch, val_photos, workers

    def train_dataloader(self) -> DataLoader[Any]:
        """The steps from the trainer's current one on."""
        trainer = self.trainer
        assert trainer is not None
        sampler = StepSampler(
            [replace(stage, batch_size=whole_shares(stage.batch_size, trainer.world_size)) for stage in self.stages],
            self.sources,
            {name: len(photos) for name, photos in self.train.items()},
            self.seed,
            self.steps_per_epoch,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        return self._loader(self.train, _FromStep(sampler, lambda: trainer.global_step))

    def val_dataloader(self) -> DataLoader[Any]:
        """The held-out photos of each source, shared out among the processes; always the same views."""
        assert self.trainer is not None
        batches = [batch for name in self.val for batch in self._validation(name, self.val_photos)]
        return self._loader(self.val, _Fixed(share_out(batches, self.trainer.global_rank, self.trainer.world_size)))

    def picture_batches(self, count: int) -> list[Batch]:
        """`count` of the views that validation sees, the sources taking turns; fewer if there are not as many."""
        turns = [self._validation(name, count) for name in self.val]
        data = TicketDataset(self.val)
        chosen = [turns[number % len(turns)] for number in range(count)] if turns else []
        return [
            collate([data[ticket] for ticket in batches[number]])
            for number, batches in enumerate(chosen)
            if number < len(batches)
        ]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch on the device."""
        del dataloader_idx
        return batch.to(device, non_blocking=True)

    def _validation(self, name: str, at_most: int) -> list[list[Ticket]]:
        """Batches of one photo each, evenly spread over those of a source."""
        photos = len(self.val[name])
        count = min(photos, at_most)
        plan = _validation_plan(name, self.sources[name], self.stages[0].geometry)
        return [[Ticket(plan, number, number * photos // count)] for number in range(count)]

    def _loader(self, photos: Mapping[str, PhotoFolder], sampler: Sampler[list[Ticket]]) -> DataLoader[Any]:
        return DataLoader(
            TicketDataset(photos),
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


def _validation_plan(name: str, source: SourceSpec, geometry: Geometry) -> StepPlan:
    """Sizes of the source, or else of the first stage: the largest image, and the middle of the reduced sizes.

    A source may say the size of held-out photos itself.
    """
    own = source.geometry or geometry
    largest, middle = getattr(source, "val_size", None) or own.image_size[1], sum(own.reduced) / 2
    fixed = Geometry((largest, largest), (middle, middle), own.guidance_ratio, own.guidance_max)
    return make_plan(0, [Stage(1, fixed, batch_size=1)], {name: _Sized(source.stride)}, _VALIDATION_SEED)


def whole_shares(batch_size: int, world_size: int) -> int:
    """The batch size raised to a multiple of the processes: the paper's 4 images serve eight GPUs as 8."""
    return -(-batch_size // world_size) * world_size


def share_out(batches: Sequence[list[Ticket]], rank: int, world_size: int) -> list[list[Ticket]]:
    """One process's part; parts that are one short get a repetition, with a negative index, since all must be as long.

    Batch norms are exchanged at each call of the network, so a process that makes one call less would not answer.
    """
    mine = list(batches[rank::world_size])
    if len(mine) < -(-len(batches) // world_size):
        mine.append([replace(ticket, index=-1 - ticket.index) for ticket in batches[0]])
    return mine


class _Sized:
    """A source as a plan sees it, with the stage's geometry."""

    weight = 1.0
    geometry = None

    def __init__(self, stride: int) -> None:
        self.stride = stride


class _FromStep(Sampler[list[Ticket]]):
    """Begins at the trainer's step: Lightning begins to load an epoch before it says its number.

    That may be in the middle of an epoch, where a run was left by `stop` or Lightning's max_time.
    """

    def __init__(self, steps: StepSampler, current: Callable[[], int]) -> None:
        self.steps, self.current = steps, current

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Ticket]]:
        epoch, done = divmod(self.current(), self.steps.steps_per_epoch)
        self.steps.set_epoch(epoch)
        return islice(self.steps, done, None)


class _Fixed(Sampler[list[Ticket]]):
    """The same batches at each iteration."""

    def __init__(self, batches: Sequence[list[Ticket]]) -> None:
        self.batches = list(batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Ticket]]:
        return iter(self.batches)
