"""LiFT's objective (arXiv 2403.14625)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.normalization import normalize
from naf.training.example import Example
from naf.training.objective import Objective
from naf.training.objectives.requirements import extract_of
from naf.training.objectives.similarity import cosine_distance, exact, in_output_space
from naf.upsamplers.base import Upsampler

Distance = Literal["cosine", "l1", "l2"]

_DISTANCES: Mapping[Distance, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine_distance,
    "l1": F.l1_loss,
    "l2": F.mse_loss,
}
_LEVELS = 4  # the smallest image is every fourth pixel


class LiFTObjective(Objective):
    """Doubling the features of a subsampled image must give those of the image, over two octaves.

    Images are subsampled by taking every second and every fourth pixel, without a filter. Each guides the upsampling
    of its own features to the grid of the next larger one. Terms: `half`, `quarter`.

    Sides that are no multiple of four cells are cropped to one, at a place drawn anew, and the backbone runs on the
    crop. `Example.guidance` and `Example.features` are not used.

    Args:
        distance: "cosine" (1 - cosine, mean over positions), "l1" or "l2" (means over all values).

    Raises:
        ValueError: for another distance.
    """

    needs_extract: ClassVar[bool] = True

    def __init__(self, distance: Distance = "cosine") -> None:
        super().__init__()
        if distance not in _DISTANCES:
            raise ValueError(f"distance is {distance!r}, expected one of {', '.join(get_args(Distance))}")
        self.distance = distance

    def forward(self, upsampler: Upsampler, example: Example) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`."""
        extract, distance = extract_of(example, "LiFTObjective"), _DISTANCES[self.distance]
        image01 = _crop(example.image01, _LEVELS * example.stride, example.generator)
        images = [image01, image01[:, :, ::2, ::2], image01[:, :, ::4, ::4]]
        is_whole = image01.shape == example.image01.shape
        features = [example.target if is_whole else extract(image01), *(extract(image) for image in images[1:])]
        half, quarter = (
            distance(
                exact(upsampler(normalize(image), coarse, fine.shape[2:])), exact(in_output_space(upsampler, fine))
            )
            for image, coarse, fine in zip(images[1:], features[1:], features, strict=False)
        )
        return {"loss": half + quarter, "half": half, "quarter": quarter}


def _crop(image01: Tensor, multiple: int, generator: torch.Generator) -> Tensor:
    """The largest crop of (B, 3, H, W) whose sides are multiples."""
    height, width = (side // multiple * multiple for side in image01.shape[2:])
    if not height or not width:
        raise ValueError(
            f"example.image01 has sides {tuple(image01.shape[2:])}, expected at least {multiple}: four cells of "
            f"{multiple // _LEVELS} pixels, since LiFTObjective takes every fourth pixel"
        )
    top, left = (
        int(torch.randint(full - side + 1, (), generator=generator))
        for full, side in zip(image01.shape[2:], (height, width), strict=True)
    )
    return image01[:, :, top : top + height, left : left + width]
