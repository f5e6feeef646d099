"""Upsamplers and backbones as an evaluation's configuration names them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

import naf
from naf import registry
from naf.backbones import Backbone
from naf.configs.targets import make
from naf.data.digest import add_tensors
from naf.upsamplers.base import Upsampler


@dataclass(frozen=True)
class Candidate:
    """An upsampler that is compared.

    Attributes:
        label: its row in the table.
        name: in the registry.
        weights: what `naf.create` takes; "none" for an untrained network, always the same one. "{backbone}" in it
            stands for the backbone's label, for methods that are trained for each.
        options: further arguments of `naf.create`.
    """

    label: str
    name: str
    weights: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: str | Mapping[str, Any]) -> Candidate:
        """From NAME, NAME=WEIGHTS, LABEL=NAME=WEIGHTS, or a mapping with name, weights, label and options.

        Raises:
            ValueError: for an unknown upsampler or something else.
        """
        label, name, weights, given = read_method("upsampler", value, registry.list_upsamplers())
        about = registry.entry(name)
        if about.cls.fits_one_image:
            raise ValueError(f"upsampler {name!r} is fitted to each image anew, expected one that serves a data set")
        for key in given:
            if key not in about.options:
                raise ValueError(f"upsampler {label!r}: {name!r} has no argument {key!r}; it takes {about.options}")
        return cls(label, name, weights, given)

    def weights_for(self, backbone: str) -> str:
        """What `naf.create` takes for a backbone's label."""
        return self.weights.replace("{backbone}", backbone)

    def make(self, backbone: Backbone, label: str) -> Upsampler:
        """The upsampler for a backbone's features, frozen, on its device.

        Raises:
            ValueError: for arguments that the method does not take, or that its weights contradict.
            naf.WeightsError: if the weights are not to be had, or are for another backbone.
        """
        about = registry.entry(self.name)
        weights = self.weights_for(label)
        config = {**about.config_for(backbone.channels, backbone.stride), **self.options}
        if about.needs_backbone:
            config["backbone"] = backbone
        device = next(backbone.parameters(), torch.empty(0)).device
        with torch.random.fork_rng(devices=[]):
            if weights == "none":
                torch.default_generator.manual_seed(0)
            made = naf.create(self.name, None if weights == "none" else weights, **config)
        return made.requires_grad_(False).to(device)


class Method(NamedTuple):
    """A method as written: its row, its name, its weights, and further arguments."""

    label: str
    name: str
    weights: str
    options: dict[str, Any]


def read_method(key: str, value: Any, known: Sequence[str]) -> Method:
    """From NAME, NAME=WEIGHTS, LABEL=NAME=WEIGHTS, or a mapping with name, weights, label and options.

    Args:
        key: of the configuration, for messages.
        value: what it holds.
        known: names, for messages.

    Raises:
        ValueError: for something else.
    """
    if isinstance(value, Mapping):
        given = {str(key): part for key, part in value.items()}
        if not isinstance(given.get("name"), str):
            raise ValueError(f"{key} {given} has no name, expected one of {', '.join(known)}")
        name, weights = given.pop("name"), given.pop("weights", "auto")
        weights = "none" if weights is None else str(weights)
        return Method(str(given.pop("label", name if weights == "auto" else f"{name}={weights}")), name, weights, given)
    if isinstance(value, str):
        parts = value.split("=", 2)
        name = parts[-2] if len(parts) > 1 else value
        return Method(parts[0] if len(parts) == 3 else value, name, parts[-1] if len(parts) > 1 else "auto", {})
    raise ValueError(f"{key} is {value!r}, expected NAME, NAME=WEIGHTS, LABEL=NAME=WEIGHTS or a mapping")


def parse_all(values: Any) -> list[Candidate]:
    """Candidates from one value or a list; labels are unique.

    Raises:
        ValueError: as :meth:`Candidate.parse`, for no value and for one label twice.
    """
    candidates = [Candidate.parse(value) for value in (values if isinstance(values, list | tuple) else [values])]
    check_labels("upsampler", [candidate.label for candidate in candidates])
    return candidates


def check_labels(key: str, labels: Sequence[str]) -> None:
    """Refuse no method at all, and two of one label.

    Raises:
        ValueError: in these cases.
    """
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"{key} is {list(labels)}, expected one or more, each of a label of its own")


def checkpoint_of(network: nn.Module) -> str:
    """sha256 of the names and values of a network's weights, empty if it has none."""
    state = network.state_dict()
    if not state:
        return ""
    digest = hashlib.sha256()
    add_tensors(digest, state.items())
    return digest.hexdigest()


def make_backbones(value: Any, device: torch.device) -> dict[str, Backbone]:
    """Backbones by label.

    Args:
        value: a name for `naf.backbones.create`, a mapping with `_target_` and arguments or with `name` and options of
            `naf.backbones.create`, a list of these, or a mapping from labels to these.
        device: where to.

    Raises:
        ValueError: if one cannot be made, or two have one label.
    """
    if isinstance(value, Mapping) and "_target_" not in value and "name" not in value:
        named = {str(key): part for key, part in value.items() if part is not None}
    else:
        parts = list(value) if isinstance(value, list | tuple) else [value]
        named = {}
        for part in parts:
            label = _label(part)
            if label in named:
                raise ValueError(
                    f"backbone {label!r} is there twice, expected labels of their own: backbone={{LABEL: …}}"
                )
            named[label] = part
    if not named:
        raise ValueError("backbone is empty, expected one or more")
    return {label: _backbone(label, part).to(device) for label, part in named.items()}


def _label(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("label") or value.get("name") or str(value.get("_target_", "")).rpartition(".")[2])
    return str(value)


def _backbone(label: str, value: Any) -> Backbone:
    if isinstance(value, str):
        return naf.backbones.create(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"backbone {label!r} is {value!r}, expected a name or a mapping")
    given = {key: part for key, part in value.items() if key != "label"}
    if "_target_" not in given:
        try:
            return naf.backbones.create(given.pop("name", label), **given)
        except TypeError as error:
            raise ValueError(f"backbone {label!r}: {error}") from error
    made = make(f"backbone {label!r}", given)
    if not isinstance(made, Backbone):
        raise ValueError(f"backbone {label!r} is a {type(made).__name__}, expected a naf.backbones.Backbone")
    return made
