"""What an objective needs of an example and may not find there."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from naf.training.example import Example


def extract_of(example: Example, objective: str) -> Callable[[Tensor], Tensor]:
    """`Example.extract`.

    Raises:
        ValueError: if it is None.
    """
    if example.extract is None:
        raise ValueError(
            f"example.extract is None, expected a function: {objective} runs the backbone on images of its own, which "
            "neither label maps nor cached features offer"
        )
    return example.extract


def segments_of(example: Example, objective: str) -> Tensor:
    """`Example.segments`, (B, S, S).

    Raises:
        ValueError: if it is None, or does not cover `Example.image01` with integers.
    """
    if example.segments is None:
        raise ValueError(
            f"example.segments is None, expected (B, S, S) integers: {objective} needs data with segments, such as "
            "BSDS500, CamVid or DAVIS"
        )
    images, _, *size = example.image01.shape
    if example.segments.shape != (images, *size) or example.segments.is_floating_point():
        raise ValueError(
            f"example.segments has shape {tuple(example.segments.shape)} and dtype {example.segments.dtype}, expected "
            f"{(images, *size)} integers: one for each pixel of image01"
        )
    return example.segments
