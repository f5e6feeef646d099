"""The authors' own modules, imported from checkouts on disk so that they can be measured beside ours.

Importing someone's module runs its code. Several repositories call their package `src`, so the modules of a checkout
are in `sys.modules` only while it is active.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Setting:
    """Sizes of a measurement: features (1, channels, grid, grid), output side x side.

    Attributes:
        channels: of the features.
        side: of the output, pixels.
        grid: rows and columns of the features.
        image_side: of the image, pixels.
    """

    channels: int = 384
    side: int = 448
    grid: int = 28
    image_side: int = 448

    @property
    def size(self) -> tuple[int, int]:
        """Output size (Ho, Wo)."""
        return self.side, self.side

    @property
    def ratio(self) -> int:
        """Output pixels a coarse cell, rounded down."""
        return max(1, self.side // self.grid)

    @property
    def stride(self) -> int:
        """Image pixels a coarse cell, rounded down."""
        return max(1, self.image_side // self.grid)


Find = Callable[[str], Any]
Build = Callable[[Find, Setting], nn.Module]
Call = Callable[[Any, Tensor, Tensor, tuple[int, int]], Tensor]


def _call(module: Any, image: Tensor, features: Tensor, output_size: tuple[int, int]) -> Tensor:
    out: Tensor = module(image, features, output_size)
    return out


@dataclass(frozen=True)
class OfficialModule:
    """How one upsampler of a repository is reached.

    Attributes:
        method: our name of it.
        build: makes it, from what finds "package.module:Name" in the repository and the setting.
        call: (module, image, features, output size) → output.
        needs: what beside PyTorch it cannot do without, in words.
    """

    method: str
    build: Build
    call: Call = _call
    needs: str = ""


@dataclass(frozen=True)
class Layout:
    """A repository that is known.

    Attributes:
        name: owner/name on GitHub.
        marker: a file that tells it from the others.
        modules: its upsamplers that we have too.
    """

    name: str
    marker: str
    modules: tuple[OfficialModule, ...]


def _class(reference: str, **arguments: str | bool) -> Build:
    """Makes a class; an argument given as a string is the setting's value of that name."""

    def build(find: Find, setting: Setting) -> nn.Module:
        config = {key: getattr(setting, value) if isinstance(value, str) else value for key, value in arguments.items()}
        module: nn.Module = find(reference)(**config)
        return module

    return build


def _featup_stack(find: Find, setting: Setting) -> nn.Module:
    """The upsampling half of the hub's UpsampledBackbone, whose names the published weights have."""
    whole = nn.Module()
    whole.model = nn.Sequential(nn.Identity(), find("featup.layers:ChannelNorm")(setting.channels))
    whole.upsampler = find("featup.upsamplers:JBUStack")(setting.channels)
    return whole


def _loftup(find: Find, setting: Setting) -> nn.Module:
    inner = find("upsamplers.upsamplers:LoftUp")(setting.channels, lr_pe_type="sine", lr_size=16)
    norm = find("upsamplers.layers:ChannelNorm")(setting.channels)
    whole: nn.Module = find("upsamplers.upsamplers:UpsamplerwithChannelNorm")(inner, norm)
    return whole


def _lift_passes(module: Any, image: Tensor, features: Tensor, output_size: tuple[int, int]) -> Tensor:
    """One pass doubles the grid and needs an image of patch_size times that grid."""
    out: Tensor = module(image, features)
    while out.shape[2] < output_size[0]:
        image = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
        out = module(image, out)
    return out


_ADAPTIVE_CONVOLUTION = "FeatUp's compiled adaptive convolution"

# NAF's copy of AnyUp is not here: its constructor downloads the authors' repository.
LAYOUTS = (
    Layout(
        "valeoai/NAF",
        "src/model/naf.py",
        (
            OfficialModule("naf", _class("src.model.naf:NAF"), needs="NATTEN"),
            OfficialModule("jafar", _class("src.model.jafar:JAFAR", v_dim="channels")),
            OfficialModule(
                "featup",
                _class("src.model.featup:FeatUp", feature_dim="channels", ratio="ratio"),
                needs=_ADAPTIVE_CONVOLUTION,
            ),
            OfficialModule("jbu", _class("src.model.jbu:JBU"), needs=_ADAPTIVE_CONVOLUTION),
            OfficialModule("jbf", _class("src.model.jbf:JBF"), needs="kornia"),
            OfficialModule("bilinear", _class("src.model.bilinear:Bilinear")),
            OfficialModule("nearest", _class("src.model.nearest:Nearest")),
        ),
    ),
    Layout(
        "PaulCouairon/JAFAR",
        "src/upsampler/jafar.py",
        (OfficialModule("jafar", _class("src.upsampler.jafar:JAFAR", v_dim="channels")),),
    ),
    Layout("wimmerth/anyup", "anyup/model.py", (OfficialModule("anyup", _class("anyup.model:AnyUp")),)),
    Layout(
        "mhamilton723/FeatUp",
        "featup/upsamplers.py",
        (
            OfficialModule(
                "featup",
                _featup_stack,
                lambda module, image, features, _: module.upsampler(module.model(features), image),
                _ADAPTIVE_CONVOLUTION,
            ),
        ),
    ),
    Layout(
        "andrehuang/loftup",
        "upsamplers/upsamplers.py",
        (OfficialModule("loftup", _loftup, lambda module, image, features, _: module(features, image)),),
    ),
    Layout(
        "saksham-s/lift",
        "lift.py",
        (
            OfficialModule(
                "lift",
                _class("lift:LiFT", in_channels="channels", patch_size="stride", pre_shape=False, post_shape=False),
                _lift_passes,
            ),
        ),
    ),
)


def named_module(method: str, reference: str, config: Mapping[str, Any]) -> OfficialModule:
    """A module of a repository that is not known, called (image, features, output_size).

    Args:
        method: our name of it.
        reference: "package.module:Class".
        config: our constructor arguments; those that the class knows by the same name are passed on.
    """

    def build(find: Find, setting: Setting) -> nn.Module:
        del setting
        cls = find(reference)
        known = inspect.signature(cls).parameters
        module: nn.Module = cls(**{key: value for key, value in config.items() if key in known})
        return module

    return OfficialModule(method, build)


class Checkout:
    """A repository on disk.

    Attributes:
        path: its folder.
        layout: which repository it is, None where it is not known.
        name: of the repository, or else of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.layout = next((layout for layout in LAYOUTS if (self.path / layout.marker).is_file()), None)
        self.name = self.path.name if self.layout is None else self.layout.name
        names = {item.stem for item in self.path.iterdir() if item.is_dir() or item.suffix == ".py"}
        self._names = {name for name in names if not name.startswith("__")}
        self._modules: dict[str, ModuleType] = {}

    def holds(self, reference: str) -> bool:
        """Whether "package.module:Class" can be in it."""
        file = self.path.joinpath(*reference.partition(":")[0].split("."))
        return file.is_dir() or file.with_name(f"{file.name}.py").is_file()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within the block its modules can be imported, in the place of any others of the same names."""
        path, others = sys.path[:], {name: module for name, module in sys.modules.items() if self._is_own(name, module)}
        for name in others:
            del sys.modules[name]
        sys.modules.update(self._modules)
        sys.path.insert(0, str(self.path))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            self._modules = {name: module for name, module in sys.modules.items() if self._is_own(name, module)}
            for name in self._modules:
                del sys.modules[name]
            sys.modules.update(others)
            sys.path[:] = path

    def build(self, official: OfficialModule, setting: Setting, device: torch.device) -> nn.Module:
        """The authors' module in evaluation mode; whatever their code raises comes through."""
        with self.active(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            module = official.build(self._find, setting).to(device).eval()
        self._replace_default_devices(device)
        return module

    @staticmethod
    def _find(reference: str) -> Any:
        module, _, name = reference.partition(":")
        return getattr(importlib.import_module(module), name)

    def _is_own(self, name: str, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)  # None for packages without __init__.py
        return name.partition(".")[0] in self._names or str(file).startswith(f"{self.path}{os.sep}")

    def _replace_default_devices(self, device: torch.device) -> None:
        """Functions that work on "cuda" unless told otherwise (JAFAR's coordinates) get the device in its place."""
        for module in self._modules.values():
            for value in vars(module).values():
                if isinstance(value, FunctionType) and value.__module__ in self._modules and value.__defaults__:
                    value.__defaults__ = tuple(
                        str(device) if isinstance(default, str) and default == "cuda" else default
                        for default in value.__defaults__
                    )


def copy_weights(ours: nn.Module, official: nn.Module, adapt: Callable[[Any], Mapping[str, Tensor]]) -> bool:
    """Fill the official module with our weights, if the names and shapes of the state dicts agree.

    Args:
        ours: our module.
        official: the authors' module; filled in place.
        adapt: gives their state dict our names (`Upsampler.adapt_state`).

    Returns:
        Whether they agree; if not, the official module is left as it is.
    """
    own, theirs = ours.state_dict(), adapt(official.state_dict())
    if {key: value.shape for key, value in own.items()} != {key: value.shape for key, value in theirs.items()}:
        return False
    for key, value in theirs.items():
        value.copy_(own[key])  # the state dict shares its memory with the module
    return True
