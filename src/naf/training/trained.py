"""Trained weights as an upsampler or restorer with its history: runs of `naf train`, checkpoints, weight files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from torch import Tensor

from naf.registry import entry
from naf.training.facts import facts_of, mapping
from naf.training.network import Network, create, find_restorer
from naf.weight_record import WEIGHTS_FILE, RecordError, read_folder_record, read_record
from naf.weights import WeightsError, read_plain

_PREFIX = "upsampler."  # of its keys in a run's checkpoint
_LAST = Path("checkpoints/last.ckpt")
_AT_THE_END = ("train_loss", "validation", "seconds")


@dataclass(frozen=True)
class Trained:
    """An upsampler or restorer and where its weights come from.

    Attributes:
        upsampler: in evaluation mode, on the CPU.
        about: see :class:`naf.weight_record.WeightRecord`.
        evaluation: see :class:`naf.training.card.ModelCard`.
        is_run: whether they were trained by `naf train` here, not read from a file of unknown rights.
    """

    upsampler: Network
    about: Mapping[str, str]
    evaluation: Mapping[str, Any]
    is_run: bool = False


def read_trained(source: Path, name: str = "", config: Mapping[str, Any] | None = None) -> Trained:
    """What a run or a file holds.

    Args:
        source: folder of a run of `naf train`, a checkpoint file of one, any other checkpoint, or a folder of
            `Upsampler.save_pretrained`.
        name: of the upsampler; may be empty where the source says it.
        config: constructor arguments; likewise.

    Raises:
        WeightsError: if it is missing, damaged or does not fit.
        ValueError: if it does not say which upsampler it holds and no name is given, or says another one.
    """
    config = dict(config or {})
    is_folder = source.is_dir()
    checkpoint = source / _LAST if is_folder and (source / _LAST).is_file() else source
    if checkpoint.suffix == ".ckpt":
        if not checkpoint.is_file():
            raise WeightsError(f"checkpoint {checkpoint}: no such file")
        content = mapping(read_plain(checkpoint))
        if is_folder or mapping(content.get("upsampler")):  # else of another trainer
            return _of_run(checkpoint, content, name, config)
    if is_folder and not (source / WEIGHTS_FILE).is_file():
        raise WeightsError(f"{source} holds neither {_LAST} of a training run nor {WEIGHTS_FILE}")
    try:
        record = read_folder_record(source) if is_folder else read_record(source)
    except RecordError as error:
        raise WeightsError(str(error)) from error
    upsampler = _create(source, name, "" if record is None else record.upsampler, source, config)
    if record is not None:
        return Trained(upsampler, record.about, {})
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return Trained(upsampler, {"source": f"{source.name}, sha256 {digest}"}, {})


def _of_run(checkpoint: Path, content: Mapping[str, Any], name: str, config: dict[str, Any]) -> Trained:
    state, folder = mapping(content.get("state_dict")), checkpoint.absolute().parent.parent
    own = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
    if not own:
        raise WeightsError(f"checkpoint {checkpoint} has no keys {_PREFIX}…, expected one that `naf train` wrote")
    settings, result = _read_yaml(folder / "config.yaml"), _read_json(folder / "result.json")
    made, given = mapping(content.get("upsampler")), mapping(settings.get("upsampler"))
    told = str(made.get("name") or given.get("name") or "")
    if name and told and name != told:
        raise ValueError(f"upsampler is {name!r}, but {checkpoint} holds {told!r}")
    trained = made.get("config") or {key: value for key, value in given.items() if value is not None and key != "name"}
    for key, value in config.items():
        if trained.get(key, value) != value:
            raise ValueError(f"{key} is {value!r}, but {checkpoint} was trained with {trained[key]!r}")
    upsampler = _create(checkpoint, name, told, own, {**trained, **config})
    steps = content.get("global_step")
    if steps != result.get("steps"):  # what was measured at the end of the run says nothing of this checkpoint
        result = {key: value for key, value in result.items() if key not in _AT_THE_END}
    measured = {key: result[key] for key in ("train_loss", "validation") if result.get(key)}
    evaluation = {"The run itself": measured} if measured else {}
    return Trained(upsampler, facts_of(settings, result, steps), evaluation, is_run=True)


def _create(
    source: Path, name: str, told: str, weights: Path | Mapping[str, Tensor], config: Mapping[str, Any]
) -> Network:
    chosen = name or told
    if not chosen:
        raise ValueError(f"{source} does not say which upsampler it holds: name it with --upsampler")
    if find_restorer(chosen) is None and entry(chosen).needs_backbone:
        raise ValueError(f"upsampler is {chosen!r}, which is built around a backbone: call export_upsampler with it")
    return create(chosen, weights=weights, **config)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return mapping(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no readable YAML: {' '.join(str(error).split())}") from error


def _read_json(path: Path) -> dict[str, Any]:
    return mapping(read_json(path)) if path.is_file() else {}


def read_json(path: Path) -> Any:
    """The values of a JSON file.

    Raises:
        ValueError: if it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no readable JSON file: {error}") from error
