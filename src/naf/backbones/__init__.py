"""Backbones: what turns a photo into coarse features."""

from __future__ import annotations

from typing import Any

import torch

from naf.backbones.base import Backbone, FeatureMap
from naf.backbones.embedded import EmbeddedBackbone
from naf.backbones.hog import Hog
from naf.backbones.huggingface import HuggingFaceBackbone
from naf.backbones.timm import BackboneError, TimmBackbone, is_available
from naf.backbones.torch_hub import TorchHubBackbone

__all__ = [
    "AUTO",
    "Backbone",
    "BackboneError",
    "EmbeddedBackbone",
    "FeatureMap",
    "Hog",
    "HuggingFaceBackbone",
    "TimmBackbone",
    "TorchHubBackbone",
    "create",
]

AUTO = "vit_small_patch16_dinov3.lvd1689m"


def create(name: str = "auto", **config: Any) -> Backbone:
    """A backbone by name, in evaluation mode.

    Args:
        name:

            - a timm name ("vit_small_patch14_reg4_dinov2.lvd142m", "convnext_tiny.dinov3_lvd1689m", …), with timm's
              pretrained weights; keywords `pretrained`, `layer`, `dtype`, `max_side`: see :class:`TimmBackbone`.
            - "hf:USER/REPOSITORY", "hf:USER/REPOSITORY@REVISION" or "hf:FOLDER": a vision model of transformers;
              keywords `dtype`, `max_side`, `trust_remote_code`: see :class:`HuggingFaceBackbone`.
            - "hub:OWNER/REPOSITORY:ENTRY", "hub:OWNER/REPOSITORY:REF:ENTRY" or "hub:FOLDER:ENTRY": a network of
              torch.hub, whose code is run; keywords `dtype`, `max_side`, `mean`, `std` and those of the entry: see
              :class:`TorchHubBackbone`.
            - "embedded": a small trained network that the package carries; keywords `stride` (16 or 8), `max_side`: see
              :class:`EmbeddedBackbone`.
            - "hog": a weight-free descriptor; keywords `stride`, `max_side`: see :class:`Hog`.
            - "auto": DINOv3 ViT-S/16 if its weights are in the local cache or the hub answers within 3 seconds,
              otherwise "embedded"; `note` then says so. Keyword `max_side`, and `dtype` for DINOv3.
        config: the keywords above.

    Raises:
        BackboneError: if the model is unknown or its weights cannot be had.
        TypeError, ValueError: for an unknown keyword or a value out of range.
    """
    if name == "auto":
        return _auto(**config)
    if name == "embedded":
        return EmbeddedBackbone(**config)
    if name == "hog":
        return Hog(**config)
    if name.startswith("hf:"):
        return HuggingFaceBackbone(name.removeprefix("hf:"), **config)
    if name.startswith("hub:"):
        return TorchHubBackbone(name.removeprefix("hub:"), **config)
    return TimmBackbone(name, **config)


def _auto(*, max_side: int | None = None, dtype: torch.dtype = torch.float32) -> Backbone:
    reason = "its weights are not in the local cache and the hub does not answer"
    if is_available(AUTO):
        try:
            return TimmBackbone(AUTO, dtype=dtype, max_side=max_side)
        except BackboneError as error:
            reason = str(error)
    backbone = create("embedded", max_side=max_side)
    backbone.note = f"{backbone.name} (a small trained network) in place of DINOv3 ViT-S/16: {reason}"
    return backbone
