"""Features of one photo on one grid, asked many times: heads, single vectors, cosine similarity."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from naf.upsamplers.base import Guidance
from naf.upsamplers.checks import whole_number

_BAND_ROWS = 64


class FeatureView(ABC):
    """What pictures of a feature map need of it, without the map where the upsampler can do without.

    The cosine of every pixel with one vector takes a linear head with that vector as its only row, and the length
    of each pixel's features, which is kept. A head passes through most upsamplers before they filter, so a new vector
    costs one channel, not C.

    Attributes:
        size: (rows, columns).
        channels: C.
    """

    def __init__(self, size: tuple[int, int], channels: int, norms: Tensor | None = None) -> None:
        self.size, self.channels, self._norms = size, channels, norms

    @classmethod
    def of_map(cls, features: Tensor) -> FeatureView:
        """A view of a map as it is, such as the coarse one.

        Args:
            features: (1, C, H, W), float.

        Raises:
            ValueError: for another batch than 1.
        """
        return _MapView(_one(features))

    @classmethod
    def of_guidance(cls, guidance: Guidance, features: Tensor, norms: Tensor | None = None) -> FeatureView:
        """A view of the upsampled features.

        Args:
            guidance: of the photo.
            features: coarse, (1, C, h, w). The full map is kept only if heads do not pass through the guidance.
            norms: what :meth:`norms` would make, (Ho, Wo), where the caller has had the full map anyway.

        Raises:
            ValueError: for another batch than 1, or features that the guidance does not serve.
        """
        features = _one(features)
        if guidance.has_lean_head:
            return _GuidedView(guidance, features, norms)
        with torch.no_grad():
            return _MapView(guidance.upsample(features))

    @abstractmethod
    def project(self, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """A per-pixel linear head: (K, C) and (K,) or None → (K, H, W), in float32 or better."""

    def vector(self, row: int, col: int) -> Tensor:
        """The features of one pixel, (C,).

        Raises:
            ValueError: if it lies outside.
        """
        row, col = whole_number("row", row, 0, self.size[0] - 1), whole_number("col", col, 0, self.size[1] - 1)
        return self._vector(row, col)

    def norms(self) -> Tensor:
        """Length of each pixel's features, (H, W), float32; made at the first call."""
        if self._norms is None:
            self._norms = self._make_norms()
        return self._norms

    @torch.no_grad()
    def similarity(self, vector: Tensor) -> Tensor:
        """Cosine of each pixel's features with a vector.

        Args:
            vector: (C,), e.g. of :meth:`vector`.

        Returns:
            (H, W), float32, from -1 to 1; 0 where either has no length.

        Raises:
            ValueError: for another length than C.
        """
        if vector.shape != (self.channels,):
            raise ValueError(f"vector has shape {tuple(vector.shape)}, expected ({self.channels},)")
        vector = vector.float()
        unit = vector / vector.norm().clamp(min=1e-12)
        return (self.project(unit[None])[0].float() / self.norms().clamp(min=1e-12)).clamp(-1, 1)

    @abstractmethod
    def _vector(self, row: int, col: int) -> Tensor: ...

    @abstractmethod
    def _make_norms(self) -> Tensor: ...


class _MapView(FeatureView):
    def __init__(self, features: Tensor) -> None:
        super().__init__((features.shape[2], features.shape[3]), features.shape[1])
        self._features = features[0]

    @torch.no_grad()
    def project(self, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.ndim != 2 or weight.shape[1] != self.channels:
            raise ValueError(f"weight has shape {tuple(weight.shape)}, expected (K, {self.channels})")
        weight = weight.to(self._features.device, _wide(self._features))
        rows = [
            torch.einsum("kc,chw->khw", weight, band.to(weight.dtype))
            for band in self._features.split(_BAND_ROWS, dim=1)  # upsampled maps lie channels last: no copy of them all
        ]
        out = torch.cat(rows, dim=1)
        return out if bias is None else out + bias.to(out)[:, None, None]

    def _vector(self, row: int, col: int) -> Tensor:
        return self._features[:, row, col]

    @torch.no_grad()
    def _make_norms(self) -> Tensor:
        return torch.cat([band.float().norm(dim=0) for band in self._features.split(_BAND_ROWS, dim=1)])


class _GuidedView(FeatureView):
    def __init__(self, guidance: Guidance, features: Tensor, norms: Tensor | None) -> None:
        super().__init__(guidance.output_size, features.shape[1], norms)
        self._guidance, self._features = guidance, features

    @torch.no_grad()
    def project(self, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        features = self._features.to(_wide(self._features))
        head = weight.to(features), None if bias is None else bias.to(features)
        return self._guidance.upsample_linear(features, *head)[0]

    @torch.no_grad()
    def _vector(self, row: int, col: int) -> Tensor:
        return self._guidance.at(self._features, [row], [col])[0, :, 0]

    @torch.no_grad()
    def _make_norms(self) -> Tensor:
        bands = self._guidance.iter_rows(self._features, rows=_BAND_ROWS)
        return torch.cat([band[0].float().norm(dim=0) for _, band in bands])


def _wide(features: Tensor) -> torch.dtype:
    """In half precision sums over channels overflow, and scores that are close become equal."""
    return torch.promote_types(features.dtype, torch.float32)


def _one(features: Tensor) -> Tensor:
    if features.ndim != 4 or features.shape[0] != 1:
        raise ValueError(f"features have shape {tuple(features.shape)}, expected (1, C, H, W): one photo")
    return features.detach()
