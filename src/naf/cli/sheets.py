"""What the verbs that write sheets share: their options, and what a sheet says of methods and machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer

from naf.backbones.base import Backbone
from naf.benchmark.measure import Usage, machine
from naf.cli import inputs
from naf.registry import entry
from naf.upsamplers.base import Upsampler


class ThemeName(StrEnum):
    """Colours of a sheet."""

    light = "light"
    dark = "dark"


Theme = Annotated[ThemeName, typer.Option(help="Colours of the sheet.")]
Upsamplers = Annotated[str, typer.Option("--upsamplers", "-u", help="Names, separated by commas; see `naf models`.")]


def method_names(given: str) -> list[str]:
    """The names in a list with commas, each once.

    Raises:
        ValueError: for none, or one that is not registered.
    """
    names = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    if not names:
        raise ValueError(f"--upsamplers is {given!r}, expected names separated by commas")
    for name in names:
        entry(name)
    return names


def sheet_path(folder: Path, photo: Path, kind: str, *, overwrite: bool) -> Path:
    """Where the sheet of a photo goes, NAME_KIND.png; the folder is made if need be.

    Raises:
        ValueError: if it is there already and is not to be overwritten.
        OSError: if the folder cannot be written to.
    """
    path = inputs.output_folder(folder) / f"{photo.stem}_{kind}.png"
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists: --overwrite replaces it")
    return path


def method_title(name: str, method: Upsampler) -> str:
    """The method's name, and that it is untrained where it is."""
    return f"{name} (untrained)" if method.weights_source.startswith("untrained") else name


def grid_size(size: tuple[int, int]) -> str:
    """Rows x columns."""
    return f"{size[0]}×{size[1]}"


def cost(usage: Usage) -> list[str]:
    """Time and memory in words."""
    seconds = f"{usage.seconds:.1f} s" if usage.seconds >= 1 else f"{usage.seconds * 1e3:.0f} ms"
    return [seconds, f"+{usage.above_mib:.0f} MiB"]


def setting(backbone: Backbone, device: torch.device, dtype: torch.dtype, *notes: str) -> str:
    """Subtitle of a sheet: the backbone, the device and, on the CPU, its threads."""
    about = machine(device)
    name = str(about["device"]).replace("(R)", "").replace("(TM)", "")
    if device.type != "cuda":
        name += f", {about['threads']} {'thread' if about['threads'] == 1 else 'threads'}"
    half = "" if dtype is torch.float32 else f" in {str(dtype).removeprefix('torch.')}"
    return " · ".join([f"backbone {backbone.name}, {backbone.channels} channels{half}", name, *notes])
