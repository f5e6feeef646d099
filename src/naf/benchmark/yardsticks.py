"""What the machine can do: the ceilings that results are held against.

A floor is the time below which no implementation gets: compulsory bytes at the speed of a plain copy, or arithmetic
at the speed of large dense products, whichever is longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from naf.benchmark.clock import best_of

_INNER_KERNELS = (1, 1, 1, 1, 3, 3, 3, 3)  # of NAF's default encoder, beside the two first layers


@dataclass(frozen=True)
class Rates:
    """Ceilings of a device for one dtype; each the best of several rounds.

    Attributes:
        dtype: of products and convolutions.
        copy_gb_s: bytes read and written by a plain copy, 1e9 a second.
        product_gflop_s: a large square matrix product, 2 a multiply-add, 1e9 a second.
        convolution_gflop_s: a 3x3 convolution of 128 channels, channels last, likewise. On a CPU other libraries
            serve convolutions and products, so the two differ.
    """

    dtype: str
    copy_gb_s: float
    product_gflop_s: float
    convolution_gflop_s: float

    def floor_ms(self, flops: float, traffic: float) -> float:
        """Least time of some work, ms.

        Args:
            flops: 2 a multiply-add.
            traffic: bytes that must be read or written once.
        """
        compute = flops / max(self.product_gflop_s, self.convolution_gflop_s)
        return max(compute, traffic / self.copy_gb_s) / 1e6

    def as_dict(self) -> dict[str, str | float]:
        """Plain values, for JSON."""
        return asdict(self)


def measure_rates(device: torch.device, dtype: torch.dtype, *, is_small: bool = False) -> Rates:
    """Ceilings, in about a second.

    Args:
        device: where.
        dtype: of products and convolutions.
        is_small: sizes for a test, which say little of the machine.
    """
    side, width, mib = (1024, 192, 256) if device.type == "cpu" else (8192, 2048, 1024)
    if is_small:
        side, width, mib = 64, 16, 1
    source = torch.ones(mib << 20, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    conv = nn.Conv2d(128, 128, 3, padding=1, bias=False, device=device).to(dtype)
    conv = conv.to(memory_format=torch.channels_last)
    maps = _maps(128, width, device, dtype)
    with torch.inference_mode():
        copy_ms = best_of(lambda: target.copy_(source), device)
        product_ms = best_of(lambda: a @ b, device)
        convolution_ms = best_of(lambda: conv(maps), device)
    return Rates(
        dtype=str(dtype).removeprefix("torch."),
        copy_gb_s=2 * len(source) / copy_ms / 1e6,
        product_gflop_s=2 * side**3 / product_ms / 1e6,
        convolution_gflop_s=2 * width**2 * 9 * 128**2 / convolution_ms / 1e6,
    )


def bare_convolutions(side: int, device: torch.device, dtype: torch.dtype) -> Callable[[], object]:
    """The eight inner convolutions of NAF's default encoder on side x side pixels, and nothing else.

    Four 1x1 and four 3x3, 128 → 128 channels: same shapes, zero padding, channels last, no norm, no activation, no
    copies.
    """
    convs = nn.ModuleList(nn.Conv2d(128, 128, kernel, padding=kernel // 2) for kernel in _INNER_KERNELS)
    convs = convs.to(device, dtype).to(memory_format=torch.channels_last).requires_grad_(False)
    maps = _maps(128, side, device, dtype)

    def run() -> None:
        for conv in convs:
            conv(maps)

    return run


def _maps(channels: int, side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    maps = torch.randn(1, channels, side, side, device=device, dtype=torch.float32).to(dtype)
    return maps.contiguous(memory_format=torch.channels_last)
