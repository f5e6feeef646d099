"""FeatUp's objective for its feed-forward upsampler (arXiv 2403.10516)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from naf.normalization import normalize
from naf.training.example import Example
from naf.training.objective import Objective
from naf.training.objectives.crf import crf_loss
from naf.training.objectives.multiview import MultiView, project, random_projection
from naf.training.objectives.requirements import extract_of
from naf.training.objectives.similarity import exact, in_output_space
from naf.upsamplers.base import Upsampler
from naf.upsamplers.checks import whole_number
from naf.upsamplers.featup_views import Jitter

_JITTER = Jitter(zoom=(1.0, 2.0), padding=20)
_SAMPLES = 1000  # of the random field


class FeatUpObjective(Objective):
    """Multi-view reconstruction and a conditional random field, on the features of `image01` at its own size.

    `Example.target`, the features of `image01`, are upsampled to the size of `image01` under its guidance;
    `Example.guidance` and `Example.features` are not used. Terms: `reconstruction`, `crf`.

    Differences from the official script: the views of a step share their random projection, the images of a batch
    share all draws, and dropout of the downsampler's logits is drawn as its normal approximation (see
    :class:`naf.upsamplers.featup_downsampler.AttentionDownsampler`). Of the upsampler's norm see
    :func:`naf.training.objectives.similarity.in_output_space`.

    The authors train with NAdam at 1e-3, and clip the norm of the gradient to 1e-4 in the first 10 steps; that is up
    to the configuration.

    Args:
        channels: of the features.
        stride: of the backbone, pixels a cell; the downsampler's patches have this side.
        views: jittered views a step.
        projection: dimensions in which features are compared.
        crf: weight of the random field.

    Raises:
        ValueError: if one of the first four is no positive integer.
    """

    needs_extract: ClassVar[bool] = True

    def __init__(
        self, channels: int, stride: int = 16, views: int = 5, projection: int = 30, crf: float = 0.001
    ) -> None:
        super().__init__()
        self.multiview = MultiView(channels, stride, views, _JITTER)
        self.projection, self.crf = whole_number("projection", projection, 1), crf

    def forward(self, upsampler: Upsampler, example: Example) -> dict[str, Tensor]:
        """See :meth:`Objective.forward`."""
        extract, generator = extract_of(example, "FeatUpObjective"), example.generator
        image = normalize(example.image01)
        hr = exact(upsampler(image, example.target, image.shape[2:]))
        projection = random_projection(hr.shape[1], self.projection, generator, hr)
        errors = self.multiview(
            hr, example.image01, lambda seen: in_output_space(upsampler, extract(seen)), projection, generator
        )
        crf = crf_loss(image, project(hr, projection), _SAMPLES, generator)
        terms = {"reconstruction": errors.mean(), "crf": crf}
        return {"loss": terms["reconstruction"] + self.crf * terms["crf"], **terms}
