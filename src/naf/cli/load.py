"""Making the backbone and the upsampler that the options ask for, and saying what they are."""

from __future__ import annotations

import torch

from naf import backbones
from naf.backbones.base import Backbone
from naf.cli.console import console
from naf.registry import create, entry
from naf.upsamplers.base import Upsampler


def load_backbone(name: str, device: torch.device, dtype: torch.dtype, max_side: int | None) -> Backbone:
    """The backbone on its device; prints what was taken and, where it is another than asked for, why."""
    # On the CPU half precision saves no time in a backbone, so only the features are cast.
    model_dtype = dtype if device.type != "cpu" else torch.float32
    options = {} if name in ("hog", "embedded") else {"dtype": model_dtype}
    backbone = backbones.create(name, max_side=max_side, **options).to(device)
    console.print(f"backbone   {backbone.note or backbone.name}", markup=False)
    return backbone


def load_upsampler(name: str, weights: str, neighborhood: str, device: torch.device) -> Upsampler:
    """The upsampler on its device; prints its weights. "none" stands for None."""
    takes_rule = "neighborhood" in entry(name).options
    config = {"neighborhood": neighborhood} if takes_rule else {}
    upsampler = create(name, None if weights == "none" else weights, **config).to(device)
    source = "" if upsampler.weights_source == "none needed" else f", weights: {upsampler.weights_source}"
    rule = f", neighborhood: {neighborhood}" if takes_rule else ""
    console.print(f"upsampler  {name}{source}{rule}", markup=False)
    return upsampler
