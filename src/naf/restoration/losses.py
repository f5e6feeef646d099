"""What restorers are trained by: L1, L2 and structural similarity, weighted as for NAF (arXiv 2511.18452)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.restoration.similarity import box_mean, similarity_map


def similarity_loss(restored: Tensor, clean: Tensor) -> Tensor:
    """1 - SSIM with means over 3x3 pixels, averaged over all values, 0-d; float32 at least."""
    restored, clean = _full(restored), _full(clean)
    return 1 - similarity_map(restored, clean, box_mean).mean()


@dataclass(frozen=True)
class RestorationLoss:
    """Weighted sum of mean absolute error, mean squared error and 1 - SSIM; the paper's weights by default.

    Args:
        l1: weight of the mean absolute error.
        l2: of the mean squared error.
        ssim: of :func:`similarity_loss`.

    Raises:
        ValueError: for a negative weight, or where all are 0.
    """

    l1: float = 1.0
    l2: float = 5.0
    ssim: float = 0.2

    def __post_init__(self) -> None:
        weights = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, weight in weights.items():
            if not weight >= 0:
                raise ValueError(f"{name} is {weight!r}, expected a weight of at least 0")
        if not any(weights.values()):
            raise ValueError("l1, l2 and ssim are 0, expected at least one weight above")

    def __call__(self, restored: Tensor, clean: Tensor) -> dict[str, Tensor]:
        """The terms, times their weights.

        Args:
            restored: (B, C, H, W), 0 … 1 scale, not clamped.
            clean: likewise.

        Returns:
            "l1", "l2" and "ssim", those whose weight is not 0, and their sum, "loss"; 0-d, float32 at least, also
            under autocast.

        Raises:
            ValueError: if the two have other shapes.
        """
        if restored.shape != clean.shape:
            raise ValueError(f"restored is {tuple(restored.shape)}, clean {tuple(clean.shape)}, expected one shape")
        kinds: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "l1": F.l1_loss,
            "l2": F.mse_loss,
            "ssim": similarity_loss,
        }
        with torch.autocast(restored.device.type, enabled=False):
            restored, clean = _full(restored), _full(clean)
            terms = {
                name: getattr(self, name) * kind(restored, clean) for name, kind in kinds.items() if getattr(self, name)
            }
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
