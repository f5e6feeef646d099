"""Times of a call in rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

from naf.benchmark.measure import synchronize


def time_ms(call: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of one call: between two events on CUDA, by the wall elsewhere."""
    synchronize(device)
    if device.type == "cuda":
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        stream = torch.cuda.current_stream(device)  # events would belong to the current device otherwise
        first.record(stream)
        call()
        last.record(stream)
        last.synchronize()
        elapsed: float = first.elapsed_time(last)
        return elapsed
    start = time.perf_counter()
    call()
    synchronize(device)
    return (time.perf_counter() - start) * 1e3


def alternate(
    parts: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Milliseconds of each part in each round, one part after the other: a machine that slows down slows all.

    Args:
        parts: what to time, by name.
        rounds: measured rounds, at least 1.
        device: where the parts run.
        warm_up: rounds that come first and are not kept.
    """
    times: dict[str, list[float]] = {name: [] for name in parts}
    for index in range(warm_up + rounds):
        for name, part in parts.items():
            elapsed = time_ms(part, device)
            if index >= warm_up:
                times[name].append(elapsed)
    return times


def best_of(call: Callable[[], object], device: torch.device, *, seconds: float = 0.2, rounds: int = 20) -> float:
    """Least milliseconds of a call after one of warm-up, in at most so many seconds and rounds: for ceilings."""
    time_ms(call, device)
    times: list[float] = []
    while not times or (len(times) < rounds and sum(times) < 1e3 * seconds):
        times.append(time_ms(call, device))
    return min(times)
