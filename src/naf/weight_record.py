"""What a weight file says of itself: which upsampler it fills, that one's configuration, how it was trained.

In a safetensors file this is the header's metadata, text by text. A folder of the Hugging Face Hub holds the
configuration in config.json besides, flat, as huggingface_hub's mixin writes and reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    from naf.upsamplers.base import Upsampler

FORMAT_VERSION = 1
"""Of the metadata; a file of a later one is refused."""
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
"""Files of a folder of the Hugging Face Hub."""


class RecordError(ValueError):
    """A record that is damaged or of a later version."""


@dataclass(frozen=True)
class WeightRecord:
    """What a weight file says of itself.

    Attributes:
        upsampler: registered name; empty where it is not said (a folder that another program wrote).
        config: constructor arguments in full, without a backbone.
        about: how the weights came about, in words: "backbones", "data", "steps", "seed", "commit", "command",
            "licence", …
        card: the model card that lies beside the file, None where there is none.
    """

    upsampler: str
    config: Mapping[str, Any]
    about: Mapping[str, str] = field(default_factory=dict)
    card: Path | None = None

    def metadata(self) -> dict[str, str]:
        """For the header of a safetensors file.

        Raises:
            ValueError: if JSON cannot hold the configuration.
        """
        own = {
            "format": "pt",  # what other readers of safetensors ask for
            "format_version": str(FORMAT_VERSION),
            "upsampler": self.upsampler,
            "config": _to_json(self.config),
        }
        return {**self.about, **own}

    def folder_config(self) -> str:
        """For config.json of a folder.

        Raises:
            ValueError: if JSON cannot hold the configuration.
        """
        return _to_json({"upsampler": self.upsampler, "format_version": FORMAT_VERSION, **self.config}, indent=2)


def record_of(upsampler: Upsampler) -> WeightRecord:
    """What a file of an upsampler's weights says: its configuration, and what the file that they came from said.

    The dtype of that file is left out: it is not that of the upsampler.

    Raises:
        ValueError: if `naf.create` did not make the upsampler, so that its configuration is not known.
    """
    if upsampler.config is None:
        raise ValueError(
            f"this {type(upsampler).__name__} does not know its configuration: make it with naf.create and load its "
            "state dict there"
        )
    old = {} if upsampler.record is None else upsampler.record.about
    about = {key: value for key, value in old.items() if key != "dtype"}
    return WeightRecord(upsampler.name, upsampler.config, about)


def read_record(path: Path) -> WeightRecord | None:
    """What a safetensors file says of itself; None where it says nothing in this format.

    Raises:
        RecordError: if what it says is damaged or of a later version.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            about = dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return None  # whoever reads the tensors says what is wrong
    if "format_version" not in about or "upsampler" not in about:
        return None
    about.pop("format", None)
    _check_version(path, about.pop("format_version"))
    name, config = about.pop("upsampler"), _from_json(path, about.pop("config", "{}"))
    card = path.with_suffix(".md")
    return WeightRecord(name, config, about, card if card.is_file() else None)


def read_folder_record(folder: Path) -> WeightRecord | None:
    """What a folder of the Hugging Face Hub says of its weights; None where it says nothing.

    Raises:
        RecordError: if what it says is damaged or of a later version.
    """
    record, path, card = read_record(folder / WEIGHTS_FILE), folder / CONFIG_FILE, folder / CARD_FILE
    beside = card if card.is_file() else None
    if record is not None:
        return WeightRecord(record.upsampler, record.config, record.about, beside)
    if not path.is_file():
        return None
    try:
        config = _from_json(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    _check_version(path, config.pop("format_version", FORMAT_VERSION))
    return WeightRecord(str(config.pop("upsampler", "")), config, {}, beside)


def _check_version(path: Path, version: object) -> None:
    try:
        known = int(str(version)) <= FORMAT_VERSION
    except ValueError:
        known = False
    if not known:
        raise RecordError(f"{path} has format version {version}, expected at most {FORMAT_VERSION}: update the package")


def _to_json(config: Mapping[str, Any], **layout: Any) -> str:
    try:
        return json.dumps(config, sort_keys=True, allow_nan=False, **layout)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the configuration {dict(config)!r} cannot be written as JSON: {error}") from error


def _from_json(path: Path, text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise RecordError(f"{path}: its configuration is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise RecordError(f"{path}: its configuration is a {type(config).__name__}, expected an object of arguments")
    return config
