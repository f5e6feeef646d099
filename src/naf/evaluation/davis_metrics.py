"""Scores of video object segmentation as the DAVIS toolkit has them: J, F, recall, decay (CVPR 2016).

Each object of each sequence is scored by itself, on all frames but the first (given) and the last; means are over
objects, not over sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from naf.data.davis import VOID
from naf.evaluation import davis_boundary, davis_boundary_repository


class Statistics(NamedTuple):
    """Of the values of an object's frames.

    Attributes:
        mean: of all.
        recall: share above 0.5.
        decay: mean of the first quarter less mean of the last.
    """

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True)
class ObjectScore:
    """One object of one sequence.

    Attributes:
        sequence: name.
        index: of the object, from 1.
        region: J, overlap of the masks.
        contour: F, as the toolkit has it.
        contour_repository: F, as the authors of NAF have it.
    """

    sequence: str
    index: int
    region: Statistics
    contour: Statistics
    contour_repository: Statistics


def region_similarity(truth: np.ndarray, prediction: np.ndarray) -> float:
    """J: intersection over union of two masks, (H, W) bool; 1 if both are empty."""
    union = np.count_nonzero(truth | prediction)
    return np.count_nonzero(truth & prediction) / union if union else 1.0


def statistics(values: Sequence[float] | np.ndarray) -> Statistics:
    """Mean, recall and decay of the values of at least one frame.

    Quarters share their end frames: they lie between round(linspace(1, T, 5)).
    """
    values = np.asarray(values, dtype=np.float64)
    ends = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    return Statistics(float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean()))


def score_sequence(name: str, truth: np.ndarray, prediction: np.ndarray, objects: int) -> list[ObjectScore]:
    """Score each object of a video.

    Args:
        name: of the sequence.
        truth: true masks, (T, H, W) uint8, at least 3 frames: 0 background, k object k, 255 void. Void pixels are left
            out.
        prediction: likewise, without void. An object that is nowhere is scored as empty. The first and last frame are
            not looked at.
        objects: how many there are.

    Raises:
        ValueError: if shapes differ, frames are too few, or the prediction has an index above the number of objects.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"prediction of {name} has shape {prediction.shape}, expected {truth.shape}")
    if len(truth) < 3:
        raise ValueError(f"{name} has {len(truth)} frames, expected at least 3: the first and last are not scored")
    highest = int(prediction[1:-1].max())
    if highest > objects:
        raise ValueError(f"prediction of {name} has object {highest}, expected at most {objects}")
    values = np.zeros((objects, len(truth) - 2, 3))
    for frame, (true, predicted) in enumerate(zip(truth[1:-1], prediction[1:-1], strict=True)):
        seen = true != VOID
        for index in range(objects):
            masks = true == index + 1, (predicted == index + 1) & seen
            values[index, frame] = (
                region_similarity(*masks),
                davis_boundary.contour_accuracy(*masks),
                davis_boundary_repository.contour_accuracy(*masks),
            )
    return [ObjectScore(name, index + 1, *map(statistics, each.T)) for index, each in enumerate(values)]


def summarize(scores: Sequence[ObjectScore]) -> dict[str, float]:
    """Means over objects, per cent.

    Returns:
        J, F and their mean JF; F_repository and JF_repository, as the authors of NAF compute F; J_recall, J_decay,
        F_recall, F_decay.

    Raises:
        ValueError: if there are no scores.
    """
    if not scores:
        raise ValueError("scores is empty, expected those of at least one object")
    kinds = ("region", "contour", "contour_repository")
    region, contour, repository = (
        Statistics(*(100 * np.array([getattr(score, kind) for score in scores]).mean(0)).tolist()) for kind in kinds
    )
    return {
        "J": region.mean,
        "F": contour.mean,
        "JF": (region.mean + contour.mean) / 2,
        "F_repository": repository.mean,
        "JF_repository": (region.mean + repository.mean) / 2,
        "J_recall": region.recall,
        "J_decay": region.decay,
        "F_recall": contour.recall,
        "F_decay": contour.decay,
    }
