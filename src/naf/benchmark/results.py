"""Results of a sweep, and the file that keeps them: strict JSON, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from naf.benchmark.point import Effort, Point
from naf.data.atomic import replace_file


@dataclass(frozen=True)
class Measurement:
    """What a call takes.

    Attributes:
        time_ms: median of the rounds.
        spread: slowest over fastest round.
        rounds: how many were measured.
        warm_up_only: whether the first call is all there is, since it took longer than the time for a point.
        above_mib: peak memory above what was in use before the call, output included; CPU: resident, CUDA: allocated.
        peak_mib: likewise with weights and inputs, as the paper counts.
    """

    time_ms: float
    spread: float
    rounds: int
    warm_up_only: bool
    above_mib: float
    peak_mib: float


@dataclass(frozen=True)
class Result:
    """A point that was measured; None for what is not known.

    Attributes:
        point: what was measured.
        parameters: learned values.
        gflops_paper: see :mod:`naf.benchmark.flops`.
        gflops_full: likewise.
        forward: a call without gradients.
        training: forward, backward and SGD step, the paper's definition.
        floor_ms: least time of a forward call, from the rates and the compulsory bytes and products.
        bare_ms: the eight bare convolutions of the default NAF at the encoder's size; NAF only.
        forward_to_bare: forward over bare convolutions, side by side; median of the rounds' ratios.
        rates: the machine's ceilings, measured in the same process just before.
        left_out: what was not tried, and why.
        left_out_above_s: the limit of time because of which, s.
        failure: what went wrong; the other fields are what was known by then.
    """

    point: Point
    parameters: int | None = None
    gflops_paper: float | None = None
    gflops_full: float | None = None
    forward: Measurement | None = None
    training: Measurement | None = None
    floor_ms: float | None = None
    bare_ms: float | None = None
    forward_to_bare: float | None = None
    rates: dict[str, Any] = field(default_factory=dict)
    left_out: str = ""
    left_out_above_s: float | None = None
    failure: str = ""

    @property
    def key(self) -> Point:
        """One result a point."""
        return self.point

    @property
    def forward_to_floor(self) -> float | None:
        """Forward time over its floor."""
        return self.forward.time_ms / self.floor_ms if self.forward and self.floor_ms else None

    @property
    def fps(self) -> float | None:
        """Forward calls a second."""
        return 1e3 / self.forward.time_ms if self.forward else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, with the derived ones."""
        return {**asdict(self), "forward_to_floor": self.forward_to_floor, "fps": self.fps}

    def suffices(self, effort: Effort) -> bool:
        """Whether measuring again would tell no more.

        What failed is tried again, and what was left out, if more time is allowed now.
        """
        if self.failure:
            return False
        if self.left_out_above_s is not None:
            return self.left_out_above_s >= effort.longest
        return self.training is not None or not effort.trains

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Result:
        """Back from plain values."""
        known = {key: value for key, value in values.items() if key not in ("forward_to_floor", "fps")}
        for key in ("forward", "training"):
            if known.get(key) is not None:
                known[key] = Measurement(**known[key])
        return cls(**{**known, "point": Point(**known["point"])})


class Kept(Protocol):
    """What a record can hold."""

    @property
    def key(self) -> Hashable:
        """Equal for results of the same setting, of which the record holds one."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""


T = TypeVar("T", bound=Kept)


class Record(Generic[T]):
    """The results of one machine in a file, in the order of their coming.

    Args:
        path: of the JSON file; it is read if it is there.
        parse: makes a result from its plain values.
        machine: must be equal for results to be kept side by side.
        settings: what else belongs into the record.

    Attributes:
        results: by their keys.

    Raises:
        ValueError: if the file holds something else, or results of another machine.
    """

    def __init__(
        self, path: Path, parse: Callable[[dict[str, Any]], T], machine: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        self.path, self.machine, self.settings = path, machine, settings
        self.results: dict[Hashable, T] = {}
        if not path.exists():
            return
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            kept = [parse(values) for values in record["results"]]
            there = dict(record["machine"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no record of this kind ({error}): choose another folder") from None
        if there != machine:
            other = [key for key in machine if there.get(key) != machine[key]]
            words = ", ".join(f"{key} {there.get(key)!r} there, {machine[key]!r} here" for key in other)
            raise ValueError(f"{path} was measured otherwise: {words}. Choose another folder")
        self.results = {result.key: result for result in kept}

    def add(self, result: T) -> None:
        """Keep a result, in the place of an older one of its key, and write the file."""
        self.results[result.key] = result
        results = [known.as_dict() for known in self.results.values()]
        record = {"machine": self.machine, "settings": self.settings, "results": results}
        write_atomically(self.path, json.dumps(record, indent=1, allow_nan=False) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
