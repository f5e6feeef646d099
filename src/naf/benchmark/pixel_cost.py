"""What NAF costs per output pixel at several sizes: constant, if it scales as it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from naf.benchmark.clock import time_ms
from naf.benchmark.measure import machine, measure
from naf.registry import create
from naf.upsamplers.checks import whole_number

STRIDE = 16
"""Output pixels a cell."""


@dataclass(frozen=True)
class PixelCostReport:
    """Result of :func:`pixel_cost`; a value for each side.

    Attributes:
        sides: of image and output, pixels.
        forward_ms: mean of the calls at that side.
        nanoseconds: the same per output pixel.
        ratio: largest over smallest cost per pixel; 1 is a constant cost.
        peak_mib: peak memory of a call, output included.
        bytes_per_pixel: the same per output pixel.
        setting: channels, dtype, machine, versions.
    """

    sides: tuple[int, ...]
    forward_ms: tuple[float, ...]
    nanoseconds: tuple[float, ...]
    ratio: float
    peak_mib: tuple[float, ...]
    bytes_per_pixel: tuple[float, ...]
    setting: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def pixel_cost(
    sides: Sequence[int] = (448, 2048),
    *,
    channels: int = 384,
    rounds: int = 2,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> PixelCostReport:
    """Default NAF with image and output side x side and features of a sixteenth of it, inference.

    In a round each size is called about as long as the others: small ones several times. At 2048 a call takes some
    10 s on two cores, and 11 GB in float32.

    Args:
        sides: at least two, multiples of 16.
        channels: of the features.
        rounds: measured rounds, after one call of warm-up each.
        device: where.
        dtype: of module, image and features.

    Raises:
        ValueError: for sizes outside the above.
    """
    device = torch.device(device)
    ordered = sorted({whole_number("side", side, STRIDE) for side in sides})
    if len(ordered) < 2 or any(side % STRIDE for side in ordered):
        raise ValueError(f"sides are {list(sides)}, expected at least two different multiples of {STRIDE}")
    whole_number("rounds", rounds, 1)
    generator = torch.Generator().manual_seed(0)
    upsampler = create("naf", weights=None).to(device, dtype)

    def make(side: int) -> Callable[[], object]:
        image = torch.randn(1, 3, side, side, generator=generator).to(device, dtype)
        features = torch.randn(1, channels, side // STRIDE, side // STRIDE, generator=generator).to(device, dtype)
        return lambda: upsampler(image, features, (side, side))

    calls, peaks = {side: make(side) for side in ordered}, []
    times: dict[int, list[float]] = {side: [] for side in ordered}
    with torch.inference_mode():
        for call in calls.values():
            with measure(device) as usage:
                call()
            peaks.append(usage.above_mib)
        for _ in range(rounds):
            for side, call in calls.items():
                repeats = max(1, (ordered[-1] // side) ** 2 // 2)
                times[side] += [time_ms(call, device) for _ in range(repeats)]
    means = [sum(values) / len(values) for values in times.values()]
    costs = [1e6 * mean / side**2 for mean, side in zip(means, ordered, strict=True)]
    return PixelCostReport(
        sides=tuple(ordered),
        forward_ms=tuple(means),
        nanoseconds=tuple(costs),
        ratio=max(costs) / min(costs),
        peak_mib=tuple(peaks),
        bytes_per_pixel=tuple(peak * (1 << 20) / side**2 for peak, side in zip(peaks, ordered, strict=True)),
        setting={
            "channels": channels,
            "stride": STRIDE,
            "dtype": str(dtype).removeprefix("torch."),
            "rounds": rounds,
            **machine(device),
        },
    )
