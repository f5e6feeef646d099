"""What NAF must reach on a GPU: agreement of the kernels, time and memory against bars, floors beside them.

`benchmarks/gpu.py` runs it. A CPU takes the same steps at small sizes, which checks the steps and nothing else.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import naf
from naf.benchmark.acceptance_report import Bar, Line, Mode, Plan, Report
from naf.benchmark.agreement import Agreement, check_case, sample_cases
from naf.benchmark.clock import alternate
from naf.benchmark.flops import count_flops
from naf.benchmark.measure import machine, measure
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
"""Time in ms and peak memory in MB (1e6 bytes, weights and inputs included) of the fastest mode, at most."""


def run(plan: Plan, on_step: Callable[[str], None] = lambda _: None) -> Report:
    """All checks and measurements.

    Args:
        plan: what to do.
        on_step: told the name of each step before it.
    """
    device = torch.device(plan.point.device)
    on_step(f"{plan.cases} settings of the attention, {plan.backend} against the reference")
    agreement = [check_case(case, plan.backend, device) for case in sample_cases(plan.cases)]
    lines: list[Line] = []
    rates = {}
    for dtype in ("bfloat16", "float32"):
        point = replace(plan.point, dtype=dtype)
        on_step(f"ceilings {dtype}")
        rates[dtype] = measure_rates(device, point.torch_dtype, is_small=plan.is_small)
        lines.append(_bare(point, plan))
        for step in (_forward, _pieces, _training, _far):
            lines += step(point, plan, rates[dtype], on_step)
    return Report(machine(device), plan, tuple(rates.values()), tuple(agreement), tuple(lines), _bars(agreement, lines))


Step = Iterator[Line]
Call = Callable[[], object]


def _bare(point: Point, plan: Plan) -> Line:
    call = bare_convolutions(point.image_side, torch.device(point.device), point.torch_dtype)
    with torch.inference_mode():
        return _line(f"eight bare convolutions {point.dtype}", call, plan, None)


def _forward(point: Point, plan: Plan, rates: Rates, on_step: Callable[[str], None]) -> Step:
    upsampler, image, features = make_inputs(point)
    floor = _floor(upsampler, image, features, point, rates)
    for mode in plan.modes:
        name = f"forward {point.dtype} {mode}"
        on_step(name)
        with torch.inference_mode():
            yield _attempt(name, partial(_called, upsampler, image, features, point.size, mode), plan, floor)


def _pieces(point: Point, plan: Plan, rates: Rates, on_step: Callable[[str], None]) -> Step:
    upsampler, image, features = make_inputs(point)
    flops = count_flops(upsampler, image, features, point.size)
    on_step(f"pieces {point.dtype}")
    with torch.inference_mode():
        guidance: Any = upsampler.encode(image, point.size, (point.grid, point.grid))
        queries, output = guidance.queries.nbytes, point.channels * math.prod(point.size) * features.element_size()
        encode = rates.floor_ms(flops.paper, image.nbytes + queries)
        attend = rates.floor_ms(flops.full - flops.paper, queries + features.nbytes + output)
        grid = (point.grid, point.grid)
        yield _line(f"encode {point.dtype}", lambda: upsampler.encode(image, point.size, grid), plan, encode)
        yield _line(f"attention {point.dtype}", lambda: guidance.upsample(features), plan, attend)


def _training(point: Point, plan: Plan, rates: Rates, on_step: Callable[[str], None]) -> Step:
    for mode in plan.modes:
        if mode == "graph":  # random numbers of the training mode and the optimiser are not captured
            continue
        name = f"training step {point.dtype} {mode}"
        on_step(name)
        upsampler, image, features = make_inputs(point)
        step = partial(_step, upsampler, image, features, point.size, mode)
        yield _attempt(name, step, plan, 3 * _floor(upsampler, image, features, point, rates))


def _step(upsampler: Upsampler, image: Tensor, features: Tensor, size: tuple[int, int], mode: Mode) -> Call:
    call = naf.compile(upsampler) if mode == "compiled" else None
    return training_step(upsampler, image, features, size, call)


def _far(point: Point, plan: Plan, rates: Rates, on_step: Callable[[str], None]) -> Step:
    far = replace(point, ratio=plan.far_ratio)
    upsampler, image, features = make_inputs(far)
    name = f"forward x{far.ratio} ({far.side} x {far.side}) {far.dtype}"
    on_step(name)
    with torch.inference_mode():
        floor = _floor(upsampler, image, features, far, rates)
        yield _attempt(name, lambda: lambda: upsampler(image, features, far.size), plan, floor)


def _called(upsampler: Upsampler, image: Tensor, features: Tensor, size: tuple[int, int], mode: Mode) -> Call:
    """What calls the upsampler in one of the modes."""
    if mode == "compiled":
        compiled = naf.compile(upsampler)
        return lambda: compiled(image, features, size)
    if mode == "graph":
        graph, side_stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(3):
                upsampler(image, features, size)
        torch.cuda.current_stream().wait_stream(side_stream)
        with torch.cuda.graph(graph):
            upsampler(image, features, size)
        return graph.replay
    return lambda: upsampler(image, features, size)


def _attempt(name: str, make: Callable[[], Call], plan: Plan, floor_ms: float) -> Line:
    """A line, or a note on what was raised: the other measurements are to be seen too."""
    try:
        return _line(name, make(), plan, floor_ms)
    except Exception as error:
        return Line(name, floor_ms=floor_ms, note=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")


def _line(name: str, call: Call, plan: Plan, floor_ms: float | None) -> Line:
    device = torch.device(plan.point.device)
    times = alternate({name: call}, plan.rounds, device, warm_up=plan.warm_up)[name]
    with measure(device) as usage:
        call()
    peak = usage.peak_mib if device.type == "cuda" else usage.above_mib
    return Line(name, statistics.median(times), max(times) / min(times), peak * (1 << 20) / 1e6, floor_ms)


def _floor(upsampler: Upsampler, image: Tensor, features: Tensor, point: Point, rates: Rates) -> float:
    flops = count_flops(upsampler, image, features, point.size).full
    tensors = [image, features, *upsampler.parameters()]
    output = point.channels * math.prod(point.size) * features.element_size()
    return rates.floor_ms(flops, sum(x.nbytes for x in tensors) + output)


def _bars(agreement: list[Agreement], lines: list[Line]) -> tuple[Bar, ...]:
    worst = max(it.excess for it in agreement)
    bars = [Bar("worst error of the attention over its tolerance", worst if math.isfinite(worst) else None, 1.0)]
    for name, (most_ms, most_mb) in BARS.items():
        modes = [line for line in lines if line.name.startswith(name)]
        best = min(modes, key=lambda line: math.inf if line.time_ms is None else line.time_ms)
        bars += [Bar(best.name, best.time_ms, most_ms, "ms"), Bar(best.name, best.peak_mb, most_mb, "MB")]
    far = [line for line in lines if line.name.startswith("forward x")]
    failed = sum(line.time_ms is None for line in far)
    return (*bars, Bar(f"calls at {far[0].name.split()[1]} that fail", failed, 0.0))
