"""Restorers and classical denoisers as an evaluation's configuration names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from naf.evaluation import classical_denoisers
from naf.evaluation.candidates import check_labels, checkpoint_of, read_method
from naf.evaluation.denoise_protocol import ImageNoise
from naf.registry import suggest
from naf.restoration import Restorer, create, list_restorers
from naf.restoration.registry import entry
from naf.upsamplers.base import MEMORY_BUDGET
from naf.weights import WeightsError, embedded_path


@dataclass(frozen=True)
class Denoiser:
    """A method that is ready to restore.

    Attributes:
        name: of the method.
        restorer: the network; None for a classical method.
        memory_budget: bytes that the network may take, see :meth:`naf.restoration.Restorer.restore`.
    """

    name: str
    restorer: Restorer | None = None
    memory_budget: int = MEMORY_BUDGET

    def __call__(self, noisy: Tensor, noise: ImageNoise, level: float) -> Tensor:
        """The image restored, (1, 3, H, W) float32 on the CPU, not clamped.

        Args:
            noisy: (1, 3, H, W) on the CPU.
            noise: that it has; classical methods are told its kind and level.
            level: of this image.

        Raises:
            ValueError: as the restorer.
        """
        if self.restorer is None:
            settings = classical_denoisers.settings_for(self.name, noise.kind, level)
            return classical_denoisers.denoise(self.name, noisy, settings)
        device = next(self.restorer.parameters(), torch.empty(0)).device
        return self.restorer.restore(noisy.to(device), memory_budget=self.memory_budget).float().cpu()

    def settings(self, noise: ImageNoise) -> Mapping[str, Any]:
        """What a classical method does under a noise; for one whose level is drawn, by level.

        Raises:
            ValueError: for noise that nothing was fitted for.
        """
        if self.restorer is not None:
            return {}
        ends = noise.level if isinstance(noise.level, tuple) else (noise.level,)
        found = [classical_denoisers.settings_for(self.name, noise.kind, level) for level in ends]
        if len(found) == 1 or not found[0]:
            return found[0]
        fitted = classical_denoisers.FITTED[noise.kind, self.name]
        return {f"{level:g}": dict(settings) for level, settings in fitted.items()}

    @property
    def source(self) -> str:
        """Where the weights come from, in words; empty if it has none."""
        return self.restorer.weights_source if self.restorer is not None else ""

    @property
    def checkpoint(self) -> str:
        """sha256 of the weights' values, empty if it has none."""
        return checkpoint_of(self.restorer) if self.restorer is not None else ""

    @property
    def parameters(self) -> int:
        """Learned values."""
        return sum(one.numel() for one in self.restorer.parameters()) if self.restorer is not None else 0


@dataclass(frozen=True)
class DenoiserCandidate:
    """A restorer or a classical denoiser that is compared.

    Attributes:
        label: its row in the table.
        name: of a restorer, or a key of :data:`naf.evaluation.classical_denoisers.METHODS`.
        weights: what `naf.restoration.create` takes; "auto" for those that the package carries for the kind of noise,
            "none" for an untrained network, always the same one.
        options: further arguments of `naf.restoration.create`.
    """

    label: str
    name: str
    weights: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: str | Mapping[str, Any]) -> DenoiserCandidate:
        """As :func:`naf.evaluation.candidates.read_method` reads it.

        Raises:
            ValueError: for an unknown method, arguments that it does not have, or something else.
        """
        known = [*classical_denoisers.METHODS, *list_restorers()]
        label, name, weights, options = read_method("restorer", value, known)
        if name not in known:
            raise ValueError(f"restorer {name!r} is unknown{suggest(name, dict.fromkeys(known))}")
        is_classical = name in classical_denoisers.METHODS
        if is_classical and weights != "auto":
            raise ValueError(f"restorer {label!r}: {name!r} learns nothing, expected no weights")
        taken = [] if is_classical else entry(name).options
        for key in options:
            if key not in taken:
                raise ValueError(f"restorer {label!r}: {name!r} has no argument {key!r}; it takes {taken}")
        return cls(label, name, weights, options)

    def make(self, kind: str, device: torch.device, memory_budget: int = MEMORY_BUDGET) -> Denoiser:
        """The method for a kind of noise, on a device; the budget as :class:`Denoiser` has it.

        Raises:
            ValueError, TypeError: for arguments that the method does not take, or that its weights contradict.
            naf.WeightsError: if the weights are not to be had; a network is never left untrained unless asked for.
        """
        if self.name in classical_denoisers.METHODS:
            return Denoiser(self.name)
        weights = f"embedded:{kind}" if self.weights == "auto" else self.weights
        if self.weights == "auto" and embedded_path(f"{entry(self.name).record_name}-{kind}") is None:
            raise WeightsError(
                f"the package carries no weights of {self.name!r} for {kind} noise: give some with "
                f"restorer={self.name}=FILE, or {self.name}=none for an untrained network"
            )
        with torch.random.fork_rng(devices=[]):
            if weights == "none":
                torch.default_generator.manual_seed(0)
            restorer = create(self.name, None if weights == "none" else weights, **self.options)
        return Denoiser(self.name, restorer.requires_grad_(False).to(device), memory_budget)


def parse_all(values: Any) -> list[DenoiserCandidate]:
    """Candidates from one value or a list; labels are unique.

    Raises:
        ValueError: as :meth:`DenoiserCandidate.parse`, for no value and for one label twice.
    """
    several: Sequence[Any] = values if isinstance(values, list | tuple) else [values]
    candidates = [DenoiserCandidate.parse(value) for value in several]
    check_labels("restorer", [candidate.label for candidate in candidates])
    return candidates
