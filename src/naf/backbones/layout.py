"""How a network lays out its features, found from tensors alone: attributes of networks are often absent or wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# 112 is a multiple of 7, 8, 14, 16 and 28; 224 of 32 as well. Networks that halve five times fail at 112.
SIDES = (112, 224)

# Class tokens and registers stand before the patches and are few; a hundred queries of a detector stand after them.
MOST_PREFIX = 32


@dataclass(frozen=True)
class Layout:
    """Where the cells are in what a network gives.

    Attributes:
        axes: "tokens" (B, prefix + h·w, C), row by row; "first" (B, C, h, w); "last" (B, h, w, C).
        prefix: tokens before those of the patches: class token, registers.
        stride: input pixels a cell.
        channels: C.
    """

    axes: Literal["tokens", "first", "last"]
    prefix: int
    stride: int
    channels: int

    def to_map(self, output: Tensor, image_size: tuple[int, int]) -> Tensor:
        """Features (B, C, h, w) of what the network gives for an image (H, W), both multiples of the stride.

        Raises:
            ValueError: if its shape is not that of this layout.
        """
        height, width = (side // self.stride for side in image_size)
        shape = {
            "tokens": (self.prefix + height * width, self.channels),
            "first": (self.channels, height, width),
            "last": (height, width, self.channels),
        }[self.axes]
        if tuple(output.shape[1:]) != shape:
            raise ValueError(
                f"the output for {image_size} pixels has shape {tuple(output.shape)}, expected {('B', *shape)} at "
                f"stride {self.stride}: its cells do not tile the image, so features would be misplaced"
            )
        if self.axes == "first":
            return output
        if self.axes == "last":
            return output.permute(0, 3, 1, 2)
        cells: Tensor = output[:, self.prefix :].transpose(1, 2).unflatten(2, (height, width))
        return cells


def find_layout(run: Callable[[Tensor], Tensor], like: Tensor) -> Layout:
    """The layout of a network that takes images of any size, from a square image and one of twice its width.

    Args:
        run: gives the network's output for an image (1, 3, H, W).
        like: dtype and device of the image.

    Raises:
        ValueError: if the output grows with the image in no way that is known.
        Exception: whatever the network raises at the larger size.
    """
    shapes: list[tuple[int, ...]] = []
    for side in SIDES:
        try:
            shapes = [tuple(run(like.new_full((1, 3, side, width), 0.5)).shape) for width in (side, 2 * side)]
        except Exception:  # networks refuse small images in many ways
            if side == SIDES[-1]:
                raise
            continue
        layout = _from_growth(shapes[0], shapes[1], side)
        if layout is not None:
            return layout
    raise ValueError(
        f"the output has shapes {shapes[0]} and {shapes[1]} for {SIDES[-1]} x {SIDES[-1]} and {SIDES[-1]} x "
        f"{2 * SIDES[-1]} pixels, expected a map or tokens of patches after at most {MOST_PREFIX} others, with cells "
        "of 4, 7, 8, 14, 16, 28 or 32 pixels"
    )


def fixed_layout(run: Callable[[Tensor], Tensor], like: Tensor, side: int) -> Layout:
    """The layout of a network that takes square images of one size; arguments and errors as :func:`find_layout`.

    The class token and registers are taken to be fewer than make another row and column.
    """
    shape = tuple(run(like.new_full((1, 3, side, side), 0.5)).shape)
    if len(shape) == 3:
        cells = math.isqrt(shape[1])
        if cells and side % cells == 0:
            return Layout("tokens", shape[1] - cells**2, side // cells, shape[2])
    elif len(shape) == 4 and shape[2] == shape[3] and side % shape[2] == 0:
        return Layout("first", 0, side // shape[2], shape[1])
    raise ValueError(f"the output has shape {shape} for {side} x {side} pixels, expected tokens of patches or a map")


def _from_growth(square: tuple[int, ...], wide: tuple[int, ...], side: int) -> Layout | None:
    if len(square) != len(wide) or len(square) not in (3, 4):
        return None
    grown = [axis for axis, (one, two) in enumerate(zip(square, wide, strict=True)) if one != two]
    if len(square) == 3 and grown == [1]:
        added = wide[1] - square[1]
        cells, prefix = math.isqrt(max(0, added)), square[1] - added
        if cells and cells**2 == added and 0 <= prefix <= MOST_PREFIX and side % cells == 0:
            return Layout("tokens", prefix, side // cells, square[2])
    if len(square) == 4 and grown in ([3], [2]):
        cells = square[2]
        rows = 2 if grown == [3] else 1
        if square[rows] == square[rows + 1] and wide[rows + 1] == 2 * cells and cells and side % cells == 0:
            return Layout("first" if rows == 2 else "last", 0, side // cells, square[1 if rows == 2 else 3])
    return None


def empty_like_parameters(model: torch.nn.Module) -> Tensor:
    """An empty tensor of the dtype and device of a network's first floating-point parameter."""
    first = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), torch.empty(0))
    return first.new_empty(0)
