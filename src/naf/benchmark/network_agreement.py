"""Whether NAF on a device gives what its plain layers give in float64: queries, keys, output, gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from naf.benchmark.point import Point, make_inputs
from naf.upsamplers.base import Upsampler

NETWORK_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
"""Greatest difference over the greatest value in float64. Plain layers in bfloat16 come to 1.5e-2 (gradients)."""


def encode_error(point: Point) -> float:
    """Worst error of queries and keys, over the tolerance, without gradients."""
    (upsampler, image, _), (exact, wide, _) = make_inputs(point), _exact(point)
    grid = point.grid, point.grid
    with torch.inference_mode(), _full_float32():
        found: Any = upsampler.encode(image, point.size, grid)
        expected: Any = exact.encode(wide, point.size, grid)
    return max(_error(getattr(found, x), getattr(expected, x), point) for x in ("queries", "keys"))


def output_error(point: Point, in_mode: Callable[[Upsampler], Callable[..., Any]]) -> float:
    """Error of the output over the tolerance, without gradients.

    Args:
        point: sizes, dtype and device.
        in_mode: gives what is called in the upsampler's place. It is called three times, the last time on inputs of
            its own: what was recorded must follow them.
    """
    (upsampler, image, features), (exact, wide, wide_features) = make_inputs(point), _exact(point)
    forward = in_mode(upsampler)
    with torch.inference_mode(), _full_float32():
        for _ in range(2):
            forward(image.flip(3), features.flip(3), point.size)
        found = forward(image, features, point.size)
        return _error(found, exact(wide, wide_features, point.size), point)


def gradient_error(point: Point) -> float:
    """Worst error of a parameter's gradient over the tolerance; RoPE's random factor is left out."""
    weight = torch.randn(point.channels, *point.size, generator=torch.Generator().manual_seed(1)).to(point.device)
    made = []
    with _full_float32():
        for upsampler, image, features in (make_inputs(point), _exact(point)):
            out = upsampler(image, features, point.size)
            made.append(torch.autograd.grad((out * weight.to(out.dtype)).sum(), [*upsampler.parameters()]))
    return max(_error(found, expected, point) for found, expected in zip(*made, strict=True))


def _exact(point: Point) -> tuple[Upsampler, Tensor, Tensor]:
    """The same numbers in float64, for which there are no kernels."""
    upsampler, image, features = make_inputs(point)
    return upsampler.double(), image.double(), features.double()


@contextmanager
def _full_float32() -> Iterator[None]:
    """Convolutions in float32 proper, not in TensorFloat32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _error(found: Tensor, expected: Tensor, point: Point) -> float:
    error = (found.detach().double() - expected.detach()).abs().max() / expected.detach().abs().max()
    # max() may pass over a NaN.
    return float(error) / NETWORK_TOLERANCE[point.dtype] if error.isfinite() else math.inf
