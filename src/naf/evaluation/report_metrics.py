"""How metrics are named, printed and compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

_ALIGNED = "aligned_"


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: key in records.
        title: heading.
        unit: empty where it has none.
        digits: behind the point.
        better: "higher" or "lower"; None where nothing is known of it, and nothing is marked then.
    """

    name: str
    title: str
    unit: str
    digits: int
    better: Literal["higher", "lower"] | None = "higher"

    @property
    def heading(self) -> str:
        """Title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def sign(self) -> int:
        """1 where higher is better or nothing is known, else -1."""
        return -1 if self.better == "lower" else 1


_METRICS = {
    metric.name: metric
    for metric in (
        Metric("miou", "mIoU", "%", 2),
        Metric("accuracy", "Pixel accuracy", "%", 2),
        Metric("delta1", "δ1", "%", 2),
        Metric("delta2", "δ2", "%", 2),
        Metric("delta3", "δ3", "%", 2),
        Metric("rmse", "RMSE", "m", 3, "lower"),
        Metric("abs_rel", "AbsRel", "", 4, "lower"),
        Metric("sq_rel", "SqRel", "", 4, "lower"),
        Metric("rmse_log", "RMSE of logarithms", "", 4, "lower"),
        Metric("log10", "log10", "", 4, "lower"),
        Metric("silog", "SILog", "", 3, "lower"),
        Metric("JF", "J&F", "%", 2),
        Metric("J", "J", "%", 2),
        Metric("F", "F", "%", 2),
        Metric("JF_repository", "J&F with F of NAF's repository", "%", 2),
        Metric("F_repository", "F of NAF's repository", "%", 2),
        Metric("J_recall", "J recall", "%", 2),
        Metric("F_recall", "F recall", "%", 2),
        Metric("J_decay", "J decay", "%", 2, "lower"),
        Metric("F_decay", "F decay", "%", 2, "lower"),
        Metric("psnr", "PSNR", "dB", 2),
        Metric("ssim", "SSIM", "%", 2),
        Metric("psnr_released", "PSNR of NAF's repository", "dB", 2),
        Metric("ssim_released", "SSIM of NAF's repository", "%", 2),
    )
}

_SEGMENTATION = ("miou", "accuracy")
_TABULATED = {
    "segmentation": _SEGMENTATION,
    "filter": _SEGMENTATION,
    "ratio": _SEGMENTATION,
    "depth": ("delta1", "rmse", "abs_rel", "aligned_delta1", "aligned_rmse", "aligned_abs_rel"),
    "video": ("JF", "J", "F", "JF_repository"),
    "denoise": ("psnr", "ssim", "psnr_released", "ssim_released"),
}


def metric(name: str) -> Metric:
    """A metric by its key in records; one that is not known is printed under its key, without marks."""
    if name.startswith(_ALIGNED) and name.removeprefix(_ALIGNED) in _METRICS:
        plain = _METRICS[name.removeprefix(_ALIGNED)]
        return replace(plain, name=name, title=f"{plain.title} after scale and shift of each image")
    return _METRICS.get(name) or Metric(name, name, "", 4, None)


def tabulated(task: str, recorded: set[str]) -> list[Metric]:
    """Metrics of a task that get a table, the main one first; of an unknown task all that are recorded."""
    names = [name for name in _TABULATED.get(task, ()) if name in recorded]
    return [metric(name) for name in names or sorted(recorded)]
