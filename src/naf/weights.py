"""Where weights come from: official releases (hash-checked), files, state dicts. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import http.client
import logging
import pickle
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from naf.hub_files import PREFIX, DownloadError
from naf.hub_files import fetch as fetch_repository
from naf.releases import Release, channels_of_releases, find_release, releases_of
from naf.weight_record import WEIGHTS_FILE, RecordError, WeightRecord, read_folder_record, read_record

if TYPE_CHECKING:
    from naf.upsamplers.base import Upsampler

log = logging.getLogger("naf")


class WeightsError(RuntimeError):
    """Weights that cannot be had, are not what they should be, or do not fit."""


def resolve(name: str, weights: object) -> Release | None:
    """The release that `weights` asks for, or None where it asks for something else.

    Args:
        name: registered name of the method.
        weights: "official" for the method's one release, or its first where releases serve every backbone;
            "official:RELEASE" for one of several.

    Raises:
        WeightsError: if there is no such release; lists those there are.
    """
    if not isinstance(weights, str) or weights.partition(":")[0] != "official":
        return None
    known = releases_of(name)
    if not known:
        methods = ", ".join(dict.fromkeys(release.upsampler for release in releases_of()))
        raise WeightsError(
            f"{name!r} has no official weights (only {methods}). Pass weights=None for a fresh network or the path "
            "of a checkpoint"
        )
    listed = ", ".join(f"official:{release.name}" for release in known)
    wanted = weights.partition(":")[2]
    if weights == "official":
        if len(known) > 1 and known[0].channels is not None:
            raise WeightsError(f"{name!r} has one release for each backbone, choose one: {listed}")
        return known[0]
    release = find_release(name, wanted)
    if release is None:
        raise WeightsError(f"{name!r} has no release {wanted!r}, only {listed}")
    return release


@dataclass(frozen=True)
class Source:
    """What `weights` of `naf.create` stands for.

    Attributes:
        words: what `Upsampler.weights_source` will say.
        content: a file, a state dict or a release that is yet to be fetched; None leaves the network untrained.
        record: what the file says of itself, None where it says nothing.
        is_optional: whether a network that it does not fit stays untrained, with a warning.
    """

    words: str
    content: Path | Mapping[str, Tensor] | Release | None = None
    record: WeightRecord | None = None
    is_optional: bool = False

    @property
    def config(self) -> Mapping[str, Any]:
        """Constructor arguments that the weights need."""
        if isinstance(self.content, Release):
            return self.content.config
        return {} if self.record is None else self.record.config

    @property
    def label(self) -> str:
        """For messages."""
        return f"the release {self.content.name!r}" if isinstance(self.content, Release) else f"checkpoint {self.words}"


def find(name: str, weights: object) -> Source:
    """What `weights` stands for, see `naf.create`; only "hf:…" is downloaded here, since it tells its configuration.

    Raises:
        WeightsError: if there are no such weights, or what their file says of itself is damaged.
    """
    if weights is None:
        return Source("untrained")
    if isinstance(weights, Mapping):
        return Source("state dict", weights)
    if not isinstance(weights, str | Path):
        raise WeightsError(f"weights are a {type(weights).__name__}, expected a path, a state dict or a known word")
    release = resolve(name, weights)
    if release is not None:
        return Source("official release" + ("" if release.name == name else f" {release.name}"), release)
    try:
        if weights in ("auto", "embedded"):
            path = embedded_path(name)
            if path is None and weights == "embedded":
                raise WeightsError(f"the package carries no weights for {name!r}: pass weights=None or a checkpoint")
            return Source("embedded", path, None if path is None else read_record(path), weights == "auto")
        if isinstance(weights, str) and weights.startswith(PREFIX):
            folder = fetch_repository(weights.removeprefix(PREFIX))
            words = f"{weights.partition('@')[0]}@{folder.name}"
            return Source(words, folder / WEIGHTS_FILE, read_folder_record(folder))
        path = Path(weights)
        if path.is_dir():
            return Source(str(path), path / WEIGHTS_FILE, read_folder_record(path))
        return Source(str(path), path, read_record(path))
    except (RecordError, DownloadError) as error:
        raise WeightsError(str(error)) from error


def load(upsampler: Upsampler, source: Source) -> None:
    """Fill an upsampler, and note there what it was filled from.

    Raises:
        WeightsError: as :func:`load_checkpoint` and :func:`fetch`.
    """
    content = source.content
    if source.is_optional:
        content = read_state(content) if isinstance(content, Path) else None
        if content is None or _misfits(upsampler, content):
            upsampler.weights_source = "untrained (seed 0)"
            hint = ' (weights="official" downloads a release)' if releases_of(upsampler.name) else ""
            log.warning(
                "%s is untrained: the package carries no weights for this configuration%s", upsampler.name, hint
            )
            return
    if content is not None:
        load_checkpoint(upsampler, fetch(content) if isinstance(content, Release) else content)
    upsampler.weights_source, upsampler.record = source.words, source.record


def load_checkpoint(upsampler: nn.Module, source: str | Path | Mapping[str, Tensor]) -> None:
    """Load a checkpoint strictly, in place.

    Args:
        upsampler: what to fill.
        source: a state dict, or the path of one: .safetensors, or a file of torch.save (also under "state_dict",
            "model_state_dict", "model" or the name of the method). Published layouts are renamed where need be
            (see :meth:`Upsampler.adapt_state`).

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
    if state and all(str(key).startswith("module.") for key in state):  # of data-parallel training
        state = {key.removeprefix("module."): value for key, value in state.items()}
    adapt = getattr(upsampler, "adapt_state", None)
    state = state if adapt is None else adapt(state)
    faults = _misfits(upsampler, state)
    if faults:
        channels = getattr(upsampler, "feature_channels", None)
        if channels is not None and any(fault.startswith("wrong shape") for fault in faults):
            releases = channels_of_releases(getattr(upsampler, "name", ""))
            faults.append(f"(this network is made for features of {channels} channels{releases})")
        raise WeightsError(f"{what} does not fit {type(upsampler).__name__}:\n  " + "\n  ".join(faults))
    upsampler.load_state_dict(state, strict=True)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, on the CPU.

    Raises:
        WeightsError: if it is missing, damaged or holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"checkpoint {path}: no such file (words for weights: auto, embedded, official, official:RELEASE, "
            "hf:USER/REPOSITORY)"
        )
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"checkpoint {path} is no readable safetensors file: {error}") from error
    state = read_plain(path)
    for key in ("state_dict", "model_state_dict", "model", *dict.fromkeys(r.upsampler for r in releases_of())):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"checkpoint {path} holds a {type(state).__name__}, expected a state dict of tensors")
    return dict(state)


def fetch(release: Release) -> Path:
    """The file in the torch hub cache, downloaded if it is not there; its hash is checked every time.

    Where the publisher states no hash, that of the first download is kept beside the file.

    Raises:
        WeightsError: if it cannot be downloaded, or differs from what was published or first downloaded.
    """
    path = release.path
    what = f"official weights {release.name!r} of {release.upsampler!r}"
    if not path.exists():
        if release.is_manual:
            raise WeightsError(
                f"{what} cannot be downloaded by a program: fetch the file {path.name} from {release.url} and put it "
                f"at {path}, or pass its path"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Written to a temporary name and moved only when the hash is right.
            torch.hub.download_url_to_file(release.url, str(path), hash_prefix=release.sha256)
        except (OSError, http.client.HTTPException) as error:
            raise WeightsError(
                f"{what} cannot be downloaded from {release.url}: {error}. "
                f"Put the file at {path}, or pass weights=None or the path of a checkpoint"
            ) from error
        except RuntimeError as error:
            raise WeightsError(f"{release.url} is refused, it is not the file that was published: {error}") from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = release.sha256 or _first_hash(path, digest)
    if digest != expected:
        stated = "has" if release.sha256 else "had at its first use"
        raise WeightsError(
            f"{path} is refused: its sha256 is {digest}, the official release of {release.upsampler!r} {stated} "
            f"{expected}. Delete the file to download it again"
        )
    return path


def _first_hash(path: Path, digest: str) -> str:
    """The hash kept beside a file whose publisher states none; kept now if this is its first use."""
    note = path.with_name(f"{path.name}.sha256")
    if note.exists():
        return note.read_text().strip()
    log.warning("%s: no hash is published; sha256 %s is kept in %s and checked from now on", path, digest, note)
    temporary = note.with_name(f"{note.name}.part")
    temporary.write_text(f"{digest}\n")
    temporary.replace(note)
    return digest


class _Inert:
    """Stands for an object of a training script (its settings) that a checkpoint carries; does nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> _Inert:  # noqa: ARG004
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


_INERT_PACKAGES = ("omegaconf", "typing", "lightning", "pytorch_lightning")
_HARMLESS: dict[str, type] = {
    f"builtins.{kind.__name__}": kind for kind in (bool, bytes, dict, float, int, list, set, str, tuple)
}
_HARMLESS["collections.defaultdict"] = defaultdict


def read_plain(path: Path) -> Any:
    """What a file of torch.save holds, tensors and plain values; nothing of the file is ever run.

    Settings of a training script (OmegaConf's, Lightning's) are passed over.

    Raises:
        WeightsError: if it is damaged or holds other objects.
    """
    try:
        stand_ins: list[Any] = []
        try:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except Exception:  # an older format or a damaged file: torch.load says what is wrong
            names = []
        if all(name in _HARMLESS or name.partition(".")[0] in _INERT_PACKAGES for name in names):
            stand_ins = [(_HARMLESS.get(name, _Inert), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"checkpoint {path} is refused: it is damaged or holds objects other than tensors, and unpickling those "
            "could run code. Save it as safetensors or as a plain state dict"
        ) from error
    except Exception as error:  # a damaged file can fail in any way
        raise WeightsError(f"checkpoint {path} cannot be read: {error}") from error


def embedded_path(name: str) -> Path | None:
    """The weights that the package carries for an upsampler, or None."""
    path = Path(__file__).parent / "assets" / f"{name}.safetensors"
    return path if path.is_file() else None


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
