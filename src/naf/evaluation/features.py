"""A backbone's features of a set of images, computed once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from naf.backbones import Backbone
from naf.backbones.fingerprint import fingerprint_of
from naf.data.digest import add_tensors
from naf.data.feature_cache import FeatureCache


class Features:
    """Features by image, through a cache on disk where there is one.

    Args:
        backbone: frozen; its device is where the features are given.
        cache: folder; None computes them each time.
        dtype: that the cache stores.

    Attributes:
        backbone: as given, in evaluation mode.
        dtype: that the features are rounded to.
    """

    def __init__(self, backbone: Backbone, cache: Path | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.backbone = backbone.requires_grad_(False).eval()
        self.fingerprint = fingerprint_of(backbone)
        self._mean: Tensor | None = None
        self._deviation: Tensor | None = None
        self._cache: FeatureCache | None = None
        self.dtype = torch.float32 if cache is None else dtype
        if cache is not None:
            name = str(dtype).removeprefix("torch.")
            folder = f"{backbone.name.replace('/', '_')}-{self.fingerprint[:12]}-{name}"
            self._cache = FeatureCache(cache / folder, self.fingerprint, dtype)

    @torch.no_grad()
    def of(self, image01: Tensor) -> Tensor:
        """Features of a batch.

        Args:
            image01: (B, 3, S, S), values from 0 to 1, on any device.

        Returns:
            (B, C, h, w), float32.
        """
        if self._cache is None:
            return self._reduced(self.backbone(image01.to(self.device)).float())
        keys = [_hash(image) for image in image01]
        cached = [self._cache.get(key) for key in keys]
        missing = [index for index, one in enumerate(cached) if one is None]
        device = self.device
        if missing:
            made = self.backbone(image01[missing].to(device)).float()
            for index, one in zip(missing, made, strict=True):
                cached[index] = self._cache.put(keys[index], one)
        return self._reduced(torch.stack([one.to(device).float() for one in cached if one is not None]))

    def standardize(self, mean: Tensor, deviation: Tensor) -> None:
        """From now on channels are reduced by a mean and divided by a deviation, both (C, 1, 1)."""
        self._mean, self._deviation = mean.to(self.device), deviation.to(self.device)

    def _reduced(self, features: Tensor) -> Tensor:
        if self._mean is None or self._deviation is None:
            return features
        return (features - self._mean) / self._deviation

    def flush(self) -> None:
        """Write what the cache has not written yet."""
        if self._cache is not None:
            self._cache.flush()

    @property
    def device(self) -> torch.device:
        """Of the features."""
        return next(iter([*self.backbone.parameters(), *self.backbone.buffers()]), torch.empty(0)).device


def _hash(image01: Tensor) -> str:
    """Of an image's size and values: two files of the same content are one."""
    digest: Any = hashlib.blake2b(digest_size=20)
    add_tensors(digest, [("image", image01)])
    return str(digest.hexdigest())
