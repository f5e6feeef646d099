"""Which photos, sizes and sources each step of the training takes: a function of the seed and the step alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Sampler

from naf.training.plan import Geometry, Stage, StepPlan


class SourceSpec(Protocol):
    """What a plan needs to know of a feature source."""

    @property
    def weight(self) -> float:
        """How often it is drawn, relative to the others."""

    @property
    def geometry(self) -> Geometry | None:
        """Its sizes; None for those of the stage."""

    @property
    def stride(self) -> int:
        """Pixels a cell."""


@dataclass(frozen=True)
class Ticket:
    """One image of a step, to be loaded.

    Attributes:
        plan: what its step does.
        index: of the image in the global batch.
        photo_index: in the photo set of the plan's source.
    """

    plan: StepPlan
    index: int
    photo_index: int


def make_plan(step: int, stages: Sequence[Stage], sources: Mapping[str, SourceSpec], seed: int) -> StepPlan:
    """Draw source and sizes of a step.

    Sides are rounded to whole cells of the source, to the nearest. The guidance has at most `guidance_ratio` pixels a
    target cell, at most `guidance_max` pixels and at most those of the image.

    Args:
        step: from 0 over all stages.
        stages: one after the other.
        sources: by name; drawn in proportion to their weights. A source's own geometry wins over the stage's.
        seed: of the run.

    Raises:
        ValueError: for a step outside the stages, or weights that are negative or all 0.
    """
    stage, _ = _stage_of(step, stages)
    step_seed = hashed(seed, "step", step)
    source_draw, image_draw, reduced_draw = torch.rand(3, generator=_generator(step_seed), dtype=torch.float64).tolist()
    name = _draw_source(source_draw, sources)
    source = sources[name]
    geometry = source.geometry or stages[stage].geometry
    image_cells = _whole_cells(_between(geometry.image_size, image_draw), source.stride)
    reduced_side = _between(geometry.reduced, reduced_draw) * image_cells * source.stride
    image_size = image_cells * source.stride
    return StepPlan(
        step=step,
        stage=stage,
        source=name,
        image_size=image_size,
        reduced_size=min(_whole_cells(reduced_side, source.stride), image_cells) * source.stride,
        guidance_size=max(1, min(geometry.guidance_max, int(geometry.guidance_ratio * image_cells), image_size)),
        batch_size=stages[stage].batch_size,
        seed=step_seed,
    )


class StepSampler(Sampler[list[Ticket]]):
    """A batch sampler: for each step of an epoch, the images that this process loads.

    All processes together load the same global batch, however many they are: each takes a contiguous part of it.
    Photos of a source are shuffled without replacement: sample number n of the training takes entry n of the source's
    endless sequence of permutations, whether or not earlier steps took this source.

    Args:
        stages: of the training, one after the other.
        sources: by name.
        sizes: photos of each source.
        seed: of the run.
        steps_per_epoch: steps of an epoch; the last may be shorter. Epochs go on over the end of a stage.
        rank: of this process.
        world_size: processes.

    Raises:
        ValueError: if a batch size cannot be divided among the processes, a source has no photos, or numbers of
            steps, sizes and weights make no sense.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        sources: Mapping[str, SourceSpec],
        sizes: Mapping[str, int],
        seed: int,
        steps_per_epoch: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check(stages, sources, sizes)
        if steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch is {steps_per_epoch}, expected at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}, expected 0 … {world_size - 1} with {world_size} processes")
        for stage in stages:
            if stage.batch_size % world_size:
                raise ValueError(
                    f"batch_size is {stage.batch_size}, expected a multiple of the {world_size} processes: "
                    "it counts the images of all of them"
                )
        self.stages, self.sources, self.sizes, self.seed = tuple(stages), dict(sources), dict(sizes), seed
        self.steps_per_epoch, self.rank, self.world_size = steps_per_epoch, rank, world_size
        self.total_steps = sum(stage.steps for stage in stages)
        self.epoch = 0

    @property
    def sampler(self) -> StepSampler:
        """Itself: Lightning calls `set_epoch` on the sampler behind a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration goes through, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._steps())

    def __iter__(self) -> Iterator[list[Ticket]]:
        for step in self._steps():
            plan = make_plan(step, self.stages, self.sources, self.seed)
            share = plan.batch_size // self.world_size
            indices = range(self.rank * share, (self.rank + 1) * share)
            yield [Ticket(plan, index, self._photo(plan, index)) for index in indices]

    def _steps(self) -> range:
        first = self.epoch * self.steps_per_epoch
        return range(min(first, self.total_steps), min(first + self.steps_per_epoch, self.total_steps))

    def _photo(self, plan: StepPlan, index: int) -> int:
        _, first = _stage_of(plan.step, self.stages)
        earlier = sum(stage.steps * stage.batch_size for stage in self.stages[: plan.stage])
        number = earlier + (plan.step - first) * plan.batch_size + index
        photos = self.sizes[plan.source]
        permutation = _permutation(hashed(self.seed, "photos", plan.source, number // photos), photos)
        return int(permutation[number % photos])


def hashed(*parts: object) -> int:
    """A seed from a run's seed and the names of what it is for: 56 bits, the same on every machine."""
    text = "\0".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=7).digest()
    return int.from_bytes(digest, "little")


@lru_cache(maxsize=16)
def _permutation(seed: int, size: int) -> Tensor:
    return torch.randperm(size, generator=_generator(seed))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _stage_of(step: int, stages: Sequence[Stage]) -> tuple[int, int]:
    """Index of a step's stage, and the first step of that stage."""
    first = 0
    for index, stage in enumerate(stages):
        if first <= step < first + stage.steps:
            return index, first
        first += stage.steps
    raise ValueError(f"step is {step}, expected 0 … {first - 1}: the stages have {first} steps")


def _draw_source(draw: float, sources: Mapping[str, SourceSpec]) -> str:
    """The source at a share `draw`, 0 … 1, of the sum of weights, sources in the order of their names."""
    total = sum(source.weight for source in sources.values())
    if not total > 0 or any(source.weight < 0 for source in sources.values()):
        weights = {name: source.weight for name, source in sources.items()}
        raise ValueError(f"sources have weights {weights}, expected none below 0 and at least one above")
    left = draw * total
    names = sorted(name for name, source in sources.items() if source.weight > 0)
    for name in names:
        left -= sources[name].weight
        if left < 0:
            return name
    return names[-1]  # rounding


def _between(limits: tuple[float, float], draw: float) -> float:
    low, high = limits
    return low + draw * (high - low)


def _whole_cells(side: float, stride: int) -> int:
    return max(1, int(side / stride + 0.5))


def _check(stages: Sequence[Stage], sources: Mapping[str, SourceSpec], sizes: Mapping[str, int]) -> None:
    if not stages or not sources:
        raise ValueError(f"there are {len(stages)} stages and {len(sources)} sources, expected at least one of each")
    for index, stage in enumerate(stages):
        if stage.steps < 1 or stage.batch_size < 1:
            raise ValueError(
                f"stage {index} has {stage.steps} steps of batch_size {stage.batch_size}, expected at least 1 of each"
            )
        _check_geometry(f"stage {index}", stage.geometry)
    for name, source in sources.items():
        if sizes.get(name, 0) < 1:
            raise ValueError(f"source {name!r} has {sizes.get(name, 0)} photos, expected at least 1")
        if source.geometry is not None:
            _check_geometry(f"source {name!r}", source.geometry)
    _draw_source(0.0, sources)


def _check_geometry(owner: str, geometry: Geometry) -> None:
    sizes, shares = tuple(geometry.image_size), tuple(geometry.reduced)
    if len(sizes) != 2 or not 1 <= sizes[0] <= sizes[1]:
        raise ValueError(f"image_size of {owner} is {sizes}, expected (least, largest) pixels, least at least 1")
    if len(shares) != 2 or not 0 < shares[0] <= shares[1] <= 1:
        raise ValueError(f"reduced of {owner} is {shares}, expected (least, largest) shares above 0 and at most 1")
    if geometry.guidance_ratio <= 0 or geometry.guidance_max < 1:
        raise ValueError(
            f"{owner} has guidance_ratio {geometry.guidance_ratio} and guidance_max {geometry.guidance_max}, expected "
            "a ratio above 0 and at least 1 pixel"
        )
