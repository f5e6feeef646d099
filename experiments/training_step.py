"""One training step of NAF at the paper's first stage: time beside its floor, and memory.

Images of 512 pixels, guidance of 128, features of 384 channels from 16 x 16 to 32 x 32 cells, given as a feature cache
gives them; forward, squared error, backward, AdamW. The floor is what no training gets below: forward and backward of
the encoder's inner convolutions alone, at the speed of the library's convolutions. Memory is the peak of a fresh
process.

    python experiments/training_step.py --threads 2
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable

import torch
from rich.table import Table
from torch import nn

import naf
from naf.benchmark.clock import alternate
from naf.benchmark.measure import machine
from naf.cli.console import console, print_table
from naf.training.example import Example
from naf.training.l2 import L2

_SIDE, _GUIDANCE, _COARSE, _FINE, _CHANNELS = 512, 128, 16, 32, 384
_INNER_KERNELS = (1, 1, 1, 1, 3, 3, 3, 3)  # of NAF's default encoder, beside the two first layers
_CPU = torch.device("cpu")


def example(batch: int) -> Example:
    """A step's images and features."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator)

    return Example(
        image01=torch.rand(batch, 3, _SIDE, _SIDE, generator=generator),
        guidance=randn(3, _GUIDANCE, _GUIDANCE).contiguous(memory_format=torch.channels_last),
        features=randn(_CHANNELS, _COARSE, _COARSE),
        target=randn(_CHANNELS, _FINE, _FINE),
        stride=_SIDE // _FINE,
        extract=None,
        segments=None,
        generator=generator,
        step=0,
    )


def training_step(batch: int) -> Callable[[], object]:
    """A step of the default NAF."""
    upsampler, objective, given = naf.create("naf", weights=None).train(), L2(), example(batch)
    optimizer = torch.optim.AdamW(upsampler.parameters(), lr=2e-4, weight_decay=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        objective(upsampler, given)["loss"].backward()
        optimizer.step()

    return step


def floor(batch: int) -> Callable[[], object]:
    """The inner convolutions, 128 → 128 channels, one after the other: forward and both gradients."""
    convolutions = nn.Sequential(*(nn.Conv2d(128, 128, kernel, padding=kernel // 2) for kernel in _INNER_KERNELS))
    convolutions = convolutions.to(memory_format=torch.channels_last)
    maps = torch.randn(batch, 128, _GUIDANCE, _GUIDANCE).contiguous(memory_format=torch.channels_last)
    maps.requires_grad_()
    gradient = torch.ones_like(maps, requires_grad=False)

    def run() -> None:
        convolutions(maps).backward(gradient)

    return run


def peak_mib() -> float:
    """Highest resident memory of this process until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(batch: int, threads: int) -> tuple[float, float]:
    """MiB of a fresh process before its first step, and the highest of three steps."""
    command = [sys.executable, __file__, "--memory", "--batch", str(batch), "--threads", str(threads)]
    before, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(before), float(peak)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="only print the memory before and at the peak, MiB")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    step = training_step(arguments.batch)
    if arguments.memory:
        before = peak_mib()
        for _ in range(3):
            step()
        print(before, peak_mib())
        return
    before, peak = memory(arguments.batch, arguments.threads)
    parts = {"training step": step, "floor: bare convolutions": floor(arguments.batch)}
    times = {name: statistics.median(times) for name, times in alternate(parts, arguments.rounds, _CPU).items()}
    least = times["floor: bare convolutions"]
    table = Table("", "ms", "of the floor", "peak MiB", "above the start", box=None, pad_edge=False)
    for name, ms in times.items():
        held = (f"{peak:.0f}", f"{peak - before:.0f}") if name == "training step" else ("", "")
        table.add_row(name, f"{ms:.0f}", f"{ms / least:.2f}", *held)
    print_table(table)
    about = machine(_CPU)
    console.print(
        f"batch {arguments.batch}, {about['threads']} threads, {about['device']}, torch {about['torch']}", markup=False
    )


if __name__ == "__main__":
    main()
