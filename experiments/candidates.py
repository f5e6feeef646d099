"""Upsamplers and backbones that the evaluations of docs/training.md compare, by short names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import naf
from experiments.pretrained import DeepLab, MobileNetV2, SqueezeNet
from naf import registry
from naf.backbones import Backbone
from naf.upsamplers.base import Upsampler

_FILES = {
    "squeezenet": "squeezenet1_0_imagenet.safetensors",
    "mobilenet": "mobilenet_v2_imagenet.safetensors",
    "deeplab": "deeplab_mnetedgetpu_cityscapes.safetensors",
}

BACKBONES: dict[str, Callable[[Path], Backbone]] = {
    "squeezenet": lambda weights: SqueezeNet(weights / _FILES["squeezenet"], "fire9"),
    "mobilenet": lambda weights: MobileNetV2(weights / _FILES["mobilenet"], "b14.expand"),
    "deeplab": lambda weights: DeepLab(weights / _FILES["deeplab"], "b21"),
    "embedded": lambda _: naf.backbones.create("embedded"),
    "hog": lambda _: naf.backbones.create("hog"),
}
"""All of stride 16; made from the folder that holds the plain weight files."""


@dataclass(frozen=True)
class Candidate:
    """An upsampler as the command line names it: NAME, NAME=SOURCE or LABEL=NAME=SOURCE.

    SOURCE is what `naf.create` takes as weights; "none" is an untrained network.
    """

    label: str
    name: str
    source: str

    @classmethod
    def parse(cls, text: str) -> Candidate:
        """Read the command line's form.

        Raises:
            ValueError: for an unknown upsampler.
        """
        label, *rest = text.split("=", 2)
        name, source = {0: (label, "auto"), 1: (label, rest[-1] if rest else ""), 2: tuple(rest)}[len(rest)]
        registry.entry(name)
        return cls(label if len(rest) == 2 else text, name, source)

    def make(self, channels: int, stride: int) -> Upsampler | None:
        """The upsampler for features of some width; None where its weights are for another."""
        config = registry.entry(self.name).config_for(channels, stride)
        if self.source == "none":
            torch.manual_seed(0)
        try:
            return naf.create(self.name, None if self.source == "none" else self.source, **config)
        except (naf.WeightsError, ValueError) as error:
            if Path(self.source).is_file() and registry.entry(self.name).channels_argument:
                return None
            raise error
