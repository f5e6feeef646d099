"""Restorers by name, and the weights that fill them. Files are found, read and described as those of upsamplers."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from naf import weights as weight_files
from naf.registry import check_arguments, check_known, seeded, suggest
from naf.releases import Release
from naf.restoration.base import Restorer
from naf.restoration.noise import NOISES
from naf.weight_record import WeightRecord

log = logging.getLogger("naf")

RestorerClass = TypeVar("RestorerClass", bound="type[Restorer]")


@dataclass(frozen=True)
class Entry:
    """A registered restorer.

    Attributes:
        name: what :func:`create` takes.
        cls: its class; constructor arguments are its configuration.
        summary: one line for lists.
        paper: where the method comes from.
    """

    name: str
    cls: type[Restorer]
    summary: str
    paper: str

    @property
    def record_name(self) -> str:
        """What weight files call it: an upsampler may have the same name."""
        return f"denoise-{self.name}"

    @property
    def options(self) -> list[str]:
        """Names of the constructor's arguments."""
        return sorted(inspect.signature(self.cls.__init__).parameters.keys() - {"self"})

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        with torch.device("meta"):
            return sum(p.numel() for p in self.cls().parameters())

    def full_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Constructor arguments with the defaults of those that are not given, as JSON has them."""
        parameters = inspect.signature(self.cls.__init__).parameters
        defaults = {key: parameters[key].default for key in self.options}
        return {key: _plain(value) for key, value in {**defaults, **config}.items()}


_ENTRIES: dict[str, Entry] = {}


def register(name: str, *, summary: str, paper: str) -> Callable[[RestorerClass], RestorerClass]:
    """Class decorator that registers a restorer."""

    def add(cls: RestorerClass) -> RestorerClass:
        if name in _ENTRIES:
            raise ValueError(f"restorer {name!r} is registered already, by {_ENTRIES[name].cls.__qualname__}")
        _ENTRIES[name] = Entry(name, cls, summary, paper)
        return cls

    return add


def list_restorers() -> list[str]:
    """Names that :func:`create` takes, in alphabetical order."""
    return sorted(_ENTRIES)


def entry(name: str) -> Entry:
    """The registry's record of a restorer.

    Raises:
        ValueError: for an unknown name; lists the known ones.
    """
    try:
        return _ENTRIES[name]
    except KeyError:
        raise ValueError(f"restorer {name!r} is unknown{suggest(name, _ENTRIES)}") from None


def create(name: str, weights: str | Path | Mapping[str, Tensor] | None = "auto", **config: Any) -> Restorer:
    """A restorer by name, in evaluation mode.

    Args:
        name: one of :func:`list_restorers`.
        weights: where the parameters come from, much as for `naf.create`:

            - "auto": "embedded" if the package carries weights that fit the configuration, otherwise an untrained
              network, always the same one, with a warning.
            - "embedded:NOISE": the weights that the package carries for a kind of noise, "gaussian" or
              "salt-and-pepper"; "embedded" is the first.
            - a path (.safetensors, .pth, .pt), a folder of the Hugging Face Hub's layout or a state dict: loaded
              strictly, never unpickled.
            - "hf:USER/REPOSITORY", or "hf:USER/REPOSITORY@REVISION".
            - None: freshly initialised from PyTorch's global generator.
        config: arguments of the method's constructor. Those not given are taken from the file of the weights, if it
            names them; ones that contradict it are refused, but for the method's `calling_options`.

    Returns:
        The restorer; its `weights_source` says in words what was loaded.

    Raises:
        ValueError: for an unknown name, or an argument out of range or other than the weights need.
        TypeError: for an unknown argument; lists the known ones.
        naf.WeightsError: if the weights are not to be had or do not fit.

    Example:
        >>> import torch, naf.restoration
        >>> restorer = naf.restoration.create("ircnn", weights=None)
        >>> restorer(torch.rand(1, 3, 31, 45)).shape
        torch.Size([1, 3, 31, 45])
    """
    known = entry(name)
    check_arguments(name, config, known.options)
    source = _find(known, weights)
    needed = _needed(known, source)
    clash = [
        key
        for key, value in needed.items()
        if key in config and _plain(config[key]) != value and key not in known.cls.calling_options
    ]
    if clash and source.is_optional:
        source, needed = replace(source, content=None, record=None), {}
    elif clash:
        faults = ", ".join(f"{key} is {config[key]!r}, but {source.label} needs {needed[key]!r}" for key in clash)
        raise ValueError(faults)
    config = {**needed, **config}
    with seeded(enabled=weights is not None):
        restorer = known.cls(**config).eval()
    restorer.name, restorer.config = name, known.full_config(config)
    _fill(restorer, source)
    return restorer


def record_of(restorer: Restorer) -> WeightRecord:
    """What a file of a restorer's weights says, for :func:`naf.weight_writer.write_weights`.

    The dtype of the file that they came from is left out: it is not that of the restorer.

    Raises:
        ValueError: if :func:`create` did not make the restorer, so that its configuration is not known.
    """
    if restorer.config is None:
        raise ValueError(
            f"this {type(restorer).__name__} does not know its configuration: make it with naf.restoration.create and "
            "load its state dict there"
        )
    old = {} if restorer.record is None else restorer.record.about
    about = {key: value for key, value in old.items() if key != "dtype"}
    return WeightRecord(entry(restorer.name).record_name, restorer.config, about)


def _find(known: Entry, weights: object) -> weight_files.Source:
    """What `weights` stands for; the package's own are one file for each kind of noise, denoise-NAME-NOISE."""
    kind, word = next(iter(NOISES)), weights
    if isinstance(weights, str) and weights.startswith("embedded:"):
        word, _, kind = weights.partition(":")
        kind = kind.replace("_", "-")  # as configurations write it
        if kind not in NOISES:
            expected = " or ".join(f"embedded:{each}" for each in NOISES)
            raise weight_files.WeightsError(f"weights is {weights!r}, expected {expected}")
    source = weight_files.find(f"{known.record_name}-{kind}", word)
    return replace(source, words=f"embedded:{kind}") if word in ("auto", "embedded") else source


def _needed(known: Entry, source: weight_files.Source) -> Mapping[str, Any]:
    """Constructor arguments that the weights need.

    Raises:
        WeightsError: if they are weights of another method, or of a later version of this one.
    """
    record = source.record
    if record is None or not record.upsampler:  # another program's file may name more than ours
        return {key: value for key, value in source.config.items() if key in known.options}
    if record.upsampler != known.record_name:
        raise weight_files.WeightsError(
            f"{source.label} holds weights of {record.upsampler!r}, not of {known.record_name!r}"
        )
    check_known(known.name, source, known.options)
    return known.full_config(record.config)  # an older file does not name arguments that came later


def _fill(restorer: Restorer, source: weight_files.Source) -> None:
    """Load the weights, and note what they were."""
    content = source.content
    if content is None and source.is_optional:
        restorer.weights_source = "untrained (seed 0)"
        log.warning("restorer %s is untrained: the package carries no weights for this configuration", restorer.name)
        return
    assert not isinstance(content, Release)  # there are none for restorers
    if content is not None:
        weight_files.load_checkpoint(restorer, content)
    restorer.weights_source, restorer.record = source.words, source.record


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value
