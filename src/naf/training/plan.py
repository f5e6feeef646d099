"""What each training step does, as a function of the seed and the step alone.

Nothing is drawn from a running generator: a resumed run, a run in several processes and a run in one all see the
same images, sizes and sources at a given step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Geometry:
    """Sizes of one training example.

    Attributes:
        image_size: side of the square image that gives the targets, pixels: (least, largest), drawn anew each step.
        reduced: side of the image that gives the input features, as a share of image_size: (least, largest). Both
            sides are rounded to whole cells of the source.
        guidance_ratio: the guidance image has at most this many pixels a target cell on each side.
        guidance_max: and at most this many pixels a side.
    """

    image_size: tuple[int, int] = (512, 512)
    reduced: tuple[float, float] = (0.5, 0.5)
    guidance_ratio: float = 4.0
    guidance_max: int = 224


@dataclass(frozen=True)
class Stage:
    """A part of the training with sizes of its own (NAF, section 3.2).

    Attributes:
        steps: how many.
        geometry: sizes, unless the source has its own.
        batch_size: images a step, over all processes.
        lr: learning rate.
    """

    steps: int
    geometry: Geometry
    batch_size: int = 4
    lr: float = 2e-4


@dataclass(frozen=True)
class StepPlan:
    """What all processes share at a step.

    Attributes:
        step: from 0 over all stages.
        stage: index of the stage.
        source: name of the feature source.
        image_size: S, pixels.
        reduced_size: pixels of the reduced image's side; a whole number of cells.
        guidance_size: pixels of the guidance image's side.
        batch_size: images over all processes.
        seed: of everything else that is drawn at this step.
    """

    step: int
    stage: int
    source: str
    image_size: int
    reduced_size: int
    guidance_size: int
    batch_size: int
    seed: int

    def generator(self, index: int = 0) -> torch.Generator:
        """A generator on the CPU for image `index` of the global batch, or for what the batch shares (-1)."""
        mixed = (self.seed * 1_000_003 + index + 1) % (1 << 63)
        return torch.Generator().manual_seed(mixed)
