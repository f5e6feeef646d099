"""Mean intersection over union and accuracy, from one confusion matrix over all pixels of a set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class ConfusionMatrix:
    """Counts of (true class, predicted class) over all pixels with a label.

    Args:
        classes: names, in the order of their ids.
        ignore: label of pixels that do not count.

    Attributes:
        counts: (K, K) int64, rows the true class.
    """

    def __init__(self, classes: Sequence[str], ignore: int = 255) -> None:
        self.classes, self.ignore = tuple(classes), ignore
        self.counts = torch.zeros(len(self.classes), len(self.classes), dtype=torch.int64)

    def add(self, predicted: Tensor, labels: Tensor) -> None:
        """Count pixels.

        Args:
            predicted: class ids 0 … K - 1, integer, any shape.
            labels: likewise, of the same shape, or `ignore`.

        Raises:
            ValueError: for other shapes, or ids out of range.
        """
        if predicted.shape != labels.shape:
            raise ValueError(
                f"predicted has shape {tuple(predicted.shape)}, labels {tuple(labels.shape)}: expected one"
            )
        number = len(self.classes)
        valid = labels != self.ignore
        true, guess = labels[valid].long(), predicted[valid].long()
        for name, ids in (("labels", true), ("predicted", guess)):
            if len(ids) and not 0 <= ids.min() <= ids.max() < number:
                raise ValueError(f"{name} hold {ids.min()} to {ids.max()}, expected 0 to {number - 1} or {self.ignore}")
        self.counts += torch.bincount(true * number + guess, minlength=number * number).view(number, number).cpu()

    def intersection_over_union(self) -> Tensor:
        """TP / (TP + FP + FN) of each class, (K,) float64 from 0 to 1; NaN for one neither there nor predicted."""
        counts = self.counts.double()
        union = counts.sum(0) + counts.sum(1) - counts.diag()
        return counts.diag() / union

    def metrics(self) -> dict[str, float]:
        """Per cent: "miou", the mean over the classes that are there or predicted, and "accuracy" over all pixels.

        A class that is predicted and not there counts as 0, as in torchmetrics' macro average.

        Raises:
            ValueError: if no pixel was counted.
        """
        if not self.counts.any():
            raise ValueError("no pixel has a label, expected some in the evaluated images")
        iou = self.intersection_over_union()
        accuracy = self.counts.diag().sum() / self.counts.sum()
        return {"miou": 100 * iou.nanmean().item(), "accuracy": 100 * accuracy.item()}

    def by_class(self) -> dict[str, float | None]:
        """Intersection over union of each class, per cent; None for one neither there nor predicted."""
        values = self.intersection_over_union().tolist()
        return {name: None if iou != iou else 100 * iou for name, iou in zip(self.classes, values, strict=True)}
