"""Label maps as features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.training.cache import FeatureCache
from naf.training.photos import Batch, PhotoFolder
from naf.training.plan import Geometry
from naf.training.sources.area import cell_means
from naf.training.sources.base import FeatureSource, at_least_one

_SHARED = -1  # generator of a plan: of what the batch shares


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
        blur: standard deviation of a Gaussian over the input, in input cells, (least, largest), drawn each step: it
            stands for the receptive field of a backbone.
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
        blur: tuple[float, float] = (0.0, 0.0),
        ignore: int | None = None,
        weight: float = 1.0,
        geometry: Geometry | None = None,
        photos: PhotoFolder | None = None,
    ) -> None:
        super().__init__(weight, geometry, photos)
        if photos is not None and photos.segments is None:
            raise ValueError("photos have no label maps, expected a PhotoFolder with segments")
        if not 0 <= blur[0] <= blur[1]:
            raise ValueError(f"blur is {tuple(blur)}, expected (least, largest) in input cells, not below 0")
        if not scale > 0:
            raise ValueError(f"scale is {scale!r}, expected a positive number")
        self.stride, self.channels = at_least_one("stride", stride), at_least_one("channels", channels)
        self.scale, self.blur, self.ignore = scale, (blur[0], blur[1]), ignore

    def _pair(self, batch: Batch, cache: FeatureCache | None) -> tuple[Tensor, Tensor]:
        del cache
        if batch.segments is None:
            raise ValueError(
                f"source {batch.plan.source!r} needs label maps, its photos have none: set segments of its PhotoFolder"
            )
        codes = torch.stack(
            [
                self._encode(ids, batch.plan.generator(batch.plan.batch_size + batch.first + index))
                for index, ids in enumerate(batch.segments)
            ]
        )
        draw = torch.rand((), generator=batch.plan.generator(_SHARED), dtype=torch.float64).item()
        blur = self.blur[0] + draw * (self.blur[1] - self.blur[0])
        return cell_means(codes, batch.plan.reduced_size // self.stride, blur), F.avg_pool2d(codes, self.stride)

    def _encode(self, ids: Tensor, generator: torch.Generator) -> Tensor:
        """The code of each pixel's segment, (S, S) → (C, S, S)."""
        present, index = ids.unique(return_inverse=True)
        codes = self.scale * torch.randn(len(present), self.channels, generator=generator).to(ids.device)
        if self.ignore is not None:
            codes[present == self.ignore] = 0
        return codes[index].permute(2, 0, 1)
