"""Semantic segmentation by a linear layer (NAF, section 4.1; tables 2, 3, 4, 6, 7, 9 to 12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from naf.data.labelled import IGNORED, LabelledSet, resize_label
from naf.data.labelled.geometry import Geometry
from naf.evaluation.segmentation_metrics import ConfusionMatrix
from naf.evaluation.subset import Subset
from naf.evaluation.task import ImageSet, ProbeTask, Score


class SegmentationTask(ProbeTask):
    """A class for each pixel, learned by cross-entropy over the labelled pixels of a batch.

    Args:
        train: images that the layer learns from.
        val: images that it is scored on; of the same classes.

    Raises:
        ValueError: if the classes differ.
    """

    def __init__(self, train: Subset[LabelledSet], val: Subset[LabelledSet]) -> None:
        if train.whole.classes != val.whole.classes:
            raise ValueError(f"the training images have classes {train.whole.classes}, the others {val.whole.classes}")
        self.key = train.whole.key
        self.train: ImageSet = train
        self.val: ImageSet = val
        self.classes = train.whole.classes
        self.outputs = len(self.classes)

    def target(self, images: ImageSet, index: int, size: int, geometry: Geometry) -> Tensor:
        """Class ids (size, size) int64, 255 where there is no label."""
        assert isinstance(images, Subset)
        label = images.whole.read_label(images.indices[index])
        return resize_label(label, size, geometry)

    def labelled(self, targets: Tensor) -> Tensor:
        """Where there is a label."""
        return targets != IGNORED

    def loss(self, logits: Tensor, targets: Tensor, step: int) -> Tensor:
        """Mean cross-entropy over all labelled pixels of the batch; 0 where there is none."""
        del step
        total = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
        return total / (targets != IGNORED).sum().clamp(min=1)

    def score(self) -> Score:
        """One confusion matrix over all pixels of the set."""
        return SegmentationScore(ConfusionMatrix(self.classes, IGNORED))


class SegmentationScore:
    """Mean intersection over union and pixel accuracy of the likeliest class.

    Args:
        matrix: empty.
    """

    def __init__(self, matrix: ConfusionMatrix) -> None:
        self.matrix = matrix

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Count predictions (B, K, H, W) against class ids (B, H, W)."""
        self.matrix.add(logits.argmax(1), targets)

    def metrics(self) -> dict[str, float]:
        """Per cent: "miou" and "accuracy"."""
        return self.matrix.metrics()

    def details(self) -> Mapping[str, Any]:
        """Intersection over union by class, and how many pixels each has."""
        pixels = dict(zip(self.matrix.classes, self.matrix.counts.sum(1).tolist(), strict=True))
        return {"class_iou": self.matrix.by_class(), "class_pixels": pixels}
