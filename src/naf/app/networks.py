"""The networks of the web application: each is loaded once, and only those that a stranger may ask for."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from functools import cached_property
from pathlib import Path

import torch

from naf.app.analysis import WorkbenchError
from naf.backbones.base import Backbone
from naf.backbones.reach import is_within_reach
from naf.backbones.timm import is_available
from naf.loading import load_backbone, load_upsampler, weights_for
from naf.registry import entry, list_upsamplers
from naf.releases import releases_of
from naf.upsamplers.base import Upsampler
from naf.weights import embedded_path

_KEPT = 3  # backbones at a time, each with its upsamplers
ENLARGED = 2
"""Times `backbone_side`: what a backbone may see where a method enlarges the image for it."""
_REPOSITORY = re.compile(r"hf:[\w.-]+/[\w.-]+(@[\w./-]+)?")


class Networks:
    """Backbones and the upsamplers that fit them.

    Names are typed by whoever opens the page. So a name that makes this machine read a folder or run a repository's
    code is taken only where it is the one that the server was started with.

    Args:
        device: where they run.
        weights: see :func:`naf.loading.load_upsampler`.
        trusted: backbone of any kind that may be asked for.
    """

    def __init__(self, device: torch.device, weights: str, trusted: str) -> None:
        self._device, self._weights, self._trusted = device, weights, trusted
        self._backbones: OrderedDict[str, tuple[Backbone, dict[str, tuple[int, Upsampler]]]] = OrderedDict()
        weights_for("naf", weights)  # refuses what cannot be understood

    @cached_property
    def names(self) -> list[str]:
        """Upsamplers that run by themselves: those with learned weights, those without any, untrained ones."""
        able = [name for name in list_upsamplers() if not entry(name).cls.fits_one_image]
        return sorted(able, key=lambda name: (self._untrained[name], not entry(name).needs_weights, name))

    def is_untrained(self, upsampler: str) -> bool:
        """Whether there are no weights for it but random ones.

        Raises:
            ValueError: for an unknown name.
        """
        return self._untrained[entry(upsampler).name]

    @cached_property  # whether a method has parameters is found by making it
    def _untrained(self) -> dict[str, bool]:
        sources = {name: weights_for(name, self._weights) for name in list_upsamplers()}
        return {
            name: entry(name).needs_weights and (source == "none" or (source == "auto" and embedded_path(name) is None))
            for name, source in sources.items()
        }

    def check_upsampler(self, name: str) -> None:
        """Refuse those that there are not.

        Raises:
            WorkbenchError: that lists those there are.
        """
        if name not in self.names:
            why = "it must be fitted to each photo" if name in list_upsamplers() else "there is no such upsampler"
            raise WorkbenchError(f"{name}: {why}; expected one of {', '.join(self.names)}")

    def backbone(self, name: str, side: int) -> Backbone:
        """A backbone that sees at most `side` pixels on the longer side, until it is asked for with another.

        Raises:
            WorkbenchError: if it is not to be had, or not to be asked for.
        """
        network = self._load(name)[0]
        network.max_side = side
        return network

    def upsampler(self, name: str, backbone: str, side: int) -> Upsampler:
        """The upsampler for the features of a backbone that sees at most `side` pixels.

        Raises:
            WorkbenchError: if it is not to be had.
        """
        network, upsamplers = self._load(backbone)
        # FeatSharp cuts the image into tiles of the size that the backbone saw, large-image enlarges it.
        side = side if entry(name).needs_backbone else 0
        if name not in upsamplers or upsamplers[name][0] != side:
            wider = copy.copy(network)  # parameters are shared
            wider.max_side = ENLARGED * side
            try:
                upsamplers[name] = side, load_upsampler(name, self._weights, None, self._device, wider)
            except Exception as error:  # files and hubs fail in every way
                raise WorkbenchError(f"{name}: {first_line(error)}") from error
        return upsamplers[name][1]

    def _load(self, name: str) -> tuple[Backbone, dict[str, tuple[int, Upsampler]]]:
        if name not in self._backbones:
            self._check(name)
            try:
                _check_reach(name)
                network = load_backbone(name, self._device, torch.float32)
            except Exception as error:  # likewise
                raise WorkbenchError(f"backbone {first_line(error).removeprefix('backbone ')}") from error
            self._backbones[name] = network, {}
            while len(self._backbones) > _KEPT:
                self._backbones.popitem(last=False)
        self._backbones.move_to_end(name)
        return self._backbones[name]

    def _check(self, name: str) -> None:
        if name == self._trusted:
            return
        if name.startswith("hub:"):
            raise WorkbenchError(
                f"backbone {name!r} runs code of a repository: only who starts the application may choose it "
                "(naf app --backbone)"
            )
        # A folder that is called like a repository would be read in its place.
        if ":" in name and (not _REPOSITORY.fullmatch(name) or Path(name.removeprefix("hf:")).is_dir()):
            raise WorkbenchError(
                f"backbone {name!r} is no name that can be asked for here: expected a timm name, hf:USER/MODEL, auto, "
                "embedded or hog"
            )


def _check_reach(name: str) -> None:
    """Refuse weights that cannot be had now, in 3 seconds: the hub's clients would try for most of a minute."""
    import timm

    if Path(name.removeprefix("hf:")).is_dir():
        return
    if _REPOSITORY.fullmatch(name):
        repository, _, revision = name.removeprefix("hf:").partition("@")
        is_there = is_within_reach(repository, files=("config.json",), revision=revision or "main")
    elif ":" not in name and timm.is_model(name) and getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None):
        is_there = is_available(name)
    else:
        return
    if not is_there:
        raise WorkbenchError(
            f"backbone {name!r}: its weights are not in the local cache and the hub does not answer; embedded and hog "
            "need none"
        )


def first_line(error: BaseException) -> str:
    """Of an error's message; its type where it has none."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0]


def licence_of(upsampler: Upsampler) -> str:
    """Of its weights, as their file or their publisher says; empty where neither does."""
    if upsampler.record is not None:
        return upsampler.record.about.get("licence", "")
    known = releases_of(upsampler.name) if upsampler.weights_source.startswith("official release") else []
    name = upsampler.weights_source.removeprefix("official release").strip() or upsampler.name
    return next((release.licence for release in known if release.name == name), "")
