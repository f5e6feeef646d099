"""Any timm model that has `forward_intermediates`: ViTs, ConvNeXts, hierarchical and plain convolutional networks."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor

from naf.backbones.base import Backbone
from naf.backbones.reach import is_within_reach
from naf.normalization import standardize


class BackboneError(RuntimeError):
    """A backbone that cannot be had or cannot run."""


class TimmBackbone(Backbone):
    """A timm model as a source of dense features.

    The image is normalised with the model's own mean and standard deviation. Models that take any size get the
    image at whole strides; models of one fixed size get it resized to that.

    Args:
        name: timm name, with or without tag, e.g. "vit_small_patch16_dinov3.lvd1689m".
        pretrained: load timm's weights (downloads them into the Hugging Face cache once).
        layer: which of the model's feature levels: -1 is the last (after the final norm where the model has one).
        dtype: of the model; the features have it too.
        max_side: the network sees at most this many pixels on the longer side.

    Raises:
        BackboneError: if timm does not know the model, its weights cannot be had, or it gives no dense features.
        ValueError: for a layer that the model does not have.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = True,
        layer: int = -1,
        dtype: torch.dtype = torch.float32,
        max_side: int | None = None,
    ) -> None:
        super().__init__(max_side)
        self.name = name
        model, is_any_size = _create(name, pretrained)
        self.model = model.to(dtype).eval()
        if not hasattr(self.model, "forward_intermediates"):
            raise BackboneError(f"timm model {name!r} has no forward_intermediates: it gives no dense features")
        levels = self.model.feature_info
        if not -len(levels) <= layer < len(levels):
            raise ValueError(f"layer is {layer}, expected {-len(levels)} … {len(levels) - 1} for {name!r}")
        self.layer = layer % len(levels)
        self.has_norm = True
        level = levels[self.layer]
        self.stride, self.channels = int(level["reduction"]), int(level["num_chs"])
        cfg = self.model.pretrained_cfg
        self.mean, self.std = tuple(cfg["mean"]), tuple(cfg["std"])
        if cfg.get("fixed_input_size") and not is_any_size:
            self.fixed_size = (cfg["input_size"][1], cfg["input_size"][2])

    def _features(self, image01: Tensor) -> Tensor:
        parameter = next(self.model.parameters())
        x = standardize(image01.to(parameter.dtype), self.mean, self.std)
        try:
            features = self._forward(x)
        except (RuntimeError, AssertionError, IndexError) as error:
            raise BackboneError(f"{self.name!r} cannot run on {tuple(x.shape[2:])} pixels: {error}") from error
        expected = tuple(side // self.stride for side in x.shape[2:])
        if tuple(features.shape[2:]) != expected:
            raise BackboneError(
                f"{self.name!r} gives a grid of {tuple(features.shape[2:])} for {tuple(x.shape[2:])} pixels, expected "
                f"{expected} at stride {self.stride}: its cells do not tile the image, so features would be misplaced"
            )
        self.channels = features.shape[1]  # some models declare another number
        return features

    def _forward(self, x: Tensor) -> Tensor:
        try:
            maps = self.model.forward_intermediates(
                x,
                indices=[self.layer],
                norm=self.has_norm,
                stop_early=True,
                output_fmt="NCHW",
                intermediates_only=True,
            )
        except AssertionError as error:  # some models refuse the final norm, e.g. Hiera
            if "norm" not in str(error) or not self.has_norm:
                raise
            self.has_norm = False
            return self._forward(x)
        features: Tensor = maps[0]
        return features


def is_available(name: str, timeout: float = 3.0) -> bool:
    """Whether timm's weights of a model are in the local cache, or the hub answers within `timeout` seconds."""
    import timm

    repository = getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None)
    if not repository:
        return False
    return is_within_reach(repository, files=("model.safetensors", "pytorch_model.bin"), timeout=timeout)


def _create(name: str, pretrained: bool) -> tuple[Any, bool]:
    """The model, and whether it was made to take any image size."""
    import timm

    if not timm.is_model(name):
        close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        raise BackboneError(
            f"backbone {name!r} is unknown to timm{', did you mean ' + ' or '.join(close) if close else ''}. "
            'Other names: "auto", "embedded", "hog", "hf:USER/MODEL", "hub:OWNER/REPOSITORY:ENTRY"'
        )
    try:
        try:
            model = timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True)
            # Some models swallow the option without heeding it.
            return model, not getattr(getattr(model, "patch_embed", None), "strict_img_size", False)
        except TypeError:  # no ViT with this option; most of these take any size, the others say so in their config
            return timm.create_model(name, pretrained=pretrained, num_classes=0), False
    except (RuntimeError, OSError, ValueError) as error:
        if not pretrained:
            raise BackboneError(f"timm cannot make {name!r}: {error}") from error
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"weights of {name!r} cannot be had: {cause}. They are in no local cache; with a network connection they "
            'are downloaded once. "embedded" needs none'
        ) from error
