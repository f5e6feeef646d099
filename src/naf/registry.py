"""Upsamplers by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from naf import weights as weight_files

if TYPE_CHECKING:
    from naf.upsamplers.base import Upsampler

UpsamplerClass = TypeVar("UpsamplerClass", bound="type[Upsampler]")


@dataclass(frozen=True)
class Entry:
    """A registered upsampler.

    Attributes:
        name: what `naf.create` takes.
        cls: its class; constructor arguments are its configuration.
        summary: one line for lists.
        paper: where the method comes from.
        config: constructor arguments that the name stands for.
        is_vfm_agnostic: whether one set of weights serves every backbone.
        ratios: what the method makes by itself, empty for any; other sizes are then resized bilinearly.
        needs_backbone: whether the constructor must be given a backbone.
        learns: whether there is something to be trained beyond that backbone.
        channels_argument: the constructor's name for the channels of the features, empty where it takes any.
    """

    name: str
    cls: type[Upsampler]
    summary: str
    paper: str
    config: Mapping[str, Any] = field(default_factory=dict)
    is_vfm_agnostic: bool = True
    ratios: tuple[int, ...] = ()
    needs_backbone: bool = False
    learns: bool = True
    channels_argument: str = ""

    @property
    def options(self) -> list[str]:
        """Names of the constructor's arguments."""
        return sorted(inspect.signature(self.cls.__init__).parameters.keys() - {"self", "args", "kwargs"})

    @property
    def parameters(self) -> int:
        """Number of learned values; 0 where it depends on the backbone that is to be given."""
        if self.needs_backbone:
            return 0
        with torch.device("meta"):
            return sum(p.numel() for p in self.cls(**self.config).parameters())

    def config_for(self, channels: int, stride: int) -> dict[str, Any]:
        """Constructor arguments for features of some width and stride (pixels of the image a cell)."""
        config: dict[str, Any] = {self.channels_argument: channels} if self.channels_argument else {}
        return {**config, "patch_size": stride} if "patch_size" in self.options else config

    def full_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Constructor arguments with the defaults of those that are not given; without a backbone."""
        parameters = inspect.signature(self.cls.__init__).parameters
        defaults = {key: parameters[key].default for key in self.options}
        return {key: value for key, value in {**defaults, **config}.items() if key != "backbone"}

    @property
    def needs_weights(self) -> bool:
        """Whether there is something to be trained or fitted."""
        return self.learns and (self.needs_backbone or self.parameters > 0)


_ENTRIES: dict[str, Entry] = {}


def register(name: str, *, summary: str, paper: str, **about: Any) -> Callable[[UpsamplerClass], UpsamplerClass]:
    """Class decorator that registers an upsampler; keywords are the fields of :class:`Entry`."""

    def add(cls: UpsamplerClass) -> UpsamplerClass:
        if name in _ENTRIES:
            raise ValueError(f"upsampler {name!r} is registered already, by {_ENTRIES[name].cls.__qualname__}")
        _ENTRIES[name] = Entry(name, cls, summary, paper, **about)
        return cls

    return add


def list_upsamplers() -> list[str]:
    """Names that `naf.create` takes, in alphabetical order."""
    return sorted(_ENTRIES)


def entry(name: str) -> Entry:
    """The registry's record of an upsampler.

    Raises:
        ValueError: for an unknown name; lists the known ones.
    """
    try:
        return _ENTRIES[name]
    except KeyError:
        raise ValueError(f"upsampler {name!r} is unknown{suggest(name, _ENTRIES)}") from None


def create(name: str, weights: str | Path | Mapping[str, Tensor] | None = "auto", **config: Any) -> Upsampler:
    """An upsampler by name, in evaluation mode.

    Args:
        name: one of `naf.list_upsamplers()`.
        weights: where the parameters come from:

            - "auto": "embedded" if the package carries weights that fit the configuration, otherwise an untrained
              network, always the same one, with a warning. Never downloads.
            - "embedded": the weights that the package carries.
            - "official": the authors' release, downloaded once into the torch hub cache, checked by sha256; and
              "official:RELEASE" where a method has several (`naf models --releases` lists them). A release brings
              the configuration that it needs.
            - a path (.safetensors, .pth, .pt), a folder of `Upsampler.save_pretrained` or a state dict: loaded
              strictly, never unpickled.
            - "hf:USER/REPOSITORY", or "hf:USER/REPOSITORY@REVISION" to pin a commit or tag: a repository of the
              Hugging Face Hub, downloaded once (:mod:`naf.hub`).
            - None: freshly initialised from PyTorch's global generator.
        config: arguments of the method's constructor. Those not given are taken from the file of the weights, if it
            names them (`naf export` and the Hub write them); ones that contradict it are refused, but for the
            method's `calling_options`.

    Returns:
        The upsampler; its `weights_source` says in words what was loaded.

    Raises:
        ValueError: for an unknown name, or an argument out of range or other than the weights need.
        TypeError: for an unknown argument; lists the known ones.
        WeightsError: if the weights are not to be had or do not fit.
    """
    known = entry(name)
    check_arguments(name, config, known.options)
    source = weight_files.find(name, weights)
    needed = _needed(known, source)
    # A file of the same name was trained with a configuration of its own, a plain one of that name or not.
    stated = config if source.record is None or source.record.upsampler == name else {**known.config, **config}
    clash = [
        key
        for key, value in needed.items()
        if key in stated and stated[key] != value and key not in known.cls.calling_options
    ]
    if clash and source.is_optional:
        source, needed = replace(source, content=None), {}
    elif clash:
        faults = ", ".join(f"{key} is {stated[key]!r}, but {source.label} needs {needed[key]!r}" for key in clash)
        raise ValueError(faults)
    config = {**known.config, **needed, **config}
    with seeded(enabled=weights is not None):
        upsampler = known.cls(**config).eval()
    upsampler.name, upsampler.config = name, known.full_config(config)
    if next(upsampler.parameters(), None) is not None or not (weights is None or weights == "auto"):
        weight_files.load(upsampler, source)
    return upsampler


def _needed(known: Entry, source: weight_files.Source) -> Mapping[str, Any]:
    """Constructor arguments that the weights need.

    Raises:
        WeightsError: if they are weights of another method, or of a later version of this one.
    """
    record = source.record
    if record is None or not record.upsampler:  # another program's file may name more than ours
        return {key: value for key, value in source.config.items() if key in known.options}
    other = _ENTRIES.get(record.upsampler)
    if other is None or other.cls is not known.cls:
        raise weight_files.WeightsError(f"{source.label} holds weights of {record.upsampler!r}, not of {known.name!r}")
    check_known(known.name, source, known.options)
    # An older file does not name arguments that came later: it was made with what they are by default.
    config = other.full_config({**other.config, **record.config})
    return {key: value for key, value in config.items() if value is not inspect.Parameter.empty}


# What the registry of restorers needs as well.


def suggest(name: str, known: Mapping[str, object]) -> str:
    """The end of an error about an unknown name: the closest known one, and all of them."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return (f", did you mean {close[0]!r}? " if close else ". ") + f"Known: {', '.join(sorted(known))}"


def check_arguments(name: str, config: Mapping[str, Any], options: Sequence[str]) -> None:
    """Refuse constructor arguments that a method does not have.

    Raises:
        TypeError: then; lists the known ones.
    """
    for key in config:
        if key not in options:
            raise TypeError(f"{name!r} has no argument {key!r}; it takes {', '.join(options) or 'none'}")


def check_known(name: str, source: weight_files.Source, options: Sequence[str]) -> None:
    """Refuse a file that was made with constructor arguments that a method does not have.

    Raises:
        WeightsError: then.
    """
    unknown = sorted((source.record.config if source.record else {}).keys() - set(options))
    if unknown:
        raise weight_files.WeightsError(
            f"{source.label} was made with arguments that {name!r} does not have here: {', '.join(unknown)}. "
            "A newer version of the package may have them"
        )


@contextmanager
def seeded(*, enabled: bool) -> Iterator[None]:
    """Parameters that are drawn meanwhile are always the same; the global generator goes on as if none had been."""
    with torch.random.fork_rng(devices=[], enabled=enabled):
        if enabled:
            torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed the GPUs too
        yield
