"""Learning rates of the linear probes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Schedule = Literal["per_iteration", "per_epoch", "jafar_bug"]


def cosine(schedule: Schedule, epochs: int, iterations: int) -> Callable[[int], float]:
    """Share of the first learning rate at an iteration, counted from 0.

    "per_iteration" falls from 1 to 0 over all iterations, as in NAF's code (the paper's "one-cycle cosine annealing"
    has no other reading there). "per_epoch" has the same values at the first iteration of each epoch and keeps them
    for its length, as in AnyUp's comparisons. "jafar_bug" is JAFAR's published code, which steps a cosine of `epochs`
    steps at each iteration: the rate swings between 1 and 0 with a period of 2 epochs iterations.

    Args:
        schedule: one of these.
        epochs: of the training.
        iterations: of one epoch.
    """
    if schedule == "per_iteration":
        return lambda iteration: _half_wave(iteration / (epochs * iterations))
    if schedule == "per_epoch":
        return lambda iteration: _half_wave(iteration // iterations / epochs)
    return lambda iteration: _half_wave(iteration / epochs)


def _half_wave(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2
