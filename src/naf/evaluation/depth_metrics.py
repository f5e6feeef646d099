"""Errors of depth maps: per image over its valid pixels, then the mean over images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_ALIGNED = "aligned_"
_SMALLEST = 1e-9  # of a prediction, metres, where it is divided by or its logarithm taken
_JAFAR_RANGE = 1e-3, 10.0  # metres, both ends excluded


class DepthMetrics:
    """Metrics over images that come one batch after the other.

    Args:
        eigen_crop: count only the inner part that Eigen et al. (2014) chose for NYUv2.
        square_resize: for that crop: the maps are the 480 x 640 frame with both sides resized, not its centre.
        jafar_mask: count only targets between 0.001 and 10 m, as JAFAR does; otherwise those above 0, as Probe3D.
            The same where targets have gone through `mask_target`, but for values up to 1 mm and of exactly 10 m.

    Attributes:
        values: of each image that has valid pixels, in their order, by metric.
        skipped: images without a valid pixel; they are in no mean.
    """

    def __init__(self, *, eigen_crop: bool = False, square_resize: bool = False, jafar_mask: bool = False) -> None:
        if square_resize and not eigen_crop:
            raise ValueError("square_resize says where the Eigen crop lies: expected eigen_crop with it")
        self.eigen_crop, self.square_resize, self.jafar_mask = eigen_crop, square_resize, jafar_mask
        self.values: dict[str, list[float]] = {}
        self.skipped = 0

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Measure a batch.

        Args:
            prediction: (B, 1, H, W), metres.
            target: (B, 1, H, W), metres; 0 is missing.

        Raises:
            ValueError: if the two have other shapes.
        """
        if prediction.ndim != 4 or prediction.shape[1] != 1 or prediction.shape != target.shape:
            raise ValueError(
                f"prediction is {tuple(prediction.shape)}, target {tuple(target.shape)}, expected (B, 1, H, W) for both"
            )
        # On the CPU, so that float64 is there and results do not depend on the device.
        prediction, target = prediction.detach().cpu().double(), target.detach().cpu().double()
        if self.eigen_crop:
            rows, columns = eigen_box(*target.shape[2:], square_resize=self.square_resize)
            prediction, target = prediction[..., rows, columns], target[..., rows, columns]
        low, high = _JAFAR_RANGE if self.jafar_mask else (0.0, float("inf"))
        for p, t in zip(prediction, target, strict=True):
            valid = (t > low) & (t < high)
            if not valid.any():
                self.skipped += 1
                continue
            for name, value in depth_metrics(p[valid], t[valid]).items():
                self.values.setdefault(name, []).append(value)

    def compute(self) -> dict[str, float]:
        """Means over the images.

        Returns:
            delta1, delta2, delta3 in per cent; rmse in metres; abs_rel, sq_rel, rmse_log, log10; silog (times 100);
            the same with "aligned_" before, after a scale and shift fitted to each image.

        Raises:
            ValueError: if no image had a valid pixel.
        """
        if not self.values:
            raise ValueError(f"no depth to average: {self.skipped} images came, none with a valid pixel")
        return {name: sum(values) / len(values) for name, values in self.values.items()}


def depth_metrics(prediction: Tensor, target: Tensor) -> dict[str, float]:
    """All metrics of one image.

    Args:
        prediction: (N,), metres, at the valid pixels.
        target: (N,), metres, above 0; N at least 1.

    Returns:
        As `DepthMetrics.compute`.
    """
    aligned = _errors(align(prediction, target), target)
    return {**_errors(prediction, target), **{_ALIGNED + name: value for name, value in aligned.items()}}


def align(prediction: Tensor, target: Tensor) -> Tensor:
    """The prediction times a scale plus a shift, both by least squares against the target; all (N,).

    A constant prediction becomes the mean of the target. Values may come out below 0.
    """
    centred, mean = prediction - prediction.mean(), target.mean()
    spread = (centred * centred).sum()
    scale = torch.where(spread > 0, (centred * (target - mean)).sum() / spread, 0)
    return centred * scale + mean


def eigen_box(height: int, width: int, *, square_resize: bool = False) -> tuple[slice, slice]:
    """Rows and columns of the Eigen crop: rows 45 to 471 and columns 41 to 601 of the 480 x 640 frame.

    Args:
        height: of the map.
        width: of the map: of the whole frame or a part from its middle, whose rows are all there.
        square_resize: the map is the whole frame, its sides resized each by itself.
    """
    down = height / 480
    across = width / 640 if square_resize else down
    left_out = (640 * across - width) / 2
    return _clipped(45 * down, 471 * down, height), _clipped(41 * across - left_out, 601 * across - left_out, width)


def _clipped(start: float, stop: float, size: int) -> slice:
    return slice(max(0, round(start)), min(size, round(stop)))


def _errors(prediction: Tensor, target: Tensor) -> Mapping[str, float]:
    positive = prediction.clamp(min=_SMALLEST)
    ratio = torch.maximum(target / positive, positive / target)
    difference = target - prediction
    e = positive.log() - target.log()
    errors = {f"delta{power}": 100 * (ratio < 1.25**power).double().mean() for power in (1, 2, 3)} | {
        "rmse": difference.square().mean().sqrt(),
        "abs_rel": (difference.abs() / target).mean(),
        "sq_rel": (difference.square() / target).mean(),
        "rmse_log": e.square().mean().sqrt(),
        "log10": e.abs().mean() / torch.log(e.new_tensor(10)),
        "silog": 100 * e.var(correction=0).sqrt(),
    }
    return {name: value.item() for name, value in errors.items()}
