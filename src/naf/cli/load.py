"""Making the backbone and the upsampler that the options ask for, and saying what they are."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor

from naf import loading
from naf.backbones.base import Backbone
from naf.cli.console import console
from naf.normalization import normalize
from naf.upsamplers.base import Upsampler
from naf.upsamplers.featup_implicit import FeatUpImplicit

_VIEWS_A_STEP = 10  # that a step of featup-implicit draws: a short fit need not make more


def load_backbone(name: str, device: torch.device, dtype: torch.dtype, max_side: int | None) -> Backbone:
    """As :func:`naf.loading.load_backbone`; prints what was taken and, where it is another than asked for, why."""
    backbone = loading.load_backbone(name, device, dtype, max_side)
    console.print(f"backbone   {backbone.note or backbone.name}", markup=False)
    return backbone


def load_upsampler(
    name: str, weights: str, neighborhood: str | None, device: torch.device, backbone: Backbone
) -> Upsampler:
    """As :func:`naf.loading.load_upsampler`; prints its weights."""
    upsampler = loading.load_upsampler(name, weights, neighborhood, device, backbone)
    stated = "" if upsampler.weights_source == "none needed" else f", weights: {upsampler.weights_source}"
    rule = f", neighborhood: {upsampler.neighborhood}" if hasattr(upsampler, "neighborhood") else ""
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
