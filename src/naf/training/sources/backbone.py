"""Features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from naf import backbones
from naf.backbones import Backbone
from naf.data.feature_cache import FeatureCache
from naf.training.photos import Batch, PhotoFolder
from naf.training.plan import Geometry
from naf.training.sources.base import FeatureSource, resize


class BackboneSource(FeatureSource):
    """Features of a frozen backbone: of the image the target, of the reduced image the input (NAF, section 3.2).

    The image is reduced bilinearly without antialiasing, as in the official code.

    The state dict holds the statistics of the channels, if any, and not the backbone's weights, which nobody trains.

    Args:
        backbone: or its name for `naf.backbones.create`.
        weight: see :class:`FeatureSource`.
        geometry: likewise.
        normalize_channels: bring each channel to mean 0 and standard deviation 1 by the statistics that
            :meth:`calibrate` takes.
        photos: see :class:`FeatureSource`.
    """

    mean: Tensor
    std: Tensor
    is_calibrated: Tensor

    def __init__(
        self,
        backbone: Backbone | str,
        weight: float = 1.0,
        geometry: Geometry | None = None,
        normalize_channels: bool = False,
        photos: PhotoFolder | None = None,
    ) -> None:
        super().__init__(weight, geometry, photos)
        self.backbone = backbones.create(backbone) if isinstance(backbone, str) else backbone
        self.backbone.requires_grad_(False).eval()
        self.stride, self.channels = self.backbone.stride, self.backbone.channels
        self.normalize_channels = normalize_channels
        if normalize_channels:
            self.register_buffer("mean", torch.zeros(self.channels, 1, 1))
            self.register_buffer("std", torch.ones(self.channels, 1, 1))
            self.register_buffer("is_calibrated", torch.tensor(False))
        self.register_state_dict_post_hook(_leave_out_backbone)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_put_in_backbone)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Take the mean and standard deviation of each channel over all cells; once, before the training.

        Args:
            images: each (3, H, W) or (B, 3, H, W), values from 0 to 1, sides multiples of `stride`; on the device of
                this source. A batch (N, 3, H, W) serves as N of them.

        Raises:
            ValueError: if there is no image, or this source does not normalise.
        """
        if not self.normalize_channels:
            raise ValueError("normalize_channels is False, expected True for a source that is calibrated")
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for image in images:
            cells = self._run(image if image.ndim == 4 else image[None]).double().transpose(0, 1).flatten(1).cpu()
            count += cells.shape[1]
            total = total + cells.sum(dim=1)
            squares = squares + cells.square().sum(dim=1)
        if not count:
            raise ValueError("images is empty, expected at least one to take the channels' statistics from")
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        std = torch.where(std > 1e-4 * std.max(), std, 1.0)  # channels that never change are only shifted
        self.mean.copy_(mean[:, None, None])
        self.std.copy_(std[:, None, None])
        self.is_calibrated.fill_(True)

    @torch.no_grad()
    def extract(self, image01: Tensor) -> Tensor:  # noqa: D102
        return self._standardize(self._run(image01))

    def _pair(self, batch: Batch, cache: FeatureCache | None) -> tuple[Tensor, Tensor]:
        reduced = resize(batch.image01, batch.plan.reduced_size)
        features, target = (self._cached(image01, batch.keys, cache) for image01 in (reduced, batch.image01))
        return self._standardize(features), self._standardize(target)

    def _cached(self, image01: Tensor, keys: list[str] | None, cache: FeatureCache | None) -> Tensor:
        """As :meth:`_run`, through the cache where there is one.

        Images are run one by one then: an entry must not depend on which others of its batch were missing.
        """
        if cache is None or keys is None:
            return self._run(image01)
        kept = []
        for index, key in enumerate(keys):
            name = f"{key}|{image01.shape[-1]}"
            entry = cache.get(name)
            entry = cache.put(name, self._run(image01[index : index + 1])[0]) if entry is None else entry
            kept.append(entry.to(image01.device, torch.float32))  # autocast on the CPU cannot stack float16
        return torch.stack(kept)

    def _run(self, image01: Tensor) -> Tensor:
        """The backbone's features, float32, checked to lie on whole cells."""
        features: Tensor = self.backbone(image01).float()
        grid, expected = tuple(features.shape[2:]), tuple(side // self.stride for side in image01.shape[2:])
        if grid != expected:
            raise ValueError(
                f"backbone {self.backbone.name!r} gives a grid of {grid} for {tuple(image01.shape[2:])} pixels, "
                f"expected {expected} at stride {self.stride}: sizes are multiples of it, and backbones of one fixed "
                "size or with max_side do not serve for training"
            )
        return features

    def _standardize(self, features: Tensor) -> Tensor:
        if not self.normalize_channels:
            return features
        if not self.is_calibrated:
            raise ValueError("the channels have no statistics yet: call calibrate first, or load a checkpoint")
        return (features - self.mean) / self.std


def _leave_out_backbone(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    del module, metadata
    for name in [name for name in state if name.startswith(f"{prefix}backbone.")]:
        del state[name]


def _put_in_backbone(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Give a state that is about to be loaded the weights that are there, so that none is missed."""
    assert isinstance(module, BackboneSource)
    for name, tensor in module.backbone.state_dict(prefix=f"{prefix}backbone.").items():
        state.setdefault(name, tensor)
