"""Attention at ratio 1 on a CUDA device: are the sliding-window kernels right, how fast and how lean are they?

    python benchmarks/attention_window_gpu.py [--side 448 --kernel 15 --heads 1 --dim 256 --channels 3]

The default is image restoration: 448x448 pixels, kernel 15, one head of 256 channels, values of 3. For float32 and
bfloat16, compares output and gradients with float64 (the output with the reference, gradients with the blocked backend;
with the reference on a crop, since it gathers all keys), and two runs with each other. Then times forward, and forward
with backward, of the window kernels, the generic Triton kernels and the blocked backend, all tried in turn, and gives
the memory that each takes beside its operands. Needs the package alone and some 10 GB.

Exit status: 0 if all agree, 1 if not, 2 where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from naf.benchmark.agreement import TOLERANCE
from naf.benchmark.clock import alternate
from naf.benchmark.measure import machine, measure
from naf.ops.attention import neighborhood_attention
from naf.ops.attention_blocked import BlockedAttention
from naf.ops.neighborhood import Neighborhood, make_neighborhood

_CROP = 64  # side on which the reference gives gradients: it keeps the gathered keys of every pixel

Attention = Callable[..., Tensor]


def main() -> int:
    """Run it; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("side", 448), ("kernel", 15), ("heads", 1), ("dim", 256), ("channels", 3), ("batch", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=20, help="timed rounds; medians are printed")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: PyTorch finds none. Nothing was measured.", file=sys.stderr)
        return 2
    # Only now: where there is no device, Triton may be missing.
    from naf.ops.attention_triton import TritonAttention
    from naf.ops.attention_window_triton import WindowTritonAttention

    device = torch.device("cuda")
    about = machine(device)
    print(f"{about['device']}, torch {about['torch']}, {options}")
    backends = {"window": WindowTritonAttention, "generic": TritonAttention, "blocked": BlockedAttention}
    passes = True
    for dtype in (torch.float32, torch.bfloat16):
        passes &= check(options, WindowTritonAttention.apply, dtype, device)
    row = "{:9s} {:8s} {:>11s} {:>19s} {:>12s} {:>20s}"
    print(row.format("dtype", "kernels", "forward ms", "with backward ms", "forward MiB", "with backward MiB"))
    for dtype in (torch.float32, torch.bfloat16):
        calls = {name: work(options, backend.apply, dtype, device) for name, backend in backends.items()}
        times = [
            alternate({name: pair[step] for name, pair in calls.items()}, options.rounds, device, warm_up=3)
            for step in (0, 1)
        ]
        for name, pair in calls.items():
            memory = [above_mib(call, device) for call in pair]
            medians = [f"{statistics.median(step[name]):.2f}" for step in times]
            print(row.format(str(dtype).removeprefix("torch."), name, *medians, *(f"{mib:.0f}" for mib in memory)))
    print("all agree" if passes else "NOT ALL AGREE")
    return 0 if passes else 1


def operands(
    options: argparse.Namespace, side: int, dtype: torch.dtype, device: torch.device
) -> tuple[tuple[Tensor, Tensor, Tensor], Neighborhood]:
    """Queries, keys and values as the network makes them, channels last, and their windows."""
    generator = torch.Generator(device).manual_seed(0)

    def randn(width: int) -> Tensor:
        shape = (options.batch, side, side, options.heads, width)
        return torch.randn(shape, generator=generator, device=device).to(dtype).permute(0, 3, 1, 2, 4)

    neighborhood = make_neighborhood((side, side), (side, side), options.kernel)
    return (randn(options.dim), randn(options.dim), randn(options.channels)), neighborhood


def check(options: argparse.Namespace, attention: Attention, dtype: torch.dtype, device: torch.device) -> bool:
    """Print how far the kernels are from float64, and whether two runs agree to the bit; whether all is well."""
    scale = options.dim**-0.5
    passes = True

    def blocked(*arguments: Any) -> Tensor:
        return neighborhood_attention(*arguments[:4], scale=arguments[4], backend="blocked")

    def reference(*arguments: Any) -> Tensor:
        return neighborhood_attention(*arguments[:4], scale=arguments[4], backend="reference")

    for side, exact, name in ((options.side, blocked, "blocked"), (min(_CROP, options.side), reference, "reference")):
        inputs, neighborhood = operands(options, side, dtype, device)
        found = value_and_gradients(attention, inputs, neighborhood, scale)
        again = value_and_gradients(attention, inputs, neighborhood, scale)
        doubles = [x.double() for x in inputs]
        expected = list(value_and_gradients(exact, doubles, neighborhood, scale))
        with torch.no_grad():
            expected[0] = reference(*doubles, neighborhood, scale)
        errors = [distance(x, y) for x, y in zip(found, expected, strict=True)]
        repeats = all(torch.equal(x, y) for x, y in zip(found, again, strict=True))
        short = str(dtype).removeprefix("torch.")
        passes &= repeats and max(errors) <= TOLERANCE[short]
        numbers = ", ".join(f"{what} {x:.1e}" for what, x in zip(("out", "q", "k", "v"), errors, strict=True))
        print(
            f"{short}, {side}x{side}: {numbers} (bar {TOLERANCE[short]:.0e}; gradients beside {name} in float64); "
            f"two runs {'agree to the bit' if repeats else 'DIFFER'}",
            flush=True,
        )
    return passes


def value_and_gradients(
    attention: Attention, inputs: Sequence[Tensor], neighborhood: Neighborhood, scale: float
) -> tuple[Tensor, ...]:
    """The output and the gradients of q, k and v, for a gradient of the output that is always the same."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = attention(*leaves, neighborhood, scale)
    generator = torch.Generator(out.device).manual_seed(1)
    grad_out = torch.randn(out.shape, generator=generator, device=out.device).to(inputs[2].dtype)
    return out.detach(), *torch.autograd.grad(out, leaves, grad_out)


def distance(actual: Tensor, expected: Tensor) -> float:
    """Greatest difference over the greatest value expected."""
    return float((actual.double() - expected.double()).abs().max() / expected.double().abs().max())


def work(
    options: argparse.Namespace, attention: Attention, dtype: torch.dtype, device: torch.device
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The forward call, and forward with backward."""
    inputs, neighborhood = operands(options, options.side, dtype, device)
    leaves = [x.requires_grad_() for x in inputs]
    grad_out = torch.ones_like(inputs[2])
    scale = options.dim**-0.5

    def forward() -> None:
        with torch.no_grad():
            attention(*leaves, neighborhood, scale)

    def with_backward() -> None:
        torch.autograd.grad(attention(*leaves, neighborhood, scale), leaves, grad_out)

    return forward, with_backward


def above_mib(call: Callable[[], object], device: torch.device) -> float:
    """Memory of a call beside what was there, MiB."""
    with measure(device) as usage:
        call()
    return usage.above_mib


if __name__ == "__main__":
    sys.exit(main())
