"""Depth by a linear layer over bins (NAF, section 4.1 and table 2), as in Probe3D and JAFAR."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from naf.data.depth import DepthSet
from naf.data.labelled.geometry import Geometry, resize_depth
from naf.evaluation.depth_head import MAX_DEPTH, MIN_DEPTH, decode_bins
from naf.evaluation.depth_loss import depth_loss, mask_target
from naf.evaluation.depth_loss_jafar import jafar_depth_loss
from naf.evaluation.depth_metrics import DepthMetrics
from naf.evaluation.protocol import ProbeProtocol
from naf.evaluation.subset import Subset
from naf.evaluation.task import ImageSet, ProbeTask, Score


@dataclass(frozen=True)
class DepthProtocol(ProbeProtocol):
    """Linear probing of depth.

    Attributes:
        bins: distances that the layer weighs, K.
        min_depth: distance of the first bin, metres.
        max_depth: distance of the last bin, metres; targets beyond it count as missing.
        loss: "probe3d", see :func:`naf.evaluation.depth_loss.depth_loss`, or "jafar", see
            :func:`naf.evaluation.depth_loss_jafar.jafar_depth_loss`.
        eigen_crop: score only the part of NYUv2's frame that Eigen et al. (2014) chose.
        jafar_mask: score only targets between 0.001 and 10 m; otherwise all that are not missing.
    """

    bins: int = 256
    min_depth: float = MIN_DEPTH
    max_depth: float = MAX_DEPTH
    loss: Literal["probe3d", "jafar"] = "probe3d"
    eigen_crop: bool = False
    jafar_mask: bool = False

    def __post_init__(self) -> None:
        if self.pixels is not None:
            raise ValueError(f"protocol.pixels is {self.pixels}, expected null: depth is learned from whole maps")
        super().__post_init__()
        if self.bins < 2:
            raise ValueError(f"protocol.bins is {self.bins}, expected at least 2")
        if not 0 <= self.min_depth < self.max_depth < math.inf:
            raise ValueError(
                f"protocol.min_depth is {self.min_depth} and max_depth {self.max_depth}, expected 0 <= min < max"
            )
        if self.loss == "jafar" and self.batch_size > 2:
            raise ValueError(
                f"protocol.batch_size is {self.batch_size}, expected 1 or 2 with loss jafar, which compares different"
                " images beyond"
            )


class DepthTask(ProbeTask):
    """A distance for each pixel, the mean of bins that the layer weighs.

    Args:
        train: images that the layer learns from.
        val: images that it is scored on.
        protocol: bins, loss and what is scored.
    """

    def __init__(self, train: Subset[DepthSet], val: Subset[DepthSet], protocol: DepthProtocol) -> None:
        self.key = train.whole.key
        self.train: ImageSet = train
        self.val: ImageSet = val
        self.protocol = protocol
        self.outputs = protocol.bins

    def target(self, images: ImageSet, index: int, size: int, geometry: Geometry) -> Tensor:
        """Metres (size, size) float32, 0 where nothing was measured or it is beyond the last bin."""
        assert isinstance(images, Subset)
        depth = images.whole.read_depth(images.indices[index])
        return mask_target(resize_depth(depth, size, geometry), self.protocol.max_depth)

    def loss(self, logits: Tensor, targets: Tensor, step: int) -> Tensor:
        """The protocol's loss over all measured pixels of the batch; 0 where there is none."""
        prediction, target = decode(logits, self.protocol), targets[:, None]
        if self.protocol.loss == "jafar":
            return jafar_depth_loss(prediction, target, step)
        return depth_loss(prediction, target)

    def score(self) -> Score:
        """Errors of each image, and their means."""
        return DepthScore(self.protocol, self.val.names)


class DepthScore:
    """Errors of each image over its measured pixels, then the mean over the images.

    Args:
        protocol: bins and what is scored.
        names: of the images, in the order in which they come.
    """

    def __init__(self, protocol: DepthProtocol, names: list[str]) -> None:
        self.protocol, self.names = protocol, names
        self.errors = DepthMetrics(
            eigen_crop=protocol.eigen_crop,
            square_resize=protocol.eigen_crop and protocol.geometry == "square",
            jafar_mask=protocol.jafar_mask,
        )
        self._measured: list[bool] = []

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Measure predictions (B, K, H, W) against metres (B, H, W)."""
        for depth, target in zip(decode(logits, self.protocol), targets[:, None], strict=True):
            skipped = self.errors.skipped
            self.errors.add(depth[None], target[None])
            self._measured.append(self.errors.skipped == skipped)

    def metrics(self) -> dict[str, float]:
        """See :meth:`naf.evaluation.depth_metrics.DepthMetrics.compute`."""
        return self.errors.compute()

    def details(self) -> Mapping[str, Any]:
        """delta1 of each image, per cent; None for one without a measured pixel, which is in no mean."""
        values = iter(self.errors.values.get("delta1", []))
        found = [next(values) if is_measured else None for is_measured in self._measured]
        return {"image_delta1": dict(zip(self.names, found, strict=True)), "skipped": self.errors.skipped}


def decode(logits: Tensor, protocol: DepthProtocol) -> Tensor:
    """Metres (B, 1, H, W) of a layer's outputs (B, K, H, W)."""
    return decode_bins(logits, min_depth=protocol.min_depth, max_depth=protocol.max_depth)
