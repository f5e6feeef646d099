"""What the acceptance run finds, and how it is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from naf.benchmark.agreement import Agreement
from naf.benchmark.point import Point
from naf.benchmark.report import machine_line, markdown, number
from naf.benchmark.yardsticks import Rates
from naf.ops.attention import Backend

Mode = Literal["eager", "graph", "torch.compile"]


@dataclass(frozen=True)
class Plan:
    """Sizes and efforts.

    Attributes:
        point: features, image and output of the main measurement; its device is where everything runs.
        far_ratio: the ratio of the far measurement.
        backend: attention backend that is held against the reference.
        cases: how many settings of the attention are compared.
        warm_up: calls before the measured ones.
        rounds: measured calls.
        is_small: whether ceilings too are measured at sizes for a test.
        modes: how the upsampler is called: as it is, by :func:`naf.compile`, by :func:`torch.compile`.
    """

    point: Point
    far_ratio: int = 72
    backend: Backend = "triton"
    cases: int = 60
    warm_up: int = 5
    rounds: int = 20
    is_small: bool = False
    modes: tuple[Mode, ...] = ("eager", "graph", "torch.compile")


@dataclass(frozen=True)
class Line:
    """One measurement.

    Attributes:
        name: what was measured.
        time_ms: median; None where it could not be measured.
        spread: slowest over fastest call.
        peak_mb: peak memory, 1e6 bytes; CUDA: of all tensors, weights and inputs too, and for a CUDA graph all that the
            allocator holds, its pool included; None where it says nothing.
        floor_ms: least time, from ceilings measured in the same run.
        note: why there is no time.
    """

    name: str
    time_ms: float | None = None
    spread: float | None = None
    peak_mb: float | None = None
    floor_ms: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """One requirement.

    Attributes:
        name: what is required.
        value: what was found; None where it could not be.
        limit: at most.
        unit: of both.
    """

    name: str
    value: float | None
    limit: float
    unit: str = ""

    @property
    def passes(self) -> bool:
        """Whether it is met."""
        return self.value is not None and self.value <= self.limit


@dataclass(frozen=True)
class Report:
    """Everything that was found."""

    machine: dict[str, Any]
    plan: Plan
    rates: tuple[Rates, ...]
    agreement: tuple[Agreement, ...]
    lines: tuple[Line, ...]
    bars: tuple[Bar, ...]

    @property
    def passes(self) -> bool:
        """Whether all bars are met."""
        return all(bar.passes for bar in self.bars)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "passes": self.passes}


def to_markdown(report: Report) -> str:
    """A page: bars, measurements, ceilings, and the settings that do not agree."""
    point = report.plan.point
    bars = [
        [bar.name, number(bar.value), f"{bar.limit:g} {bar.unit}", "pass" if bar.passes else "FAIL"]
        for bar in report.bars
    ]
    lines = [
        [
            line.name,
            number(line.time_ms),
            number(line.spread, 2),
            number(line.floor_ms),
            number(line.time_ms / line.floor_ms if line.time_ms and line.floor_ms else None),
            number(line.peak_mb, 0),
            line.note,
        ]
        for line in report.lines
    ]
    rates = [
        [r.dtype, number(r.copy_gb_s, 0), number(r.product_gflop_s / 1e3), number(r.convolution_gflop_s / 1e3)]
        for r in report.rates
    ]
    far = [a for a in report.agreement if a.excess > 1]
    parts = [
        "# NAF on a GPU"
        + (", a dry run: the sizes are toys, and the bars say nothing" if report.plan.is_small else ""),
        f"{machine_line(report.machine)}. Features (1, {point.channels}, {point.grid}, {point.grid}), image "
        f"{point.image_side} x {point.image_side}, output {point.side} x {point.side}. Medians of {report.plan.rounds} "
        f"calls after {report.plan.warm_up} of warm-up.",
        "## Bars",
        markdown(["bar", "found", "at most", ""], bars),
        "## Measurements",
        "`floor` is the least time that this device's copy bandwidth and arithmetic rate allow (see ceilings), `x` the "
        "time over it.",
        markdown(["call", "ms", "spread", "floor ms", "x", "peak MB", "note"], lines),
        "## Ceilings",
        markdown(["dtype", "copy GB/s", "products TFLOP/s", "convolution TFLOP/s"], rates),
        "## Agreement",
        f"{len(report.agreement) - len(far)} of {len(report.agreement)} settings agree with the reference in values "
        "and gradients.",
        *(f"- {a.case}: {a.failure or a.errors}" for a in far),
    ]
    return "\n\n".join(parts) + "\n"
