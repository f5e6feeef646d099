"""What each step on the CPU gives, every pair measured side by side: python benchmarks/cpu_steps.py --threads 2.

The setting is that of `naf bench quick`: 448x448 pixels, 128 channels a branch, features (1, 384, 28, 28), x16.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

import naf
from naf.benchmark.measure import machine
from naf.ops.buffers import new_buffer
from naf.ops.norm_act import Moments
from naf.ops.rope import rope_angles, rope_periods, rotate, rotate_adjacent

SIDE, GRID, CHANNELS, WIDTH, ROWS = 448, 28, 384, 128, 28
CPU = torch.device("cpu")

Work = Callable[[], object]


def main() -> None:
    """Print a line for each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    about = machine(CPU)
    print(f"{about['device']}, {about['threads']} threads, torch {about['torch']}, medians of {options.rounds} rounds")
    with torch.inference_mode():
        for name, before, after in (
            first_touch(),
            band_layout(),
            statistics_of_a_map(),
            rotation(),
            averaging(2),
            averaging(4),
            *attention(),
        ):
            times = alternate((before, after), options.rounds)
            print(f"{name:64s} {times[0]:7.1f} → {times[1]:7.1f} ms  {times[1] / times[0]:.2f}x", flush=True)


def alternate(parts: tuple[Work, ...], rounds: int) -> list[float]:
    """Median milliseconds of each part, after one round of warm-up."""
    times: list[list[float]] = [[] for _ in parts]
    for index in range(rounds + 1):
        for part, own in zip(parts, times, strict=True):
            start = time.perf_counter()
            part()
            if index:
                own.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(own) for own in times]


def first_touch() -> tuple[str, Work, Work]:
    """A fresh output in small and in large pages."""
    shape = (1, SIDE, SIDE, CHANNELS)
    return (
        "fresh output of 294 MiB, filled: 4 KiB pages → 2 MiB pages",
        lambda: torch.empty(shape).fill_(1),
        lambda: new_buffer(shape, torch.float32, CPU).fill_(1),
    )


def band_layout() -> tuple[str, Work, Work]:
    """A 1x1 convolution of bands whose strides do not, and do, say that channels come last."""
    x, weight = torch.randn(SIDE, SIDE, WIDTH), torch.randn(WIDTH, WIDTH, 1, 1)
    bands = x.split(ROWS)
    return (
        "1x1 convolution in bands: batch dimension added last → first",
        lambda: [F.conv2d(band.permute(2, 0, 1)[None], weight) for band in bands],
        lambda: [F.conv2d(band[None].permute(0, 3, 1, 2), weight) for band in bands],
    )


def statistics_of_a_map() -> tuple[str, Work, Work]:
    """Channel means and variances of a map in bands."""
    bands = torch.randn(SIDE, SIDE, WIDTH).split(ROWS)

    def in_passes() -> None:
        for band in bands:
            pixels = band.flatten(0, 1)
            centred = pixels - pixels.mean(0)
            centred.sum(0), centred.square_().sum(0)

    def at_once() -> None:
        moments = Moments()
        for band in bands:
            moments.add(band)

    return "statistics of a map: five passes → batch norm's kernel", in_passes, at_once


def rotation() -> tuple[str, Work, Work]:
    """RoPE of both branches' maps in bands, written to the queries."""
    bands = torch.randn(SIDE, SIDE, WIDTH).split(ROWS)
    queries, periods = torch.empty(SIDE, SIDE, 2 * WIDTH), rope_periods(64, 100.0)
    rows, cols = rope_angles(SIDE, periods), rope_angles(SIDE, periods)

    def each(turn: Callable[[Tensor, Tensor, Tensor], object]) -> None:
        for half in queries.chunk(2, dim=-1):
            for place, (band, angles) in enumerate(zip(bands, rows.split(ROWS), strict=True)):
                turn(band, angles, half[place * ROWS : (place + 1) * ROWS])

    return (
        "RoPE of the queries: four real passes → one complex product",
        lambda: each(lambda band, angles, out: out.copy_(rotate(band[None], angles, cols, heads=2)[0])),
        lambda: each(lambda band, angles, out: rotate_adjacent(band, angles, cols, heads=2, out=out)),
    )


def averaging(pool: int) -> tuple[str, Work, Work]:
    """The last 3x3 convolution where the image is larger than the output."""
    weight = torch.randn(WIDTH, WIDTH, 3, 3).contiguous(memory_format=torch.channels_last)
    box = torch.full((1, 1, pool, pool), 1 / pool**2)
    wide = F.conv2d(weight.flatten(0, 1)[:, None], box, padding=pool - 1)[:, 0].unflatten(0, (WIDTH, WIDTH))
    wide = wide.contiguous(memory_format=torch.channels_last)
    x = torch.randn(1, SIDE + 2, SIDE + 2, WIDTH).permute(0, 3, 1, 2)
    return (
        f"3x3 convolution, then averaging over {pool}x{pool} → one kernel at stride {pool}",
        lambda: F.avg_pool2d(F.conv2d(x, weight), pool),
        lambda: F.conv2d(x, wide, stride=pool),
    )


def attention() -> list[tuple[str, Work, Work]]:
    """Batched products and grouped convolutions, for both dtypes."""
    made: list[tuple[str, Work, Work]] = []
    for dtype in (torch.float32, torch.bfloat16):
        upsampler = naf.create("naf").to(dtype)
        image, features = torch.randn(1, 3, SIDE, SIDE, dtype=dtype), torch.randn(1, CHANNELS, GRID, GRID, dtype=dtype)
        guidance = upsampler.encode(image, (SIDE, SIDE), (GRID, GRID))

        def products(guidance: naf.upsamplers.base.Guidance = guidance, features: Tensor = features) -> Tensor:
            with patch("naf.ops.attention_blocked._LEAST_PIXELS", 1 << 30):
                return guidance.upsample(features)

        def convolutions(guidance: naf.upsamplers.base.Guidance = guidance, features: Tensor = features) -> Tensor:
            return guidance.upsample(features)

        name = str(dtype).removeprefix("torch.")
        made.append((f"attention, {name}: batched products → grouped convolutions", products, convolutions))
    return made


if __name__ == "__main__":
    main()
