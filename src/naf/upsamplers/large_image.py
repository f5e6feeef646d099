"""The plain alternative to upsampling features: a larger image for the backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from naf.registry import register
from naf.upsamplers.base import Guidance, Upsampler
from naf.upsamplers.extractor import FeatureExtractor, check_extractor, resize_image, to_image01
from naf.upsamplers.interpolation import InterpolationGuidance


class LargeImageGuidance(Guidance):
    """The backbone's features of the enlarged image; those that are given only say which shape and dtype to return.

    Attributes:
        map: (B, C, h', w'), on the backbone's own grid and in its dtype.
    """

    def __init__(self, features: Tensor, grid: tuple[int, int], output_size: tuple[int, int]) -> None:
        super().__init__(features.shape[0], grid, output_size)
        self.map = features
        size = features.shape[2], features.shape[3]
        self._resize = InterpolationGuidance(features.shape[0], "bilinear", size, output_size)

    def _upsample(self, features: Tensor) -> Tensor:
        return self._resize.upsample(self.map).to(features.dtype)

    def _upsample_linear(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._resize.upsample_linear(self.map.to(features.dtype), weight, bias)

    def _bands(self, features: Tensor) -> Callable[[int, int], Tensor]:
        make = self._resize._bands(self.map)
        return lambda start, stop: make(start, stop).to(features.dtype)

    def _at_pixels(self, features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        return self._resize._at_pixels(self.map, rows, cols).to(features.dtype)


@register(
    "large-image",
    summary="no upsampling: the backbone sees a larger image (baseline, costly)",
    paper="-",
    needs_backbone=True,
    learns=False,
)
class LargeImage(Upsampler):
    """The backbone once more, on an image enlarged so that its grid is the output grid.

    The image is resized to (Ho * stride, Wo * stride), or to what the backbone's `max_side` or fixed size makes of
    that; where its grid then differs from the output, the features are resized bilinearly. The given features matter
    only by their shape, dtype and device. A ratio of 16 for a 448 x 448 photo means an image of 7168 x 7168 pixels:
    200 704 tokens for a ViT-S/16, whose attention alone is then 0.74 PFLOP.

    The backbone is held, not registered as a submodule. It moves with `to`, `cuda`, `half` and the like, itself, not a
    copy of it; but its parameters are not in `parameters()` nor in the state dict, which is empty, and `train()` does
    not reach it. Gradients reach the image where the image asks for them and the backbone passes them on.

    Args:
        backbone: `naf.backbones.create(…)`, or what offers the same: see
            :class:`naf.upsamplers.extractor.FeatureExtractor`.

    Raises:
        TypeError: if it is no backbone.
    """

    uses_features: ClassVar[bool] = False
    is_linear = False
    is_convex = False
    keeps_constants = False
    has_attention: ClassVar[bool] = False
    is_exportable: ClassVar[bool] = False  # backbones look at the values of their image

    backbone: FeatureExtractor

    def __init__(self, backbone: FeatureExtractor) -> None:
        super().__init__()
        self.__dict__["backbone"] = check_extractor(backbone)  # past nn.Module, which would register it

    @property
    def feature_channels(self) -> int:  # type: ignore[override]  # some backbones correct theirs at the first image
        """Channels of the backbone."""
        return self.backbone.channels

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> LargeImage:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if recurse and isinstance(self.backbone, nn.Module):
            self.backbone._apply(fn)  # type: ignore[no-untyped-call]
        return self

    def memory(self, image_size: tuple[int, int], output_size: tuple[int, int]) -> int:
        """The enlarged image and the map; what the backbone needs in between is not counted."""
        del image_size
        height, width = self._input_size(output_size)
        stride = self.backbone.stride
        return 4 * height * width * 3 + 4 * self.backbone.channels * (height // stride) * (width // stride)

    def _channel_hint(self) -> str:
        return " by the backbone that this large-image wraps"

    def _input_size(self, output_size: tuple[int, int]) -> tuple[int, int]:
        height, width = (side * self.backbone.stride for side in output_size)
        return self.backbone.input_size((height, width))

    def _encode(self, image: Tensor, output_size: tuple[int, int], grid: tuple[int, int]) -> LargeImageGuidance:
        # A frozen backbone: without this, its parameters would make autograd keep every activation.
        with torch.set_grad_enabled(torch.is_grad_enabled() and image.requires_grad):
            image01 = to_image01(image.to(torch.promote_types(image.dtype, torch.float32)))
            # At once to the size that the backbone asks for; clamped, as antialiasing may round past 1.
            enlarged = resize_image(image01, self._input_size(output_size)).clamp(0, 1)
            features = self.backbone.extract(enlarged).features
        return LargeImageGuidance(features, grid, output_size)
