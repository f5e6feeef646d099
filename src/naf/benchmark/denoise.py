"""NAF's attention at ratio 1, the sliding window of the denoiser, beside the convolutions of its encoder.

The yardstick is that of :mod:`naf.benchmark.quick`, whatever the guidance channels. Both backends of the attention run
in turn with the other parts; medians are reported. Memory is that of one call in a process that did nothing else.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from naf import registry, restoration
from naf.benchmark.clock import alternate
from naf.benchmark.measure import machine, measure
from naf.benchmark.yardsticks import bare_convolutions
from naf.ops.attention import Backend, neighborhood_attention
from naf.ops.neighborhood import make_neighborhood
from naf.upsamplers.naf_guidance import NeighborhoodGuidance

TRAINING_SIDE, TRAINING_BATCH = 64, 4
"""Of the crops whose forward and backward pass is measured."""

MEMORY_MIB = 600.0
"""What a call at the default sizes shall stay under."""

_CODE = "from naf.benchmark.denoise import main; main()"


@dataclass(frozen=True)
class DenoiseReport:
    """Result of :func:`denoise`; times are medians in ms, memory in MiB.

    Attributes:
        yardstick_ms: eight bare convolutions of 128 channels.
        encode_ms: image → queries, which are the keys.
        window_ms: queries, keys, image → output by the backend "window".
        blocked_ms: the same by "blocked".
        forward_ms: the whole call with the backend that is chosen by default.
        training_window_ms: attention of a batch of crops, forward and backward, by "window".
        training_blocked_ms: the same by "blocked".
        peak_mib: resident memory of one call above what was in use before it.
        spread: slowest over fastest round of each part.
        setting: sizes, rounds, machine, versions.
    """

    yardstick_ms: float
    encode_ms: float
    window_ms: float
    blocked_ms: float
    forward_ms: float
    training_window_ms: float
    training_blocked_ms: float
    peak_mib: float
    spread: dict[str, float] = field(default_factory=dict)
    setting: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def denoise(*, side: int = 448, dim: int = 256, kernel: int = 15, rounds: int = 5) -> DenoiseReport:
    """NAF as a denoiser on one image, CPU, float32, inference; and its attention in training.

    Args:
        side: of the image, pixels.
        dim: guidance channels.
        kernel: pixels of the window's side.
        rounds: measured rounds, after one of warm-up.

    Raises:
        ValueError: for sizes that NAF refuses.
        RuntimeError: if the process that measures memory fails.
    """
    device, generator = torch.device("cpu"), torch.Generator().manual_seed(0)
    noisy = torch.rand(1, 3, side, side, generator=generator)
    restorer = restoration.create("naf", weights=None, dim=dim, kernel_size=kernel)
    upsampler = registry.create("naf", weights=None, dim=dim, heads_attn=1, kernel_size=kernel)

    def encode() -> NeighborhoodGuidance:
        guidance = upsampler.encode(noisy, (side, side), (side, side))
        assert isinstance(guidance, NeighborhoodGuidance)
        return guidance

    with torch.inference_mode():
        guidance = encode()
        values = noisy.permute(0, 2, 3, 1)[:, None].contiguous()

        def attend(backend: Backend) -> Tensor:
            return neighborhood_attention(
                guidance.queries,
                guidance.keys,
                values,
                guidance.neighborhood,
                scale=guidance.scale,
                backend=backend,
            )

        parts: dict[str, Callable[[], object]] = {
            "yardstick": bare_convolutions(side, device, torch.float32),
            "encode": encode,
            "window": lambda: attend("window"),
            "blocked": lambda: attend("blocked"),
            "forward": lambda: restorer(noisy),
        }
        times = alternate(parts, rounds, device)
    steps = {f"training_{backend}": _training_step(backend, dim, kernel) for backend in ("window", "blocked")}
    times |= alternate(steps, rounds, device)
    return DenoiseReport(
        **{f"{name}_ms": statistics.median(values) for name, values in times.items()},
        peak_mib=_peak_in_child(side, dim, kernel),
        spread={name: max(values) / min(values) for name, values in times.items()},
        setting={
            "image": [side, side],
            "dim": dim,
            "kernel": kernel,
            "training": [TRAINING_BATCH, 3, TRAINING_SIDE, TRAINING_SIDE],
            "dtype": "float32",
            "rounds": rounds,
            **machine(device),
        },
    )


def _training_step(backend: Backend, dim: int, kernel: int) -> Callable[[], None]:
    """The attention of a batch of crops, with gradients for queries and keys."""
    generator = torch.Generator().manual_seed(1)
    shape = TRAINING_BATCH, 1, TRAINING_SIDE, TRAINING_SIDE
    queries = torch.randn(*shape, dim, generator=generator).requires_grad_()
    values = torch.rand(*shape, 3, generator=generator)
    neighborhood = make_neighborhood(shape[2:], shape[2:], kernel)

    def step() -> None:
        out = neighborhood_attention(queries, queries, values, neighborhood, scale=dim**-0.5, backend=backend)
        torch.autograd.grad(out.sum(), queries)

    return step


def _peak_in_child(side: int, dim: int, kernel: int) -> float:
    request = {"side": side, "dim": dim, "kernel": kernel, "threads": torch.get_num_threads()}
    child = subprocess.run(  # noqa: S603 (our own code)
        [sys.executable, "-c", _CODE], input=json.dumps(request), capture_output=True, text=True, check=False
    )
    if child.returncode:
        last = (child.stderr.strip().splitlines() or [f"status {child.returncode}"])[-1]
        raise RuntimeError(f"the process that measures memory ended with {last}")
    return float(json.loads(child.stdout.splitlines()[-1])["peak_mib"])


def main() -> None:
    """The child's side: one call, after a small one that loads the libraries."""
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    restorer = restoration.create("naf", weights=None, dim=request["dim"], kernel_size=request["kernel"])
    noisy = torch.rand(1, 3, request["side"], request["side"])
    with torch.inference_mode():
        restorer(noisy[:, :, :32, :32])
        with measure() as usage:
            restorer(noisy)
    sys.stdout.write(json.dumps({"peak_mib": usage.above_mib}) + "\n")
