"""Networks of unknown build as backbones: a small image tells what they give."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from naf.backbones.base import Backbone
from naf.backbones.layout import Layout, empty_like_parameters, find_layout, fixed_layout
from naf.backbones.timm import BackboneError
from naf.normalization import standardize


class ProbedBackbone(Backbone):
    """A network whose stride, channels and leading tokens are found by running it on two small images.

    Args:
        name: see :class:`Backbone`.
        model: the network, in evaluation mode.
        mean: of the image's normalisation, 3 values.
        std: likewise.
        max_side: the network sees at most this many pixels on the longer side.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        max_side: int | None = None,
    ) -> None:
        super().__init__(max_side)
        self.name, self.model, self.mean, self.std = name, model, mean, std

    @abstractmethod
    def _run(self, image: Tensor) -> Tensor:
        """Tokens or a map of the last layer, for a normalised image (B, 3, H, W)."""

    def _probe(self, only_side: int | None = None) -> None:
        """Find the layout.

        Args:
            only_side: the one size that the network takes where it does not take any.

        Raises:
            BackboneError: if the network does not run, or gives no dense features.
        """
        like = empty_like_parameters(self.model)
        with torch.no_grad():
            try:
                self._layout = self._find(like, only_side)
            except Exception as error:  # a network may raise anything
                raise BackboneError(f"{self.name!r} gives no dense features: {first_line(error)}") from error
        self.stride, self.channels = self._layout.stride, self._layout.channels

    def _find(self, like: Tensor, only_side: int | None) -> Layout:
        try:
            return find_layout(self._run, like)
        except Exception:  # what it says of a size that it was not made for is of no use
            if only_side is None:
                raise
            layout = fixed_layout(self._run, like, only_side)
            self.fixed_size = (only_side, only_side)
            return layout

    def _features(self, image01: Tensor) -> Tensor:
        dtype = empty_like_parameters(self.model).dtype
        x = standardize(image01.to(dtype), self.mean, self.std)
        size = (x.shape[2], x.shape[3])
        try:
            return self._layout.to_map(self._run(x), size).to(dtype).contiguous()
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            raise BackboneError(f"{self.name!r} cannot run on {size} pixels: {error}") from error


def first_line(error: BaseException) -> str:
    """What an error says in its first line, without the full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(" .") if lines else type(error).__name__
