"""Upsamplers and backbones that the evaluations of docs/training.md compare, by short names."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import naf
from experiments.pretrained import DeepLab, MobileNetV2, SqueezeNet
from naf import registry
from naf.backbones import Backbone
from naf.backbones.embedded import WEIGHTS as EMBEDDED
from naf.upsamplers.base import Upsampler
from naf.weights import embedded_path

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


def backbone_file(name: str, weights: Path) -> Path | None:
    """What a backbone is read from, None for one without weights."""
    return EMBEDDED if name == "embedded" else weights / _FILES[name] if name in _FILES else None


def digest(asked: Sequence[object], files: Sequence[Path | None]) -> str:
    """Short hash of settings and of what files hold: of the same name, but trained anew, they are others."""
    contents = [file and hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return hashlib.sha256(repr([*asked, *contents]).encode()).hexdigest()[:8]


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
            argparse.ArgumentTypeError: for an unknown upsampler.
        """
        parts = text.split("=", 2)
        label, name, source = parts if len(parts) == 3 else (text, parts[0], "auto" if len(parts) == 1 else parts[1])
        try:
            registry.entry(name)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return cls(label, name, source)

    @property
    def file(self) -> Path | None:
        """What the weights are read from, None where that is no file."""
        if self.source in ("auto", "embedded"):
            return embedded_path(self.name)
        return Path(self.source) if Path(self.source).is_file() else None

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


def print_table(labels: Iterable[str], backbones: Iterable[str], cells: Mapping[tuple[str, str], str]) -> None:
    """A Markdown table, a line an upsampler and a column a backbone; – where (label, backbone) has no cell."""
    names = list(backbones)
    print("| upsampler |", " | ".join(names), "|")
    print("| --- |" + " --- |" * len(names))
    for label in labels:
        print(f"| {label} | " + " | ".join(cells.get((label, name), "–") for name in names) + " |")
