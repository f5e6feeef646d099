"""What NAF must reach on a GPU: agreement of the kernels, time and memory against bars, floors beside them.

`benchmarks/gpu.py` runs it. A CPU takes the same steps at small sizes, which checks the steps and nothing else.
"""

from __future__ import annotations

import gc
import logging
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

import naf
from naf.benchmark.acceptance_report import Bar, Line, Mode, Plan, Report
from naf.benchmark.agreement import Agreement, check_case, sample_cases
from naf.benchmark.clock import alternate
from naf.benchmark.flops import count_flops
from naf.benchmark.measure import machine, measure
from naf.benchmark.network_agreement import NETWORK_TOLERANCE, encode_error, gradient_error, output_error
from naf.benchmark.point import Point, make_inputs, training_step
from naf.benchmark.yardsticks import Rates, bare_convolutions, measure_rates
from naf.upsamplers.base import Upsampler

FULL = Plan(Point("naf", device="cuda"))
SMALL = Plan(
    Point("naf", ratio=8, channels=16, image_side=32, grid=4),
    far_ratio=12,
    backend="blocked",
    cases=3,
    warm_up=1,
    rounds=2,
    is_small=True,
    modes=("eager",),
)

BARS = {
    "forward bfloat16": (2.5, 500.0),
    "training step bfloat16": (9.0, 2500.0),
}
"""Time in ms and peak memory in MB (1e6 bytes, weights and inputs included), at most; one mode must meet both."""


def run(plan: Plan, on_step: Callable[[str], None] = lambda _: None) -> Report:
    """All checks and measurements.

    Args:
        plan: what to do.
        on_step: told the name of each step before it.
    """
    device = torch.device(plan.point.device)
    on_step(f"{plan.cases} settings of the attention, {plan.backend} against the reference")
    agreement = [check_case(case, plan.backend, device) for case in sample_cases(plan.cases)]
    bars = _network_bars(plan, on_step)
    lines: list[Line] = []
    rates = {}
    for dtype in ("bfloat16", "float32"):
        point = replace(plan.point, dtype=dtype)
        on_step(f"ceilings {dtype}")
        rates[dtype] = measure_rates(device, point.torch_dtype, is_small=plan.is_small)
        lines.append(_bare(point, plan))
        for step in (_forward, _pieces, _training, _far):
            try:
                lines += step(point, plan, rates[dtype], on_step)
            except Exception as error:  # of the pieces, say, where the whole failed: the rest is to be seen too
                lines.append(Line(f"{step.__name__.strip('_')} {dtype}", note=_note(error)))
    bars += _bars(agreement, lines)
    return Report(machine(device), plan, tuple(rates.values()), tuple(agreement), tuple(lines), tuple(bars))


def _network_bars(plan: Plan, on_step: Callable[[str], None]) -> list[Bar]:
    """The whole network against its plain layers in float64: what is fast and wrong shall not pass."""
    bars = []
    for dtype in NETWORK_TOLERANCE:
        point = replace(plan.point, dtype=dtype)
        checks = {"queries and keys": partial(encode_error, point), "gradients": partial(gradient_error, point)}
        checks |= {f"output {mode}": partial(_mode_error, point, mode) for mode in plan.modes}
        for name, check in checks.items():
            on_step(f"{name} {dtype} against float64")
            try:
                error = check()
            except Exception as failure:  # as for the settings of the attention
                on_step(_note(failure))
                error = math.inf
            bars.append(Bar(f"error of {name} {dtype} over its tolerance", _finite(error), 1.0))
    return bars


def _mode_error(point: Point, mode: Mode) -> float:
    return output_error(point, partial(_in_mode, mode=mode))


Step = Iterator[Line]
Call = Callable[[], object]


def _forward(point: Point, plan: Plan, rates: Rates, on_step: Callable[[str], None]) -> Step:
    floor = _floor(point, rates)
    for mode in plan.modes:
        name = f"forward {point.dtype} {mode}"
        on_step(name)
        yield _attempt(name, partial(_forward_call, point, mode), plan, floor, has_pool=mode == "graph")


def _forward_call(point: Point, mode: Mode) -> Call:
    upsampler, image, features = make_inputs(point)
    forward = _in_mode(upsampler, mode)

    def call() -> None:
        with torch.inference_mode():
            forward(image, features, point.size)

    return call


def _in_mode(upsampler: Upsampler, mode: Mode) -> Callable[..., Any]:
    """What is called in the upsampler's place."""
    if mode == "graph":
        return naf.compile(upsampler)
    if mode == "torch.compile":
        compiled: Callable[..., Any] = torch.compile(upsampler)
        return compiled
    return upsampler


def _pieces(point: Point, plan: Plan, rates: Rates, on_step: Callable[[str], None]) -> Step:
    on_step(f"pieces {point.dtype}")
    upsampler, image, features = make_inputs(point)
    grid = point.grid, point.grid
    flops = count_flops(upsampler, image, features, point.size)
    with torch.inference_mode():
        guidance: Any = upsampler.encode(image, point.size, grid)
        queries, output = guidance.queries.nbytes, _output_bytes(point)
        encode = rates.floor_ms(flops.paper, image.nbytes + queries)
        attend = rates.floor_ms(flops.full - flops.paper, queries + features.nbytes + output)
        yield _line(f"encode {point.dtype}", lambda: lambda: upsampler.encode(image, point.size, grid), plan, encode)
        yield _line(f"attention {point.dtype}", lambda: lambda: guidance.upsample(features), plan, attend)


def _training(point: Point, plan: Plan, rates: Rates, on_step: Callable[[str], None]) -> Step:
    floor = 3 * _floor(point, rates)
    for mode in plan.modes:
        if mode != "graph":  # naf.compile leaves training as it is
            name = f"training step {point.dtype} {mode}"
            on_step(name)
            yield _attempt(name, partial(_training_call, point, mode), plan, floor)


def _training_call(point: Point, mode: Mode) -> Call:
    upsampler, image, features = make_inputs(point)
    return training_step(upsampler, image, features, point.size, _in_mode(upsampler, mode))


def _far(point: Point, plan: Plan, rates: Rates, on_step: Callable[[str], None]) -> Step:
    far = replace(point, ratio=plan.far_ratio)
    name = f"forward x{far.ratio} ({far.side} x {far.side}) {far.dtype}"
    on_step(name)
    yield _attempt(name, partial(_forward_call, far, "eager"), plan, _floor(far, rates))


def _bare(point: Point, plan: Plan) -> Line:
    make = partial(bare_convolutions, point.image_side, torch.device(point.device), point.torch_dtype)
    return _line(f"eight bare convolutions {point.dtype}", make, plan, None)


class _Warnings(logging.Handler):
    """Collects what the package warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep its first line."""
        self.words.append(_first_line(record.getMessage()))


def _attempt(name: str, make: Callable[[], Call], plan: Plan, floor_ms: float, *, has_pool: bool = False) -> Line:
    """A line, or a note on what was raised or warned of: the other measurements are to be seen too."""
    warnings = _Warnings()
    logger = logging.getLogger("naf")
    logger.addHandler(warnings)
    try:
        line = _line(name, make, plan, floor_ms, has_pool=has_pool)
    except Exception as error:
        return Line(name, floor_ms=floor_ms, note=_note(error))
    finally:
        logger.removeHandler(warnings)
    # A mode that fell back to another, say: its time is not what the name says.
    return replace(line, time_ms=None, note=warnings.words[0]) if warnings.words else line


def _line(name: str, make: Callable[[], Call], plan: Plan, floor_ms: float | None, *, has_pool: bool = False) -> Line:
    """Time and peak memory; `has_pool` says that a CUDA graph holds memory which no tensor shows."""
    device = torch.device(plan.point.device)
    gc.collect()  # graphs and their modules refer to each other
    if device.type == "cuda":
        torch.cuda.empty_cache()
    with measure(device) as usage:  # from the making on: a graph takes its memory when it is recorded
        times = alternate({name: make()}, plan.rounds, device, warm_up=plan.warm_up)[name]
    peak = (usage.peak_mib if device.type == "cuda" else usage.above_mib) * (1 << 20)
    if has_pool and device.type == "cuda":
        peak = torch.cuda.max_memory_reserved(device)
    return Line(name, statistics.median(times), max(times) / min(times), peak / 1e6, floor_ms)


def _note(error: Exception) -> str:
    return f"{type(error).__name__}: {_first_line(str(error))}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _output_bytes(point: Point) -> int:
    return point.channels * math.prod(point.size) * point.torch_dtype.itemsize


def _floor(point: Point, rates: Rates) -> float:
    upsampler, image, features = make_inputs(point)
    traffic = sum(x.nbytes for x in (image, features, *upsampler.parameters())) + _output_bytes(point)
    return rates.floor_ms(count_flops(upsampler, image, features, point.size).full, traffic)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _bars(agreement: list[Agreement], lines: list[Line]) -> list[Bar]:
    worst = max(it.excess for it in agreement)
    bars = [Bar("worst error of the attention over its tolerance", _finite(worst), 1.0)]
    for name, (most_ms, most_mb) in BARS.items():
        best = _best([line for line in lines if line.name.startswith(name)], most_mb)
        bars += [Bar(best.name, best.time_ms, most_ms, "ms"), Bar(best.name, best.peak_mb, most_mb, "MB")]
    far = [line for line in lines if line.name.startswith("forward x")]
    failed = sum(line.time_ms is None for line in far)
    return [*bars, Bar(f"calls at {far[0].name.split()[1]} that fail", failed, 0.0)]


def _best(modes: list[Line], most_mb: float) -> Line:
    """The fastest mode of those that fit the memory, else of all."""

    def key(line: Line) -> tuple[bool, float]:
        return line.peak_mb is None or line.peak_mb > most_mb, math.inf if line.time_ms is None else line.time_ms

    return min((line for line in modes if line.time_ms is not None), key=key, default=modes[0])
