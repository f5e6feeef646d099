"""The configuration of a run: composed by Hydra, checked, compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from naf.configs.compose import compose, plain
from naf.training.plan import Geometry, Stage

PACKAGE = "naf.configs"
PACKAGE_FOLDER = Path(__file__).parents[1] / "configs"
RESUMES = ("auto", "never")
LEAST = {
    "checkpoint_every": 1,
    "keep_checkpoints": 1,
    "validate_every": 1,
    "pictures_every": 1,
    "pictures": 0,
    "log_every": 1,
    "data.val_photos": 1,
    "data.workers": 0,
}
"""Least values of numbers."""
DECISIVE = (
    "upsampler",
    "weights",
    "objective",
    "stages",
    "sources",
    "optimizer",
    "seed",
    "checkpoint_every",
    "data.photos",
)
"""Keys that decide a run's losses: a run goes on only where these are as they were."""


@dataclass
class DataConfig:
    """Photos. See `configs/data/folder.yaml` for what the keys mean."""

    root: Any = MISSING
    val: Any = None
    val_photos: int = 32
    photos: dict[str, Any] = field(default_factory=dict)
    cache: str | None = None
    cache_dtype: str = "float16"
    workers: int = 2


@dataclass
class TrainerConfig:
    """What goes to Lightning's trainer; other arguments of it may be added with `+trainer.KEY=VALUE`."""

    accelerator: str = "auto"
    devices: Any = 1
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "auto"


@dataclass
class TrainConfig:
    """All keys and their types. See `configs/train.yaml` for what they mean."""

    name: str = MISSING
    folder: str = MISSING
    backbone: Any = MISSING
    seed: int = 0
    resume: str = "auto"
    sanity: bool = False
    sweep: dict[str, Any] = field(default_factory=dict)
    upsampler: dict[str, Any] = field(default_factory=dict)
    weights: Any = None
    objective: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)
    noise: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint_every: int = 500
    keep_checkpoints: int = 3
    validate_every: int = 500
    pictures_every: int = 500
    pictures: int = 4
    log_every: int = 10


def load(overrides: Sequence[str] = (), config_dir: Path | None = None) -> DictConfig:
    """The configuration that Hydra composes from the package's files and some overrides.

    Args:
        overrides: Hydra's, e.g. "experiment=naf_vits", "data.root=photos", "+trainer.deterministic=true".
        config_dir: a folder with files and groups of one's own.

    Raises:
        ValueError: for anything that Hydra or the types refuse, in one line.
    """
    config = compose(PACKAGE, "train", TrainConfig, overrides, config_dir)
    _check(config)
    return config


def _check(config: DictConfig) -> None:
    """Values that the types allow and that make no sense."""
    if config.resume not in RESUMES:
        raise ValueError(f"resume is {config.resume!r}, expected {' or '.join(RESUMES)}")
    for key, least in LEAST.items():
        if OmegaConf.select(config, key) < least:
            raise ValueError(f"{key} is {OmegaConf.select(config, key)}, expected at least {least}")
    if config.validate_every % config.checkpoint_every:
        raise ValueError(
            f"validate_every is {config.validate_every}, expected a multiple of checkpoint_every = "
            f"{config.checkpoint_every}"
        )
    stages_of(config)


def stages_of(config: DictConfig) -> list[Stage]:
    """The stages, in their order.

    Raises:
        ValueError: for unknown keys, values out of range, or none.
    """
    stages = []
    for name, value in plain(config)["stages"].items():
        given = dict(value or {})
        geometry = geometry_of(f"stages.{name}.geometry", given.pop("geometry", None) or {})
        steps, batch, lr = (given.pop(key, default) for key, default in (("steps", 0), ("batch_size", 4), ("lr", 2e-4)))
        if given:
            raise ValueError(f"stages.{name}.{next(iter(given))} is unknown, expected steps, batch_size, lr, geometry")
        for key, number in (("steps", steps), ("batch_size", batch)):
            if not isinstance(number, int) or isinstance(number, bool) or number < (key == "batch_size"):
                raise ValueError(f"stages.{name}.{key} is {number!r}, expected a whole number, 1 or more")
        if not isinstance(lr, int | float) or not 0 < lr < 1:
            raise ValueError(f"stages.{name}.lr is {lr!r}, expected a learning rate between 0 and 1")
        if steps:
            stages.append(Stage(steps, geometry, batch, float(lr)))
    if not stages:
        raise ValueError("stages hold no step, expected at least one stage with steps of 1 or more")
    return stages


def geometry_of(key: str, value: Mapping[str, Any]) -> Geometry:
    """Sizes from plain values; one number may stand for a range.

    Raises:
        ValueError: for unknown keys or values out of range; names the key.
    """
    given, known = dict(value), Geometry()
    image_size = _range(f"{key}.image_size", given.pop("image_size", known.image_size), int)
    reduced = _range(f"{key}.reduced", given.pop("reduced", known.reduced), float)
    ratio = given.pop("guidance_ratio", known.guidance_ratio)
    largest = given.pop("guidance_max", known.guidance_max)
    if given:
        raise ValueError(
            f"{key}.{next(iter(given))} is unknown, expected image_size, reduced, guidance_ratio, guidance_max"
        )
    if image_size[0] < 1 or not 0 < reduced[0] <= reduced[1] <= 1:
        raise ValueError(f"{key} has image_size {image_size} and reduced {reduced}, expected pixels and shares up to 1")
    if not isinstance(ratio, int | float) or ratio <= 0 or not isinstance(largest, int) or largest < 2:
        raise ValueError(f"{key} has guidance_ratio {ratio!r} and guidance_max {largest!r}, expected positive numbers")
    return Geometry((int(image_size[0]), int(image_size[1])), reduced, float(ratio), largest)


def _range(key: str, value: Any, kind: type) -> tuple[Any, Any]:
    low, high = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    kinds = (int,) if kind is int else (int, float)
    if not all(isinstance(x, kinds) and not isinstance(x, bool) for x in (low, high)) or low > high:
        raise ValueError(f"{key} is {value!r}, expected one number or [least, largest]")
    return kind(low), kind(high)


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """That a run may go on in a folder.

    Raises:
        ValueError: naming the keys among DECISIVE that differ.
    """
    differing = [
        f"{key} was {_brief(old)}, is {_brief(new)}"
        for part in DECISIVE
        for key, old, new in _differences(part, _at(before, part), _at(now, part))
    ]
    if differing:
        raise ValueError(
            f"folder {folder} holds a run of another configuration: {'; '.join(differing)}. "
            "Give the same values, or another folder=…"
        )


def _at(values: Mapping[str, Any], dotted: str) -> Any:
    found: Any = values
    for key in dotted.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _differences(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from _differences(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new:
        yield key, old, new


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
