"""AnyUp's objective (arXiv 2510.12764 and the official training script)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.training.example import Example
from naf.training.objective import Objective
from naf.training.objectives.augment import augmented_guidance
from naf.training.objectives.jafar import consistency
from naf.training.objectives.requirements import extract_of
from naf.training.objectives.similarity import cosine_distance, in_output_space, min_max_error, similarity_loss
from naf.upsamplers.base import Upsampler
from naf.upsamplers.checks import whole_number


class AnyUpObjective(Objective):
    """Agreement with the features of crops, consistency under augmented guidance, and agreement at the input grid.

    Crops of half the side of `Example.image01`, at whole cells, pass the backbone; the prediction at the full grid is
    cut at each crop's place. The consistency term is JAFAR's, with the input features and the guidance of
    :func:`augmented_guidance`. The last term holds the prediction, averaged over the cells of the input grid, against
    the input. Terms: `cosine`, `min_max`, `consistency`, `coarse`.

    The official sizes (448 pixels, guidance and input at 224) are a choice of the geometry; with an odd number of
    cells a crop has one less than half. `Example.target` gives its grid alone.

    Args:
        consistency: weight of the consistency term.
        coarse: weight of the agreement at the input grid.
        crops: how many, at the same places in all images of the batch.

    Raises:
        ValueError: for fewer crops than one.
    """

    needs_extract: ClassVar[bool] = True

    def __init__(self, consistency: float = 0.1, coarse: float = 0.1, crops: int = 4) -> None:
        super().__init__()
        self.consistency, self.coarse = consistency, coarse
        self.crops = whole_number("crops", crops, 1)

    def forward(self, upsampler: Upsampler, example: Example) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`."""
        extract = extract_of(example, "AnyUpObjective")
        guidance, features, stride = example.guidance, example.features, example.stride
        grid = (example.target.shape[2], example.target.shape[3])
        places = _places(grid, self.crops, example.generator)
        images = torch.cat(
            [
                example.image01[:, :, stride * y.start : stride * y.stop, stride * x.start : stride * x.stop]
                for y, x in places
            ]
        )
        target = in_output_space(upsampler, extract(images))
        prediction = upsampler(guidance, features, grid)
        cut = torch.cat([prediction[:, :, y, x] for y, x in places])
        averaged = F.interpolate(prediction, size=features.shape[2:], mode="area")
        terms = {
            "cosine": cosine_distance(cut, target),
            "min_max": min_max_error(cut, target),
            "consistency": consistency(upsampler, guidance, augmented_guidance(guidance, example.generator), features),
            "coarse": similarity_loss(averaged, in_output_space(upsampler, features)),
        }
        loss = terms["cosine"] + terms["min_max"]
        loss = loss + self.consistency * terms["consistency"] + self.coarse * terms["coarse"]
        return {"loss": loss, **terms}


def _places(grid: tuple[int, int], count: int, generator: torch.Generator) -> list[tuple[slice, slice]]:
    """Rows and columns of `count` crops of half the grid."""
    if min(grid) < 2:
        raise ValueError(f"example.target has grid {grid}, expected at least 2 cells on each side: crops take half")
    axes = []
    for cells in grid:
        starts = torch.randint(cells - cells // 2 + 1, (count,), generator=generator).tolist()
        axes.append([slice(start, start + cells // 2) for start in starts])
    return list(zip(*axes, strict=True))
