"""Backbones and upsamplers that fit each other, by name: what the command line and the web application load."""

from __future__ import annotations

from typing import Any

import torch

from naf import backbones
from naf.backbones.base import Backbone
from naf.registry import create, entry, list_upsamplers
from naf.upsamplers.base import Upsampler


def load_backbone(name: str, device: torch.device, dtype: torch.dtype, max_side: int | None = None) -> Backbone:
    """The backbone on its device.

    Args:
        name: see `naf.backbones.create`.
        device: where.
        dtype: of the model. On the CPU it stays float32: half precision saves no time there.
        max_side: most pixels of the longer side that the network sees.
    """
    options = {} if name in ("hog", "embedded") else {"dtype": dtype if device.type != "cpu" else torch.float32}
    return backbones.create(name, max_side=max_side, **options).to(device)


def load_upsampler(
    name: str, weights: str, neighborhood: str | None, device: torch.device, backbone: Backbone
) -> Upsampler:
    """The upsampler for the features of a backbone, on its device.

    Args:
        name: registered name.
        weights: for all methods ("auto", "none", a file, …), or NAME=SOURCE for single ones, separated by commas;
            methods that take none or are not named take "auto". "none" stands for None.
        neighborhood: NAF's rule; None for that of the method.
        device: where.
        backbone: whose features it shall serve.
    """
    about = entry(name)
    source = weights_for(name, weights) if about.needs_weights else "auto"
    if about.cls.fits_one_image and source == "auto":
        source = "none"
    config: dict[str, Any] = {"neighborhood": neighborhood} if "neighborhood" in about.options and neighborhood else {}
    if not source.startswith("official:"):  # a release brings its own
        config |= about.config_for(backbone.channels, backbone.stride)
    if about.needs_backbone:
        config["backbone"] = backbone
    return create(name, None if source == "none" else source, **config).to(device)


def weights_for(name: str, weights: str) -> str:
    """The source for one method in "SOURCE" or "NAME=SOURCE,NAME=SOURCE"; "auto" where it is not named.

    Raises:
        ValueError: if the named ones hold a method that does not exist.
    """
    pairs = [part.strip().partition("=") for part in weights.split(",")]
    if not all(equals and key in list_upsamplers() for key, equals, _ in pairs):
        if len(pairs) > 1:
            raise ValueError(f"weights is {weights!r}, expected one source, or NAME=SOURCE for each, with commas")
        return weights
    return {key: source for key, _, source in pairs}.get(name, "auto")
