"""One point of a sweep: an upsampler at one size, measured in this process."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.benchmark.clock import alternate
from naf.benchmark.flops import count_flops
from naf.benchmark.measure import Usage, measure
from naf.benchmark.yardsticks import bare_convolutions, measure_rates
from naf.registry import create, entry
from naf.upsamplers.base import Upsampler
from naf.upsamplers.naf import NAF

_MIB = 1 << 20
_STEP_OVER_FORWARD = 4  # a training step takes some four times a forward call, for what must be expected to take long


@dataclass(frozen=True)
class Point:
    """What is measured; the default is the setting of the efficiency table of the NAF paper.

    Attributes:
        upsampler: name in the registry.
        ratio: output side over grid.
        channels: of the features.
        image_side: rows and columns of the image, pixels.
        grid: rows and columns of the features.
        dtype: of module, image and features.
        device: where.
    """

    upsampler: str
    ratio: int = 16
    channels: int = 384
    image_side: int = 448
    grid: int = 28
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def side(self) -> int:
        """Rows and columns of the output, pixels."""
        return self.grid * self.ratio

    @property
    def size(self) -> tuple[int, int]:
        """Output size (Ho, Wo)."""
        return self.side, self.side

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype itself."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def as_dict(self) -> dict[str, str | int]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Effort:
    """How much time a point may take.

    Attributes:
        rounds: measured calls at most, after one of warm-up.
        seconds: no further round is begun when so much time is spent; where the warm-up alone took longer, it is
            the measurement.
        longest: calls that must be expected to take longer than so many seconds are left out.
        trains: whether forward, backward and step are measured too.
    """

    rounds: int = 5
    seconds: float = 2.0
    longest: float = 5.0
    trains: bool = True


def make_inputs(point: Point) -> tuple[Upsampler, Tensor, Tensor]:
    """Untrained upsampler, image and features of a point; the same numbers each time.

    Raises:
        ValueError: if the upsampler cannot be made for the point.
    """
    about, device, dtype = entry(point.upsampler), torch.device(point.device), point.torch_dtype
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        config = about.config_for(point.channels, max(1, point.image_side // point.grid))
        upsampler = create(point.upsampler, weights=None, **config).to(device, dtype)
        image = torch.randn(1, 3, point.image_side, point.image_side).to(device, dtype)
        features = torch.randn(1, point.channels, point.grid, point.grid).to(device, dtype)
    return upsampler, image, features


def measure_point(point: Point, effort: Effort) -> Iterator[dict[str, Any]]:
    """Measure a point, in parts: what is known stays known if a later part fails.

    Yields:
        Fields of :class:`naf.benchmark.results.Result`.
    """
    device, dtype = torch.device(point.device), point.torch_dtype
    upsampler, image, features = make_inputs(point)
    parameters = sum(p.numel() for p in upsampler.parameters())
    inputs = [image, features, *upsampler.parameters()]
    rates = measure_rates(device, dtype)
    yield {"parameters": parameters, "rates": rates.as_dict()}

    def forward() -> None:
        with torch.no_grad():
            upsampler(image, features, point.size)

    cost = _rounds(forward, effort, device, inputs)
    yield {"forward": cost}
    flops = count_flops(upsampler, image, features, point.size)
    traffic = sum(x.nbytes for x in inputs) + point.channels * math.prod(point.size) * features.element_size()
    floor = rates.floor_ms(flops.full, traffic)
    yield {"gflops_paper": flops.paper / 1e9, "gflops_full": flops.full / 1e9, "floor_ms": floor}
    if type(upsampler) is NAF and upsampler.dim == 256:
        # At low ratios the encoder sees at most four times the output.
        bare = bare_convolutions(min(point.image_side, 4 * point.side), device, dtype)
        with torch.inference_mode():
            times = alternate({"bare": bare, "forward": forward}, 1 if cost["warm_up_only"] else 3, device)
        ratios = [whole / bare for whole, bare in zip(times["forward"], times["bare"], strict=True)]
        yield {"bare_ms": statistics.median(times["bare"]), "forward_to_bare": statistics.median(ratios)}
    if not effort.trains:
        return
    if _STEP_OVER_FORWARD * cost["time_ms"] > 1e3 * effort.longest:
        yield {"left_out": f"training: expected to take over {effort.longest:g} s", "left_out_above_s": effort.longest}
        return
    yield {"training": _rounds(training_step(upsampler, image, features, point.size), effort, device, inputs)}


def forward_peak(point: Point) -> dict[str, Any]:
    """Peak memory of a single forward call in a process that did nothing else, with weights and inputs, MiB."""
    upsampler, image, features = make_inputs(point)
    with torch.no_grad(), measure(point.device) as usage:
        upsampler(image, features, point.size)
    own = sum(x.nbytes for x in (image, features, *upsampler.parameters())) / _MIB
    peak = usage.peak_mib if torch.device(point.device).type == "cuda" else usage.above_mib + own
    return {"peak_mib": peak, "time_ms": usage.seconds * 1e3}


def training_step(
    upsampler: Upsampler,
    image: Tensor,
    features: Tensor,
    output_size: tuple[int, int],
    call: Callable[..., Any] | None = None,
) -> Callable[[], None]:
    """The paper's: a 1x1 convolution to one channel, sum, backward, SGD step on both; inputs without gradients.

    Args:
        upsampler: whose parameters are learned; put into training mode, and changed by each step.
        image: (B, 3, H, W).
        features: (B, C, h, w).
        output_size: (Ho, Wo).
        call: what is called in its place, e.g. the same compiled; None for itself.
    """
    forward = upsampler if call is None else call
    head = nn.Conv2d(features.shape[1], 1, 1).to(features.device, features.dtype)
    optimizer = torch.optim.SGD([*upsampler.parameters(), *head.parameters()], lr=0.01)
    upsampler.train()

    def step() -> None:
        optimizer.zero_grad()
        F.conv2d(forward(image, features, output_size), head.weight, head.bias).sum().backward()
        optimizer.step()

    return step


def _rounds(call: Callable[[], object], effort: Effort, device: torch.device, inputs: list[Tensor]) -> dict[str, Any]:
    """Time and peak memory of a call."""
    usages: list[Usage] = []
    spent = 0.0
    while len(usages) <= effort.rounds and (not usages or spent < effort.seconds):
        with measure(device) as usage:
            call()
        usages.append(usage)
        spent += usage.seconds
    measured = usages[1:] or usages
    times = [usage.seconds * 1e3 for usage in measured]
    above = max(usage.above_mib for usage in measured)
    own = sum(x.nbytes for x in inputs) / _MIB
    return {
        "time_ms": statistics.median(times),
        "spread": max(times) / min(times),
        "rounds": len(measured),
        "warm_up_only": len(usages) == 1,
        "above_mib": above,
        "peak_mib": max(usage.peak_mib for usage in measured) if device.type == "cuda" else above + own,
    }
