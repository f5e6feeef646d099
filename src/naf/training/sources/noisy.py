"""Images with noise, for restorers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from naf.data.feature_cache import FeatureCache
from naf.normalization import IMAGENET_MEAN, IMAGENET_STD, standardize
from naf.restoration.noise import Noise
from naf.training.example import Example
from naf.training.photos import Batch, PhotoFolder
from naf.training.plan import Geometry
from naf.training.sampler import hashed
from naf.training.sources.base import FeatureSource, at_least_one


class NoisySource(FeatureSource):
    """The image with noise is the input, the clean one the target (NAF, table 8).

    The images of a batch share a level, as in the paper; held-out photos, which come one by one, each have their own,
    always the same. Noise belongs to an image's number in the batch, so that it is the same in any number of processes.

    Args:
        noise: kind and level.
        val_size: pixels of held-out photos; None for those of training.
        weight: see :class:`FeatureSource`.
        geometry: likewise; only image_size counts.
        photos: likewise.

    Raises:
        ValueError: for another noise than one of `naf.restoration.noise`, or a size below 1.
    """

    can_extract = False
    stride, channels = 1, 3

    def __init__(
        self,
        noise: Noise,
        val_size: int | None = None,
        weight: float = 1.0,
        geometry: Geometry | None = None,
        photos: PhotoFolder | None = None,
    ) -> None:
        super().__init__(weight, geometry, photos)
        if not isinstance(noise, Noise):
            raise ValueError(f"noise is {noise!r}, expected noise=gaussian or noise=salt_and_pepper")
        self.noise, self.val_size = noise, None if val_size is None else at_least_one("val_size", val_size)

    @torch.no_grad()
    def example(self, batch: Batch, cache: FeatureCache | None = None) -> Example:
        """As any source's; the guidance is the noisy image itself, standardised and not resized."""
        example = super().example(batch, cache)
        return replace(example, guidance=standardize(example.features, IMAGENET_MEAN, IMAGENET_STD))

    def _pair(self, batch: Batch, cache: FeatureCache | None) -> tuple[Tensor, Tensor]:
        del cache
        plan, clean = batch.plan, batch.image01.float()
        # Of the whole batch; held-out photos are batches of one, all of the same plan.
        level = self.noise.draw_level(_generator(plan.seed, "level", batch.first // plan.batch_size))
        noise = replace(self.noise, level=level)
        images = [noise(image, _generator(plan.seed, "noise", batch.first + i)) for i, image in enumerate(clean)]
        return torch.stack(images), clean


def _generator(*parts: object) -> torch.Generator:
    return torch.Generator().manual_seed(hashed(*parts))
