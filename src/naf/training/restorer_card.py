"""The card of a restorer's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from naf.training.card import LIBRARY, PRECISION, ModelCard
from naf.training.network import find_restorer
from naf.weight_record import WeightRecord


def restorer_card(record: WeightRecord, evaluation: Mapping[str, Any] | None = None, file: str = "") -> ModelCard:
    """The card of a restorer's weights; arguments as :func:`naf.training.card.upsampler_card`.

    Raises:
        ValueError: for a record of no restorer, or a licence that is no identifier.
    """
    about, known = record.about, find_restorer(record.upsampler)
    if known is None:
        raise ValueError(f"{record.upsampler!r} is no restorer's weights, expected denoise-NAME")
    settings = ", ".join(f"{key}={value!r}" for key, value in record.config.items())
    noise = about.get("noise", "")
    return ModelCard(
        title=f"{known.name}: weights for denoising",
        summary=f"{known.summary} ({known.cls.__name__} of {LIBRARY}). Takes a photo with noise, gives it without.",
        usage=f'import naf.restoration\n\nrestorer = naf.restoration.create("{known.name}", '
        f'weights="{file or "hf:USER/REPOSITORY"}")\n'
        "restored = restorer.restore(noisy)  # (B, 3, H, W), values from 0 to 1 plus noise",
        training={
            **{key: value for key, value in about.items() if key not in (*PRECISION, "licence", "licence_note")},
            "configuration": settings,
        },
        evaluation=evaluation or {},
        precision=". ".join(about[key] for key in PRECISION if key in about),
        intended_use="Photos with noise of the kind it was trained on" + (f" ({noise})" if noise else "") + ", RGB on "
        "the 0 … 1 scale, neither clamped nor normalised; research.",
        limits=[
            "Trained on artificial noise, independent from pixel to pixel: that of cameras after their processing is "
            "another.",
            "Other kinds and levels of noise need weights of their own.",
            "Learned on few or on particular images, it carries their bias; test it on your own before relying.",
        ],
        licence=about.get("licence", "unknown"),
        licence_note=about.get("licence_note", ""),
        tags=["image-denoising", known.cls.__name__.lower()],
        citation=f"The method: {known.paper}.",
        pipeline_tag="image-to-image",
    )
