"""Draw docs/images/views.jpg, what the page Visualization shows: python docs/site/pictures.py."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

import naf
from naf.data.samples import SAMPLES
from naf.visualization import (
    ColorScale,
    FeatureView,
    Panel,
    Segments,
    attention_image,
    comparison_sheet,
    heat_image,
    heat_range,
    mark,
    to_image,
)

TARGET = Path(__file__).parents[1] / "images" / "views.jpg"
POINT = (190, 285)  # row and column: background close to the collar; its cell holds both
GROUPS = 5


@torch.inference_mode()
def main() -> None:
    """Similarity, attention and segments of the first sample photo, coarse and upsampled."""
    image01 = naf.data.read_image(SAMPLES[0].path)
    size = image01.shape[1], image01.shape[2]
    features = naf.backbones.create("embedded")(image01[None])
    h, w = grid = features.shape[2], features.shape[3]
    guidance = naf.create("naf+").encode(naf.normalize(image01)[None], size, grid)
    views = FeatureView.of_map(features), FeatureView.of_guidance(guidance, features)
    cell = POINT[0] * h // size[0], POINT[1] * w // size[1]
    maps = views[0].similarity(views[0].vector(*cell)), views[1].similarity(views[1].vector(*POINT))
    low, high = heat_range(*maps)
    strip = ColorScale(heat_image(torch.linspace(0, 1, 128)[None], 0, 1), f"{low:.2f}", f"{high:.2f}")
    segments = Segments.fit(features, GROUPS)
    photo = mark(to_image(image01), *POINT, size)
    coarse = heat_image(maps[0], low, high).resize(size[::-1], Image.Resampling.NEAREST)
    panels = [
        Panel(photo, "photo and pixel", SAMPLES[0].credit),
        Panel(mark(coarse, *POINT, size), "similarity", f"{h}x{w}, coarse", scale=strip),
        Panel(mark(heat_image(maps[1], low, high), *POINT, size), "similarity", "naf+", scale=strip),
        Panel(attention_image(image01, guidance.attention(*POINT), grid, POINT, size), "attention", "9x9 cells"),
        Panel(segments.image(segments.labels(views[0])), "segments", f"{h}x{w}, coarse", is_coarse=True),
        Panel(segments.image(segments.labels(views[1])), "segments", f"naf+, {GROUPS} groups"),
    ]
    comparison_sheet(panels, width=360, columns=3).save(TARGET, quality=85)


if __name__ == "__main__":
    main()
