"""Label maps as features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.data.feature_cache import FeatureCache
from naf.training.photos import Batch, PhotoFolder
from naf.training.plan import Geometry
from naf.training.sources.area import cell_means
from naf.training.sources.base import FeatureSource, at_least_one

_SHARED = -1  # generator of a plan: of what the batch shares
_SMALLEST = 0.004  # share of an image below which `balance` favours a segment no more


class SegmentSource(FeatureSource):
    """Label maps as features: a random code for each segment, averaged over cells.

    The target has the segments' true borders, which no backbone's features have. Codes are normal and drawn anew for
    each image.

    Args:
        stride: pixels a target cell. Input cells are larger by the geometry's `reduced`: at 0.125 to 0.25 an image of
            256 pixels and stride 2 gives 128 target cells and 16 to 32 input cells a side.
        channels: numbers of a code.
        scale: standard deviation of the codes. A squared error grows with its square: it balances label maps, whose
            error sits at borders alone, against other sources.
        balance: the codes of a segment that fills a share a of the image are multiplied by a**-balance, from 0, all
            alike, to 0.5, where the squares of all segments' codes sum to the same: thin and small ones are then not
            given up for the smoothness of large ones. Shares count from 0.4 % up.
        blur: standard deviation of a Gaussian over the input, in input cells, (least, largest), drawn each step: it
            stands for the receptive field of a backbone.
        noise: standard deviation of normal noise in the input, as a share of `scale`, (least, largest), drawn for
            each image: it stands for what a backbone's features vary by within a segment.
        ignore: id of pixels without a label; their code is 0.
        weight: see :class:`FeatureSource`.
        geometry: likewise.
        photos: likewise; with label maps.
    """

    can_extract = False

    def __init__(
        self,
        stride: int = 2,
        channels: int = 32,
        scale: float = 1.0,
        balance: float = 0.0,
        blur: tuple[float, float] = (0.0, 0.0),
        noise: tuple[float, float] = (0.0, 0.0),
        ignore: int | None = None,
        weight: float = 1.0,
        geometry: Geometry | None = None,
        photos: PhotoFolder | None = None,
    ) -> None:
        super().__init__(weight, geometry, photos)
        if photos is not None and photos.segments is None:
            raise ValueError("photos have no label maps, expected a PhotoFolder with segments")
        for name, (least, largest) in (("blur", blur), ("noise", noise)):
            if not 0 <= least <= largest:
                raise ValueError(f"{name} is {(least, largest)}, expected (least, largest), not below 0")
        if not scale > 0:
            raise ValueError(f"scale is {scale!r}, expected a positive number")
        if not 0 <= balance <= 1:
            raise ValueError(f"balance is {balance!r}, expected a number from 0 to 1")
        self.stride, self.channels = at_least_one("stride", stride), at_least_one("channels", channels)
        self.scale, self.balance, self.ignore = scale, balance, ignore
        self.blur, self.noise = (blur[0], blur[1]), (noise[0], noise[1])

    def _pair(self, batch: Batch, cache: FeatureCache | None) -> tuple[Tensor, Tensor]:
        del cache
        if batch.segments is None:
            raise ValueError(
                f"source {batch.plan.source!r} needs label maps, its photos have none: set segments of its PhotoFolder"
            )
        plan = batch.plan
        drawn = [plan.generator(plan.batch_size + batch.first + index) for index in range(len(batch.segments))]
        codes = torch.stack([self._encode(ids, one) for ids, one in zip(batch.segments, drawn, strict=True)])
        share = torch.rand((), generator=plan.generator(_SHARED), dtype=torch.float64).item()
        features = cell_means(codes, plan.reduced_size // self.stride, _between(self.blur, share))
        if self.noise[1]:
            features = features + torch.stack([self._noise(features.shape[1:], one) for one in drawn]).to(features)
        return features, F.avg_pool2d(codes, self.stride)

    def _noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        deviation = self.scale * _between(self.noise, torch.rand((), generator=generator).item())
        return deviation * torch.randn(shape, generator=generator)

    def _encode(self, ids: Tensor, generator: torch.Generator) -> Tensor:
        """The code of each pixel's segment, (S, S) → (C, S, S)."""
        present, index, pixels = ids.unique(return_inverse=True, return_counts=True)
        share = (pixels / ids.numel()).clamp(min=_SMALLEST)
        codes: Tensor = torch.randn(len(present), self.channels, generator=generator).to(ids.device)
        codes = codes * (self.scale * share.pow(-self.balance))[:, None]
        if self.ignore is not None:
            codes[present == self.ignore] = 0
        return codes[index].permute(2, 0, 1)


def _between(bounds: tuple[float, float], share: float) -> float:
    return bounds[0] + share * (bounds[1] - bounds[0])
