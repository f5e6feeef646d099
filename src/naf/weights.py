"""Where weights come from: official releases (hash-checked), files, state dicts. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import http.client
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from naf.upsamplers.base import Upsampler

log = logging.getLogger("naf")


class WeightsError(RuntimeError):
    """Weights that cannot be had, are not what they should be, or do not fit."""


@dataclass(frozen=True)
class WeightFile:
    """A published weight file.

    Attributes:
        upsampler: registered name of the method.
        url: https address.
        size: bytes.
        sha256: of the whole file.
        licence: as its publisher states it.
        paper: what to cite.
        trained_on: data and backbone.
        normalization: of the image it expects.
    """

    upsampler: str
    url: str
    size: int
    sha256: str
    licence: str
    paper: str
    trained_on: str
    normalization: str

    @property
    def path(self) -> Path:
        """Where the file lies once downloaded: the torch hub cache."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[-1]


OFFICIAL: dict[str, WeightFile] = {
    "naf": WeightFile(
        upsampler="naf",
        url="https://github.com/valeoai/NAF/releases/download/model/naf_release.pth",
        size=2_664_431,
        sha256="c096c1ab2217a5c3ac136365f721685e2201379cb69d509cfb0261183847c98f",
        licence="Apache-2.0",
        paper="arXiv 2511.18452",
        trained_on="ImageNet, DINOv3 ViT-B/16",
        normalization="ImageNet mean and standard deviation",
    ),
}


def load(upsampler: Upsampler, name: str, weights: str | Path | Mapping[str, Tensor] | None) -> str:
    """Fill an upsampler as `naf.create` asks; returns in words what was loaded.

    Raises:
        WeightsError: as :func:`load_checkpoint` and :func:`fetch`.
    """
    if weights is None:
        return "untrained"
    if weights == "auto":
        return _load_auto(upsampler, name)
    if weights == "embedded":
        path = embedded_path(name)
        if path is None:
            raise WeightsError(f"the package carries no weights for {name!r}: pass weights=None or a checkpoint")
        load_checkpoint(upsampler, path)
        return "embedded"
    if weights == "official":
        if name not in OFFICIAL:
            raise WeightsError(
                f"{name!r} has no official weights (only {', '.join(OFFICIAL)}). Pass weights=None for a fresh "
                "network or the path of a checkpoint"
            )
        load_checkpoint(upsampler, fetch(OFFICIAL[name]))
        return "official release"
    load_checkpoint(upsampler, weights)
    return "state dict" if isinstance(weights, Mapping) else str(weights)


def load_checkpoint(upsampler: nn.Module, source: str | Path | Mapping[str, Tensor]) -> None:
    """Load a checkpoint strictly, in place.

    Args:
        upsampler: what to fill.
        source: a state dict, or the path of one: .safetensors, or a file of torch.save that holds tensors only
            (also under "state_dict", "model_state_dict" or "model").

    Raises:
        WeightsError: if the file is missing, damaged or holds more than tensors, or if keys are missing,
            unexpected or of another shape; lists all of them, and the upsampler stays as it was.
    """
    if not isinstance(source, Mapping | str | Path):
        raise WeightsError(f"weights are a {type(source).__name__}, expected a path, a state dict or a known word")
    state = source if isinstance(source, Mapping) else read_state(source)
    what = "state dict" if isinstance(source, Mapping) else f"checkpoint {source}"
    foreign = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if foreign:
        raise WeightsError(f"{what} holds values that are no tensors: {', '.join(map(str, foreign))}")
    faults = _misfits(upsampler, state)
    if faults:
        raise WeightsError(f"{what} does not fit {type(upsampler).__name__}:\n  " + "\n  ".join(faults))
    upsampler.load_state_dict(state, strict=True)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, on the CPU.

    Raises:
        WeightsError: if it is missing, damaged or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"checkpoint {path}: no such file (words that stand for weights: auto, embedded, official)")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"checkpoint {path} is no readable safetensors file: {error}") from error
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"checkpoint {path} is refused: it is damaged or holds objects other than tensors, and unpickling those "
            "could run code. Save it as safetensors or as a plain state dict"
        ) from error
    except Exception as error:  # a damaged file can fail in any way
        raise WeightsError(f"checkpoint {path} cannot be read: {error}") from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"checkpoint {path} holds a {type(state).__name__}, expected a state dict of tensors")
    return dict(state)


def fetch(file: WeightFile) -> Path:
    """The file in the torch hub cache, downloaded if it is not there; its hash is checked every time.

    Raises:
        WeightsError: if it cannot be downloaded, or differs from what was published.
    """
    path = file.path
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Written to a temporary name and moved only when the hash is right.
            torch.hub.download_url_to_file(file.url, str(path), hash_prefix=file.sha256)
        except (OSError, http.client.HTTPException) as error:
            raise WeightsError(
                f"official weights of {file.upsampler!r} cannot be downloaded from {file.url}: {error}. "
                f"Put the file at {path}, or pass weights=None or the path of a checkpoint"
            ) from error
        except RuntimeError as error:
            raise WeightsError(f"{file.url} is refused, it is not the file that was published: {error}") from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != file.sha256:
        raise WeightsError(
            f"{path} is refused: its sha256 is {digest}, the official release of {file.upsampler!r} has {file.sha256}. "
            "Delete the file to download it again"
        )
    return path


def embedded_path(name: str) -> Path | None:
    """The weights that the package carries for an upsampler, or None."""
    path = Path(__file__).parent / "assets" / f"{name}.safetensors"
    return path if path.is_file() else None


def _load_auto(upsampler: Upsampler, name: str) -> str:
    path = embedded_path(name)
    if path is not None:
        state = read_state(path)
        if not _misfits(upsampler, state):
            load_checkpoint(upsampler, state)
            return "embedded"
    hint = ' (weights="official" downloads the release)' if name in OFFICIAL else ""
    log.warning("%s is untrained: the package carries no weights for this configuration%s", name, hint)
    return "untrained (seed 0)"


def _misfits(upsampler: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    own = upsampler.state_dict()
    faults = [f"missing: {key} {tuple(own[key].shape)}" for key in own if key not in state]
    faults += [f"unexpected: {key} {tuple(state[key].shape)}" for key in state if key not in own]
    for key in own:
        if key in state and state[key].shape != own[key].shape:
            faults.append(f"wrong shape: {key} is {tuple(state[key].shape)}, expected {tuple(own[key].shape)}")
        elif (
            key in state
            and key in getattr(upsampler, "computed_buffers", ())
            and not torch.allclose(state[key].to(own[key]), own[key], rtol=1e-2)  # a half-precision file rounds it
        ):
            faults.append(f"wrong values: {key} belongs to another configuration (NAF: another rope_base)")
    return faults
