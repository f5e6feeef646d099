"""The paper's efficiency studies: sweeps over ratio, width of the features and image size, point by point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from naf.benchmark.child import run_in_child
from naf.benchmark.peers import needs_more
from naf.benchmark.pixel_cost import STRIDE
from naf.benchmark.point import Effort, Point
from naf.benchmark.results import Record, Result
from naf.registry import entry, list_upsamplers

Axis = Literal["ratio", "channels", "size"]

DEFAULT_VALUES: Mapping[Axis, tuple[int, ...]] = {
    "ratio": (2, 4, 8, 16),
    "channels": (128, 384, 768, 1024, 4096),
    "size": (224, 448, 896),
}
"""Of each axis: the paper's points, and 4096 channels (DINOv3-7B)."""


def sweepable(names: Sequence[str] | None = None) -> list[str]:
    """Upsamplers that need neither a backbone nor a fit to the image.

    Args:
        names: those asked for; None for all.

    Raises:
        ValueError: for unknown ones, or those that need more.
    """
    if names is None:
        return [name for name in list_upsamplers() if not needs_more(entry(name))]
    for name in names:
        if needs_more(entry(name)):
            raise ValueError(f"upsampler {name!r} needs a backbone or a fit to the image, which a sweep does not give")
    if not names:
        raise ValueError("no upsampler given, expected at least one")
    return list(dict.fromkeys(names))


def along(axis: Axis, values: Iterable[int], base: Point) -> list[Point]:
    """The points of one axis, in ascending order.

    Args:
        axis: "ratio": the output grows, image and features stay. "channels": of the features. "size": image and
            output together, with features of a stride of 16 pixels.
        values: positions on the axis, positive; sizes in pixels, multiples of 16.
        base: gives everything else.

    Raises:
        ValueError: for values outside the above.
    """
    ordered = sorted(dict.fromkeys(values))
    if not ordered or ordered[0] < 1:
        raise ValueError(f"{axis} values are {ordered}, expected positive whole numbers")
    if axis == "ratio":
        return [replace(base, ratio=value) for value in ordered]
    if axis == "channels":
        return [replace(base, channels=value) for value in ordered]
    odd = [value for value in ordered if value % STRIDE]
    if odd:
        raise ValueError(f"size values hold {odd[0]}, expected multiples of {STRIDE}")
    return [replace(base, image_side=value, grid=value // STRIDE, ratio=STRIDE) for value in ordered]


def position(point: Point, axis: Axis) -> int:
    """Where a point lies on an axis."""
    return {"ratio": point.ratio, "channels": point.channels, "size": point.image_side}[axis]


def sweep(
    lines: Sequence[Sequence[Point]],
    record: Record[Result],
    effort: Effort,
    *,
    memory_mib: float | None = None,
    on_point: Callable[[Point | None, int, int], None] = lambda *_: None,
) -> None:
    """Measure what the record does not have yet, each point in a process of its own.

    A point that must be expected to take longer than `effort.longest`, going by the one before it on its line, is
    left out and said to be.

    Args:
        lines: points of one upsampler along one axis, ascending, for each upsampler and axis.
        record: keeps each result as it comes.
        effort: time for a point.
        memory_mib: limit for a point.
        on_point: told before each point and, with None, at the end: the point, the points done, the points in all.
    """
    total, done = sum(map(len, lines)), 0
    for line in lines:
        before: Result | None = None
        for point in line:
            on_point(point, done, total)
            result = record.results.get(point)
            if result is None or not result.suffices(effort):
                result = _measured(point, before, effort, memory_mib)
                record.add(result)
            before = result if result.forward is not None else before
            done += 1
    on_point(None, total, total)


def _measured(point: Point, before: Result | None, effort: Effort, memory_mib: float | None) -> Result:
    expected = 0.0
    if before is not None and before.forward is not None:
        expected = before.forward.time_ms * _work(point) / _work(before.point) / 1e3
    if expected > effort.longest:
        reason = f"forward: expected to take over {effort.longest:g} s"
        return Result(point, left_out=reason, left_out_above_s=effort.longest)
    # A call is made a few times, and a training step takes several forward calls.
    answer = run_in_child("point", point, effort, memory_mib=memory_mib, timeout_s=300 + 20 * effort.longest)
    return Result.from_dict({"point": point.as_dict(), **answer.values, "failure": answer.failure})


def _work(point: Point) -> float:
    """Grows about as the time does."""
    return math.prod(point.size) * point.channels
