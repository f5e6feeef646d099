"""NAF's time beside the convolutions that it cannot do without, measured side by side in one run.

The yardstick is the eight inner convolutions of the default encoder, bare, in the same dtype: see
:func:`naf.benchmark.yardsticks.bare_convolutions`. Rounds alternate between the parts, so that a machine that slows
down slows all of them; medians are reported.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from naf.benchmark.clock import alternate
from naf.benchmark.measure import machine, measure
from naf.benchmark.yardsticks import bare_convolutions
from naf.registry import create

HEAD_CHANNELS, HEAD_CLASSES, NARROW_CHANNELS = 4096, 21, 84
"""A linear head on features of a large backbone, and what it should cost about as much as."""

TARGETS = {"forward_ratio": {"float32": 1.5, "bfloat16": 1.7}, "above_output_mib": {"float32": 450.0}}
"""What is aimed at on two CPU threads at the default sizes, at most."""


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
        forward_ratio: forward_ms / yardstick_ms.
        head_ms: a head of 21 classes on 4096 channels, `upsample_linear`, from the same guidance.
        narrow_ms: 84 channels upsampled, from the same guidance.
        head_ratio: head_ms / narrow_ms.
        peak_mib: peak memory of one call above what was in use before it; CPU: resident, CUDA: allocated.
        above_output_mib: the same without the output.
        spread: slowest over fastest round of each part.
        setting: sizes, rounds, machine, versions.
    """

    yardstick_ms: float
    encode_ms: float
    attention_ms: float
    forward_ms: float
    encode_ratio: float
    attention_ratio: float
    forward_ratio: float
    head_ms: float
    narrow_ms: float
    head_ratio: float
    peak_mib: float
    above_output_mib: float
    spread: dict[str, float] = field(default_factory=dict)
    setting: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def quick(
    *,
    side: int = 448,
    grid: int = 28,
    channels: int = 384,
    rounds: int = 5,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> QuickReport:
    """Default NAF on features (1, channels, grid, grid) with image and output side x side, inference.

    Args:
        side: of image and output, pixels.
        grid: rows and columns of the features.
        channels: of the features.
        rounds: measured rounds, after one of warm-up.
        device: where.
        dtype: of module, image, features and yardstick.

    Raises:
        ValueError: for sizes that NAF refuses.
    """
    device = torch.device(device)
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    image, features = randn(1, 3, side, side), randn(1, channels, grid, grid)
    wide, narrow = randn(1, HEAD_CHANNELS, grid, grid), randn(1, NARROW_CHANNELS, grid, grid)
    head = randn(HEAD_CLASSES, HEAD_CHANNELS)
    upsampler = create("naf", weights=None).to(device, dtype)
    size = (side, side)
    with torch.inference_mode():
        output_mib = upsampler(image, features, size).nbytes / (1 << 20)
        with measure(device) as usage:
            upsampler(image, features, size)
        guidance = upsampler.encode(image, size, (grid, grid))
        parts: dict[str, Callable[[], object]] = {
            "yardstick": bare_convolutions(side, device, dtype),
            "encode": lambda: upsampler.encode(image, size, (grid, grid)),
            "attention": lambda: guidance.upsample(features),
            "forward": lambda: upsampler(image, features, size),
            "head": lambda: guidance.upsample_linear(wide, head),
            "narrow": lambda: guidance.upsample(narrow),
        }
        times = alternate(parts, rounds, device)
    median = {name: statistics.median(values) for name, values in times.items()}
    return QuickReport(
        yardstick_ms=median["yardstick"],
        encode_ms=median["encode"],
        attention_ms=median["attention"],
        forward_ms=median["forward"],
        encode_ratio=median["encode"] / median["yardstick"],
        attention_ratio=median["attention"] / median["yardstick"],
        forward_ratio=median["forward"] / median["yardstick"],
        head_ms=median["head"],
        narrow_ms=median["narrow"],
        head_ratio=median["head"] / median["narrow"],
        peak_mib=usage.above_mib,
        above_output_mib=max(0.0, usage.above_mib - output_mib),
        spread={name: max(values) / min(values) for name, values in times.items()},
        setting={
            "image_and_output": [side, side],
            "features": [1, channels, grid, grid],
            "dtype": str(dtype).removeprefix("torch."),
            "rounds": rounds,
            **machine(device),
        },
    )
