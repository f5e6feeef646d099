"""NAF's time beside the convolutions that it cannot do without, measured side by side in one run.

The yardstick is the eight inner convolutions of the default encoder (four 1x1, four 3x3, 128 → 128 channels),
bare: same shapes, zero padding, channels-last, no norm, no activation, no copies. Rounds alternate between the
parts, so that a machine that slows down slows all of them; medians are reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from naf.benchmark.measure import machine, measure
from naf.registry import create


@dataclass(frozen=True)
class QuickReport:
    """Result of :func:`quick`; times are medians in ms, memory in MiB.

    Attributes:
        yardstick_ms: the eight bare convolutions.
        encode_ms: image → queries and keys: encoder, pooling, RoPE.
        attention_ms: queries, keys, features → output.
        forward_ms: the whole call.
        encode_ratio: encode_ms / yardstick_ms.
        attention_ratio: attention_ms / yardstick_ms.
        peak_mib: peak memory of one call above what was in use before it; CPU: resident, CUDA: allocated.
        spread: slowest over fastest round of each part.
        setting: sizes, rounds, machine, versions.
    """

    yardstick_ms: float
    encode_ms: float
    attention_ms: float
    forward_ms: float
    encode_ratio: float
    attention_ratio: float
    peak_mib: float
    spread: dict[str, float] = field(default_factory=dict)
    setting: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def quick(
    *, side: int = 448, grid: int = 28, channels: int = 384, rounds: int = 5, device: torch.device | str = "cpu"
) -> QuickReport:
    """Default NAF on features (1, channels, grid, grid) with image and output side x side, float32, inference.

    Raises:
        ValueError: for sizes that NAF refuses.
    """
    device = torch.device(device)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, side, side, generator=generator).to(device)
    features = torch.randn(1, channels, grid, grid, generator=generator).to(device)
    upsampler = create("naf", weights=None).to(device)
    bare = _bare_convolutions(128).to(device)
    size = (side, side)
    with torch.inference_mode():
        upsampler(image, features, size)
        with measure(device) as usage:
            upsampler(image, features, size)
        maps = torch.randn(1, 128, side, side, generator=generator).to(device).to(memory_format=torch.channels_last)
        guidance = upsampler.encode(image, size, (grid, grid))
        parts: dict[str, Callable[[], object]] = {
            "yardstick": lambda: [conv(maps) for conv in bare],
            "encode": lambda: upsampler.encode(image, size, (grid, grid)),
            "attention": lambda: guidance.upsample(features),
            "forward": lambda: upsampler(image, features, size),
        }
        times = _alternate(parts, rounds, device)
    median = {name: statistics.median(values) for name, values in times.items()}
    return QuickReport(
        yardstick_ms=median["yardstick"],
        encode_ms=median["encode"],
        attention_ms=median["attention"],
        forward_ms=median["forward"],
        encode_ratio=median["encode"] / median["yardstick"],
        attention_ratio=median["attention"] / median["yardstick"],
        peak_mib=usage.above_mib,
        spread={name: max(values) / min(values) for name, values in times.items()},
        setting={
            "image_and_output": [side, side],
            "features": [1, channels, grid, grid],
            "dtype": "float32",
            "rounds": rounds,
            **machine(device),
        },
    )


def _bare_convolutions(channels: int) -> nn.ModuleList:
    kernels = (1, 1, 1, 1, 3, 3, 3, 3)
    convs = nn.ModuleList(nn.Conv2d(channels, channels, kernel, padding=kernel // 2) for kernel in kernels)
    return convs.to(memory_format=torch.channels_last)


def _alternate(parts: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Milliseconds of each part in each round, after one round of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for index in range(rounds + 1):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if index:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times
