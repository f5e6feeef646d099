"""Making the backbone and the upsampler that the options ask for, and saying what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from naf import backbones
from naf.backbones.base import Backbone
from naf.cli.console import console
from naf.normalization import normalize
from naf.registry import create, entry, list_upsamplers
from naf.upsamplers.base import Upsampler
from naf.upsamplers.featup_implicit import FeatUpImplicit

_VIEWS_A_STEP = 10  # that a step of featup-implicit draws: a short fit need not make more


def load_backbone(name: str, device: torch.device, dtype: torch.dtype, max_side: int | None) -> Backbone:
    """The backbone on its device; prints what was taken and, where it is another than asked for, why."""
    # On the CPU half precision saves no time in a backbone, so only the features are cast.
    model_dtype = dtype if device.type != "cpu" else torch.float32
    options = {} if name in ("hog", "embedded") else {"dtype": model_dtype}
    backbone = backbones.create(name, max_side=max_side, **options).to(device)
    console.print(f"backbone   {backbone.note or backbone.name}", markup=False)
    return backbone


def load_upsampler(
    name: str, weights: str, neighborhood: str | None, device: torch.device, backbone: Backbone
) -> Upsampler:
    """The upsampler for the features of a backbone, on its device; prints its weights.

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
    takes_rule = "neighborhood" in about.options
    config: dict[str, Any] = {"neighborhood": neighborhood} if takes_rule and neighborhood else {}
    if not source.startswith("official:"):  # a release brings its own
        config |= about.config_for(backbone.channels, backbone.stride)
    if about.needs_backbone:
        config["backbone"] = backbone
    upsampler = create(name, None if source == "none" else source, **config).to(device)
    stated = "" if upsampler.weights_source == "none needed" else f", weights: {upsampler.weights_source}"
    rule = f", neighborhood: {getattr(upsampler, 'neighborhood', '')}" if takes_rule else ""
    console.print(f"upsampler  {name}{stated}{rule}", markup=False)
    return upsampler


def fit_to_photo(
    method: Upsampler, image01: Tensor, backbone: Backbone, steps: int, checkpoint: Path, bar: Progress
) -> None:
    """Fit a method that serves one image only to that image; others are left alone.

    Args:
        method: as :func:`load_upsampler` gives it.
        image01: (3, H, W), values from 0 to 1.
        backbone: gives the features.
        steps: of the fit.
        checkpoint: from which a stopped fit goes on.
        bar: shows the steps.
    """
    if not isinstance(method, FeatUpImplicit):
        return
    task = bar.add_task("fitting", total=steps)
    method.fit(
        normalize(image01)[None],
        backbone,
        steps=steps,
        views=min(3000, _VIEWS_A_STEP * steps),
        checkpoint=checkpoint,
        on_progress=lambda done, _, loss: bar.update(task, completed=done, description=f"fitting, loss {loss:.3f}"),
    )
    bar.remove_task(task)


def weights_for(name: str, weights: str) -> str:
    """The source for one method in "SOURCE" or "NAME=SOURCE,NAME=SOURCE"; "auto" where it is not named.

    Raises:
        ValueError: if the named ones hold a method that does not exist.
    """
    pairs = [part.strip().partition("=") for part in weights.split(",")]
    if not all(equals and key in list_upsamplers() for key, equals, _ in pairs):
        if len(pairs) > 1:
            raise ValueError(f"--weights is {weights!r}, expected one source, or NAME=SOURCE for each, with commas")
        return weights
    return {key: source for key, _, source in pairs}.get(name, "auto")
