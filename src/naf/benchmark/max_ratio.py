"""The largest ratio for which one forward call fits a memory budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from naf.benchmark.child import Reason, run_in_child
from naf.benchmark.point import Point
from naf.registry import entry

CEILING = 128
"""The search goes no further."""

Limit = Reason | Literal["method", "search"]


@dataclass(frozen=True)
class Probe:
    """One forward call in a process of its own.

    Attributes:
        ratio: output side over grid.
        reason: why it does not fit; None where it does.
        words: the same in words.
        peak_mib: its peak memory with weights and inputs, where it ended.
        time_ms: the time of this first call, where it ended.
    """

    ratio: int
    reason: Reason | None = None
    words: str = ""
    peak_mib: float | None = None
    time_ms: float | None = None


@dataclass(frozen=True)
class MaxRatio:
    """Result of the search.

    Attributes:
        point: setting, at the largest ratio that fits, or at 1.
        ratio: the largest that fits, None where none does.
        limited_by: what ended the search: memory; time (a larger ratio would take too long to try); the method, which
            makes no larger one by itself; the ceiling of the search; or an error that is not for want of memory.
        budget_mib: memory that a call may take.
        follows_output: whether the image is as large as the output.
        probes: all calls made, in ascending order of ratio.
    """

    point: Point
    ratio: int | None
    limited_by: Limit
    budget_mib: float
    follows_output: bool
    probes: tuple[Probe, ...]

    @property
    def key(self) -> tuple[Point, float, bool]:
        """Equal for equal searches, whatever they found."""
        return search_key(self.point, self.budget_mib, follows_output=self.follows_output)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MaxRatio:
        """Back from plain values."""
        probes = tuple(Probe(**probe) for probe in values["probes"])
        return cls(**{**values, "point": Point(**values["point"]), "probes": probes})


def search_key(point: Point, budget_mib: float, *, follows_output: bool) -> tuple[Point, float, bool]:
    """What tells one search from another."""
    base = replace(point, ratio=1, image_side=1 if follows_output else point.image_side)
    return base, budget_mib, follows_output


def max_ratio(
    point: Point,
    budget_mib: float,
    *,
    follows_output: bool = False,
    longest: float = 120.0,
    ceiling: int = CEILING,
    on_probe: Callable[[int], None] = lambda _: None,
) -> MaxRatio:
    """Search the largest ratio: doubling first, then by halves; each probe is a fresh process.

    Memory must grow with the ratio. A method that makes certain ratios by itself (FeatUp, LiFT) is asked for these.

    Args:
        point: gives everything but the ratio.
        budget_mib: memory for a call with weights and inputs. CUDA: of the allocator; CPU: resident.
        follows_output: make the image as large as the output; otherwise it stays `point.image_side`.
        longest: probes that must be expected to take longer are not made, s.
        ceiling: largest ratio that is tried.
        on_probe: told the ratio before each probe.
    """
    own = entry(point.upsampler).ratios
    ratios = [r for r in (own or range(1, ceiling + 1)) if r <= ceiling]
    probes: dict[int, Probe] = {}

    def setting(ratio: int) -> Point:
        side = point.grid * ratio if follows_output else point.image_side
        return replace(point, ratio=ratio, image_side=side)

    def fits(index: int) -> bool:
        ratio = ratios[index]
        if ratio not in probes:
            on_probe(ratio)
            probes[ratio] = _probe(setting(ratio), budget_mib, longest, list(probes.values()))
        return probes[ratio].reason is None

    low = -1  # index of the largest ratio that fits
    high = len(ratios)  # index of the smallest that does not
    step = 1
    while low + step < high:  # doubling: small probes are cheap, and a failing one is hardly larger than the answer
        if fits(low + step):
            low += step
            step = max(1, low + 1)
        else:
            high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    if high == len(ratios):
        limited_by: Limit = "method" if own else "search"
    else:
        limited_by = probes[ratios[high]].reason or "error"
    best = ratios[low] if low >= 0 else None
    tried = tuple(probes[ratio] for ratio in sorted(probes))
    return MaxRatio(setting(best or 1), best, limited_by, budget_mib, follows_output, tried)


def _probe(point: Point, budget_mib: float, longest: float, before: list[Probe]) -> Probe:
    element = point.torch_dtype.itemsize
    least = element * (point.channels * math.prod(point.size) + 3 * point.image_side**2) / (1 << 20)
    if least > budget_mib:
        return Probe(point.ratio, "memory", f"image and output alone take {least:,.0f} MiB")
    times = {probe.ratio: probe.time_ms for probe in before if probe.reason is None and probe.time_ms is not None}
    if times:
        last = max(times)
        expected = times[last] * (point.ratio / last) ** 2 / 1e3
        if expected > longest:
            return Probe(point.ratio, "time", f"expected to take {expected:,.0f} s")
    answer = run_in_child("peak", point, memory_mib=budget_mib, timeout_s=60 + 3 * longest)
    if answer.reason is not None:
        return Probe(point.ratio, answer.reason, answer.failure)
    peak, time_ms = answer.values["peak_mib"], answer.values["time_ms"]
    if peak > budget_mib:  # between two looks of the watch, or where it cannot look
        return Probe(point.ratio, "memory", f"it took {peak:,.0f} MiB", peak, time_ms)
    return Probe(point.ratio, peak_mib=peak, time_ms=time_ms)
