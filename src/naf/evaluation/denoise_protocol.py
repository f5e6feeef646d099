"""Settings of the denoising task, and the noise that is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor

from naf.restoration.noise import NOISES

Level = float | tuple[float, float]


@dataclass
class DenoiseConfig:
    """All keys and their types; what they mean is said in `configs/evaluation/denoise/denoise.yaml`."""

    task: str = MISSING
    restorer: Any = MISSING
    noise: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    seed: int = 0
    folder: str = MISSING
    pictures: int = 0
    device: str = "auto"
    memory_budget: int = 2048
    sanity: bool = False
    note: str = ""


@dataclass(frozen=True)
class DenoiseProtocol:
    """Denoising (NAF, table 8).

    Attributes:
        name: of the protocol that the other values follow.
        size: shorter side that images are resized to, pixels; None for their own size.
        crop: side of the square that is cut from the middle; None for the whole image.
        batch_size: images that the released PSNR takes together.
        autocast: float16 where PyTorch deems it safe; on CUDA only.
    """

    name: str = "paper"
    size: int | None = None
    crop: int | None = None
    batch_size: int = 1
    autocast: bool = False

    def __post_init__(self) -> None:
        for key in ("size", "crop", "batch_size"):
            value = getattr(self, key)
            least = 1 if key == "batch_size" else 6
            if value is not None and value < least:
                raise ValueError(f"protocol.{key} is {value}, expected at least {least}")
        if self.size is not None and self.crop is not None and self.crop > self.size:
            raise ValueError(f"protocol.crop is {self.crop}, expected at most protocol.size, {self.size}")

    def settings(self) -> dict[str, Any]:
        """As plain values, for a record."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


@dataclass(frozen=True)
class ImageNoise:
    """Noise that an image always gets, whoever restores it, in whatever order and company.

    Args:
        kind: key of :data:`naf.restoration.noise.NOISES`.
        level: a number, or (low, high), of which each image draws one.
        seed: of all images.
    """

    kind: str
    level: Level
    seed: int

    def __call__(self, clean: Tensor, index: int) -> tuple[Tensor, float]:
        """The image with noise, and the level of it.

        Args:
            clean: (1, 3, H, W), 0 to 1.
            index: of the image in its whole set.
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        make = NOISES[self.kind]
        level = make(self.level).draw_level(generator)
        return make(level)(clean, generator), level

    def __str__(self) -> str:
        level = self.level
        return f"{self.kind} {f'from {level[0]:g} to {level[1]:g}' if isinstance(level, tuple) else f'{level:g}'}"


def noises(values: dict[str, Any], seed: int) -> list[ImageNoise]:
    """The noises that a configuration asks for.

    Args:
        values: `kind`, and `level`: a number, [low, high] for a range, or a list of these. [[0.1, 0.1], [0.5, 0.5]] are
            two levels.
        seed: of all.

    Raises:
        ValueError: for an unknown kind, a level that is none, or one above 1 (for 8-bit values).
    """
    kind, given = values["kind"], values["level"]
    if kind not in NOISES:
        raise ValueError(f"noise.kind is {kind!r}, expected one of {', '.join(NOISES)}")
    several = given if isinstance(given, list) and not _is_pair(given) else [given]
    levels = [_level(kind, each) for each in several]
    if not levels or len(set(levels)) < len(levels):
        said = [list(level) if isinstance(level, tuple) else level for level in levels]
        raise ValueError(f"noise.level is {said}, expected one or more, each once")
    return [ImageNoise(kind, level, seed) for level in levels]


def _level(kind: str, given: Any) -> Level:
    pair = tuple(given) if isinstance(given, list) else (given, given)
    if len(pair) == 2 and pair[0] == pair[1]:
        given = pair[0]
    try:
        made = NOISES[kind](given)
    except ValueError as error:
        raise ValueError(f"noise.{error}") from None
    if made.level == 0:
        raise ValueError("noise.level is 0, expected a number above 0: without noise nothing can be restored")
    return made.level if isinstance(made.level, tuple) else float(given)


def _is_pair(values: list[Any]) -> bool:
    return len(values) == 2 and not any(isinstance(value, list) for value in values)
