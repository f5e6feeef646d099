"""A photo as its file holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Photo:
    """The stored values of a photo, upright, and what else its file says.

    Attributes:
        samples: (H, W, S) uint8 or uint16: grey; grey, alpha; red, green, blue; or red, green, blue, alpha. Alpha is
            not multiplied into the colour.
        profile: ICC profile that the colours are meant in.
        exif: camera, date, author and the like, by tag; the Exif and GPS directories are mappings themselves. Neither
            orientation nor thumbnail.
        dpi: resolution for print, across and down.
    """

    samples: np.ndarray
    profile: bytes | None = None
    exif: Mapping[int, Any] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None

    @property
    def depth(self) -> int:
        """Bits of a value, 8 or 16."""
        return self.samples.dtype.itemsize * 8

    @property
    def is_grey(self) -> bool:
        """Whether it has no colour."""
        return self.samples.shape[2] in (1, 2)

    @property
    def has_alpha(self) -> bool:
        """Whether it has transparency."""
        return self.samples.shape[2] in (2, 4)

    @property
    def colour(self) -> np.ndarray:
        """(H, W, 1 or 3) of the samples, as stored; also where alpha is 0."""
        return self.samples[..., : 1 if self.is_grey else 3]

    @property
    def alpha(self) -> np.ndarray | None:
        """(H, W) of the samples, as stored."""
        return self.samples[..., -1] if self.has_alpha else None

    @property
    def image(self) -> Tensor:
        """The colour, (3, H, W) float32, values from 0 to 1; three equal channels where it is grey."""
        values = torch.from_numpy(self.colour.astype(np.float32)).permute(2, 0, 1) / np.iinfo(self.samples.dtype).max
        return values.expand(3, -1, -1).contiguous()

    def with_image(self, image: Tensor) -> Photo:
        """The photo with another colour, all else kept; `photo.with_image(photo.image)` has the same samples.

        Args:
            image: (3, H, W), 0 … 1 scale; clamped and rounded here. For a grey photo the mean of the channels counts.

        Raises:
            ValueError: for another shape, or values that are not finite.
        """
        height, width = self.samples.shape[:2]
        if image.shape != (3, height, width):
            raise ValueError(f"image is {tuple(image.shape)}, expected {(3, height, width)}")
        if not image.isfinite().all():
            raise ValueError(f"image holds {int((~image.isfinite()).sum())} values that are not finite")
        values = image.detach().cpu().float()
        if self.is_grey:
            values = values.mean(0, keepdim=True)
        scaled = (values.clamp(0, 1) * np.iinfo(self.samples.dtype).max).round().permute(1, 2, 0).numpy()
        samples = self.samples.copy()
        samples[..., : scaled.shape[2]] = scaled
        return replace(self, samples=samples)
