"""LoftUp's objectives of both stages (arXiv 2504.14032 and the authors' later training scripts)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from naf.normalization import normalize
from naf.training.example import Example
from naf.training.objective import Objective
from naf.training.objectives.affinity import affinity_error
from naf.training.objectives.ema import follow, frozen_copy
from naf.training.objectives.multiview import MultiView, project, random_projection
from naf.training.objectives.requirements import extract_of, segments_of
from naf.training.objectives.segments import refine
from naf.training.objectives.similarity import exact, in_output_space
from naf.upsamplers.base import Upsampler
from naf.upsamplers.extractor import resize_image
from naf.upsamplers.featup_objective import total_variation
from naf.upsamplers.featup_views import Jitter

_JITTER = Jitter(zoom=(0.9, 1.1), zoomed=1.0, flipped=0.0, padding=8)
_VIEWS = {1: 4, 2: 2}
_VARIATION = {1: 0.001, 2: 0.05}  # weight of the total variation
_REFINEMENT = {1: 0.8, 2: 0.5}  # share of the way to the mean of a segment
_AFFINITY = 20.0
_PROJECTION = 64  # dimensions
_MARGIN = 0.1  # of the compared region on each side
_DECAY, _EVERY = 0.99, 10  # of the teacher


class LoftUpObjective(Objective):
    """Targets from segments, multi-view reconstruction, and total variation.

    Stage 1 upsamples `Example.target`, the features of `image01`, to its size. The target is the bicubic upsampling
    of the same features, moved by 0.8 towards the mean of each segment. Terms: `refined` (mean squared error),
    `reconstruction` (4 views), `variation` (weight 0.001).

    Stage 2 upsamples `Example.features` to the size of the image that they are of, `image01` reduced. A teacher, which
    follows the upsampler, does the same for a crop of `image01` that has this size, so it sees more; its features are
    moved by 0.5 towards the mean of each segment. Affinity matrices of both over the middle 80 % of the crop are
    compared. Terms: `affinity` (weight 20), `reconstruction` (2 views), `variation` (weight 0.05). Stage 2 starts from
    an upsampler that stage 1 has trained: the teacher is a copy of it as it is at the first step, and is checkpointed.

    Features are compared, as there, in a random projection to 64 dimensions where that is not said otherwise;
    `Example.guidance` is not used. Differences from the authors' scripts: segments are a partition of the image, each
    id one segment, where SA-1B has overlapping masks; views are zoomed on both axes alike and cropped back to the size
    of the image; one crop a step; crops start at whole cells (there multiples of 16 pixels); the total variation is of
    the features (in stage 1 there of their projection's squared length); the images of a batch share all draws. Of the
    norm of the features see :func:`naf.training.objectives.similarity.in_output_space`.

    The authors train with AdamW, lr 1e-4 in stage 1 and 1e-3 in stage 2, and clip the norm of the gradient to 1e-4 in
    the first 10 steps; that is up to the configuration.

    Args:
        channels: of the features.
        stage: 1 or 2.
        stride: of the backbone, pixels a cell; the downsampler's patches have this side.

    Raises:
        ValueError: for another stage, or if one of the others is no positive integer.
    """

    needs_extract: ClassVar[bool] = True
    needs_segments: ClassVar[bool] = True

    def __init__(self, channels: int, stage: Literal[1, 2] = 1, stride: int = 16) -> None:
        super().__init__()
        if stage not in _VIEWS:
            raise ValueError(f"stage is {stage!r}, expected 1 or 2")
        self.stage = stage
        self.multiview = MultiView(channels, stride, _VIEWS[stage], _JITTER)
        self.teacher: tuple[Upsampler, ...] = ()  # in a tuple, not to be one of the modules that are trained
        self._restored: dict[str, Tensor] = {}

    def forward(self, upsampler: Upsampler, example: Example) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`."""
        extract, segments = extract_of(example, "LoftUpObjective"), segments_of(example, "LoftUpObjective")
        seen = example.image01 if self.stage == 1 else _reduced(example)
        features = example.target if self.stage == 1 else example.features
        size = (seen.shape[2], seen.shape[3])
        hr = exact(upsampler(normalize(seen), features, size))
        projection = random_projection(hr.shape[1], _PROJECTION, example.generator, hr)
        terms: dict[str, Tensor] = {}
        if self.stage == 1:
            smooth = project(exact(in_output_space(upsampler, features)), projection)
            smooth = F.interpolate(smooth, size=size, mode="bicubic", align_corners=False)
            refined = refine(smooth, segments, _REFINEMENT[1])
            terms["refined"] = F.mse_loss(project(hr, projection), refined)
            loss = terms["refined"]
        else:
            terms["affinity"] = self._affinity(upsampler, hr, example, extract, segments)
            loss = _AFFINITY * terms["affinity"]
        errors = self.multiview(
            hr, seen, lambda image01: in_output_space(upsampler, extract(image01)), projection, example.generator
        )
        terms["reconstruction"] = errors.clamp(min=0).mean()
        terms["variation"] = total_variation(hr)
        loss = loss + terms["reconstruction"] + _VARIATION[self.stage] * terms["variation"]
        return {"loss": loss, **terms}

    def after_step(self, upsampler: Upsampler, step: int) -> None:
        """Every tenth step the teacher follows the upsampler."""
        if self.teacher and (step + 1) % _EVERY == 0:
            follow(self.teacher[0], upsampler, _DECAY)

    def get_extra_state(self) -> dict[str, Tensor]:
        """The teacher's state; empty before the first step of stage 2."""
        return dict(self.teacher[0].state_dict()) if self.teacher else self._restored

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take a teacher's state, for the next step to go on from."""
        self.teacher, self._restored = (), state

    def _teacher(self, upsampler: Upsampler) -> Upsampler:
        if not self.teacher:
            self.teacher = (frozen_copy(upsampler),)
            if self._restored:
                self.teacher[0].load_state_dict(self._restored)
                self._restored = {}
        return self.teacher[0]

    def _affinity(
        self,
        upsampler: Upsampler,
        hr: Tensor,
        example: Example,
        extract: Callable[[Tensor], Tensor],
        segments: Tensor,
    ) -> Tensor:
        """The teacher's features of a crop against the upsampler's (B, C, H, W) of the whole, at the crop's place."""
        crop, region = zip(
            *(
                _place(side, full, example.stride, example.generator)
                for side, full in zip(hr.shape[2:], example.image01.shape[2:], strict=True)
            ),
            strict=True,
        )
        with torch.no_grad():
            part = example.image01[:, :, *crop]
            sharp = self._teacher(upsampler)(normalize(part), extract(part), hr.shape[2:])
            sharp = refine(exact(sharp), segments[:, *crop], _REFINEMENT[2])
        own = hr[:, :, *region]
        sharp = F.interpolate(sharp, size=own.shape[2:], mode="bilinear", align_corners=False)
        return affinity_error(_middle(own), _middle(sharp))


def _reduced(example: Example) -> Tensor:
    """The image that the input features are of, as far as the example tells."""
    size = (example.stride * example.features.shape[2], example.stride * example.features.shape[3])
    full = (example.image01.shape[2], example.image01.shape[3])
    if size[0] > full[0] or size[1] > full[1]:
        raise ValueError(
            f"example.features have grid {tuple(example.features.shape[2:])}, {size} pixels, expected at most {full}: "
            "stage 2 takes crops of this size from image01"
        )
    return resize_image(example.image01, size)


def _place(side: int, full: int, stride: int, generator: torch.Generator) -> tuple[slice, slice]:
    """Along one axis: a crop of `side` of `full` pixels at whole cells, and the same part of the whole in `side`."""
    start = stride * int(torch.randint((full - side) // stride + 1, (), generator=generator))
    low = start * side // full
    return slice(start, start + side), slice(low, low + max(1, side * side // full))


def _middle(x: Tensor) -> Tensor:
    """(B, C, H, W) without a tenth on each side."""
    top, left = (int(_MARGIN * side) for side in x.shape[2:])
    return x[:, :, top : x.shape[2] - top, left : x.shape[3] - left]
