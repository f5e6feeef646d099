"""Colours as features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.data.feature_cache import FeatureCache
from naf.normalization import normalize
from naf.training.photos import Batch, PhotoFolder
from naf.training.plan import Geometry
from naf.training.sources.area import cell_means
from naf.training.sources.base import FeatureSource, at_least_one


class PixelSource(FeatureSource):
    """Colours as features (NAF, table 10): mean ImageNet-normalised RGB of each cell, four times over.

    So each of four attention heads filters all three colours.

    Args:
        stride: pixels a target cell.
        weight: see :class:`FeatureSource`.
        geometry: likewise.
        photos: likewise.
    """

    channels = 12

    def __init__(
        self,
        stride: int = 16,
        weight: float = 1.0,
        geometry: Geometry | None = None,
        photos: PhotoFolder | None = None,
    ) -> None:
        super().__init__(weight, geometry, photos)
        self.stride = at_least_one("stride", stride)

    @torch.no_grad()
    def extract(self, image01: Tensor) -> Tensor:  # noqa: D102
        return F.avg_pool2d(normalize(image01.float()), self.stride).repeat(1, 4, 1, 1)

    def _pair(self, batch: Batch, cache: FeatureCache | None) -> tuple[Tensor, Tensor]:
        del cache
        means = cell_means(normalize(batch.image01), batch.plan.reduced_size // self.stride)
        return means.repeat(1, 4, 1, 1), self.extract(batch.image01)
