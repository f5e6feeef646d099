"""Checks of what callers hand in, made once at the public edge; what lies inside trusts its inputs."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor


def pair_of_sizes(name: str, value: Sequence[int]) -> tuple[int, int]:
    """`value` as (rows, columns).

    Raises:
        ValueError: if it is no pair of positive integers.
    """
    try:
        rows, cols = (whole_number(name, side, 1) for side in value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}, expected a pair of positive integers (rows, columns)") from None
    return rows, cols


def whole_number(name: str, value: int, low: int, high: int | None = None) -> int:
    """`value` as an integer from `low` to `high`; integers of numpy and of 0-d tensors are taken too.

    Raises:
        ValueError: if it is no integer or lies outside.
    """
    expected = f"an integer from {low} to {high}" if high is not None else f"an integer of at least {low}"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < low or (high is not None and number > high):
        raise ValueError(f"{name} is {value!r}, expected {expected}")
    return number


def check_map(name: str, x: Tensor, channels: int | None = None) -> None:
    """A batch of maps (B, C, H, W), floating point, no side empty, C as given.

    Raises:
        TypeError: if it is no floating-point tensor.
        ValueError: if its shape is another.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} is a {type(x).__name__}, expected a torch.Tensor of shape (B, C, H, W)")
    if x.ndim != 4:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected four dimensions (B, C, H, W)")
    if not x.is_floating_point():
        raise TypeError(
            f"{name} has dtype {x.dtype}, expected a floating-point dtype"
            + (": divide 8-bit images by 255 first" if x.dtype == torch.uint8 else "")
        )
    if 0 in x.shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected every dimension to be at least 1")
    if channels is not None and x.shape[1] != channels:
        raise ValueError(f"{name} has {x.shape[1]} channels (shape {tuple(x.shape)}), expected {channels}")


def check_channels(features: Tensor, channels: int | None, hint: str) -> None:
    """Features of the width that a network was made for; `hint` ends the sentence that says otherwise.

    Raises:
        ValueError: if they have another.
    """
    if channels is not None and features.shape[1] != channels:
        raise ValueError(f"features have {features.shape[1]} channels, expected {channels}{hint}")


def check_finite(name: str, x: Tensor) -> None:
    """No NaN and no infinity.

    Skipped while torch.compile traces, where looking at values would break the graph.

    Raises:
        ValueError: if there is one; says how many.
    """
    if torch.compiler.is_compiling():
        return
    finite = x.isfinite()
    if not finite.all():
        raise ValueError(
            f"{name} holds {int((~finite).sum())} NaN or infinite values of {x.numel()}, expected finite values: "
            "group norm would spread them over the whole output"
        )
