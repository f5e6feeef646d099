"""Noise that restorers are trained and tested on: Gaussian, and salt and pepper channel by channel.

Random numbers are drawn on the CPU from the generator that is given: the same seed gives the same noise on every
device. Results are not clamped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

_MEDIAN = 0.6745  # of the absolute value of normal numbers of variance 1


@dataclass(frozen=True)
class Noise(ABC):
    """A kind of noise and its level.

    Args:
        level: how much: one number, or (low, high) for a level drawn uniformly between them, once for each call, so
            that all images of a batch have the same.

    Raises:
        ValueError: for a level outside of what the kind allows.
    """

    level: float | Sequence[float]
    hint: ClassVar[str] = ""

    def __post_init__(self) -> None:
        level = self.level
        pair = tuple(level) if isinstance(level, Sequence) else (level, level)
        is_number = all(isinstance(end, int | float) and not isinstance(end, bool) for end in pair)
        if len(pair) != 2 or not is_number or not 0 <= pair[0] <= pair[1] <= 1:
            raise ValueError(f"level is {level!r}, expected a number from 0 to 1, or (low, high) of such{self.hint}")
        object.__setattr__(self, "level", pair if pair[0] < pair[1] else float(pair[0]))

    def __call__(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """The image with noise.

        Args:
            clean: (B, C, H, W) or any other shape, float, values from 0 to 1.
            generator: of the CPU; it draws the level, if that is a range, and then the noise.

        Returns:
            As `clean`, which stays as it is.

        Raises:
            TypeError: for another input than a float tensor.
            ValueError: for a generator of another device.
        """
        if not isinstance(clean, Tensor) or not clean.is_floating_point():
            kind = clean.dtype if isinstance(clean, Tensor) else type(clean).__name__
            raise TypeError(f"clean is {kind}, expected float values from 0 to 1 (divide 8-bit images by 255)")
        if generator.device.type != "cpu":
            raise ValueError(f"generator is on {generator.device}, expected the CPU: noise is the same on all devices")
        return self._add(clean, self.draw_level(generator), generator)

    def draw_level(self, generator: torch.Generator) -> float:
        """The level of the next batch; nothing is drawn where it is one number."""
        if not isinstance(self.level, tuple):
            return float(self.level)  # type: ignore[arg-type]
        low, high = self.level
        return float(low + (high - low) * torch.rand((), generator=generator).item())

    @abstractmethod
    def _add(self, clean: Tensor, level: float, generator: torch.Generator) -> Tensor: ...


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """x + level · N(0, 1), independent for every value; level is the standard deviation on the 0 … 1 scale.

    Example:
        >>> import torch
        >>> noise = GaussianNoise(0.1)
        >>> [round(x, 3) for x in noise(torch.full((3,), 0.5), torch.Generator().manual_seed(0)).tolist()]
        [0.654, 0.471, 0.282]
    """

    hint = ": divide that of 8-bit values by 255"

    def _add(self, clean: Tensor, level: float, generator: torch.Generator) -> Tensor:
        drawn = torch.randn(clean.shape, generator=generator)
        return clean + level * drawn.to(clean)


@dataclass(frozen=True)
class SaltAndPepperNoise(Noise):
    """Every value of every channel is replaced with probability level, half of them by 0 and half by 1.

    With the same seed a higher level replaces the values that a lower one does, and more.
    """

    def _add(self, clean: Tensor, level: float, generator: torch.Generator) -> Tensor:
        drawn = torch.rand(clean.shape, generator=generator).to(clean.device)
        salt = (drawn >= 1 - level / 2).to(clean)
        return torch.where((drawn < level / 2) | (salt > 0), salt, clean)


def estimate_level(image: Tensor) -> float:
    """About the standard deviation of the Gaussian noise of an image (Immerkær, CVIU 1996, by the median).

    What second differences along rows and columns leave of an image is noise for the most part; texture counts as
    noise, so the estimate is rather too high.

    Args:
        image: (C, H, W), at least 3 pixels on each side, 0 … 1 scale.

    Returns:
        On the same scale.

    Raises:
        ValueError: for a smaller image.
    """
    if min(image.shape[-2:]) < 3:
        raise ValueError(f"image is {tuple(image.shape)}, expected (C, H, W) with at least 3 pixels on each side")
    difference = torch.tensor([1.0, -2.0, 1.0], dtype=image.dtype, device=image.device)
    mask = difference[:, None] * difference
    left = F.conv2d(image[:, None], mask[None, None]).abs().flatten()
    return float(left.median() / (_MEDIAN * mask.square().sum().sqrt()))


NOISES: Mapping[str, type[Noise]] = {"gaussian": GaussianNoise, "salt-and-pepper": SaltAndPepperNoise}
"""By the names that weights and commands use."""
