"""Frames of a feature video: the colours alone, or photo, coarse and upsampled features side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image
from torch import Tensor

from naf.visualization.pca import to_image
from naf.visualization.sheet import Panel, comparison_sheet

Layout = Literal["side", "result"]

_THREE, _TWO = 584, 861  # pixels of a panel: so many in a row are as wide as Full HD


@dataclass(frozen=True)
class ClipFrames:
    """Makes the frames of one video, all laid out alike.

    Attributes:
        layout: "side" for labelled panels; "result" for the upsampled colours alone, pixel for pixel.
        title: of the panels' headline.
        subtitle: below it.
        backbone: name of the coarse panel.
        theme: "light" or "dark"; of the panels.
    """

    layout: Layout
    title: str = ""
    subtitle: str = ""
    backbone: str = "features"
    theme: str = "light"

    def make(self, image01: Tensor, coarse: Tensor, results: Mapping[str, Tensor]) -> np.ndarray:
        """One frame.

        Args:
            image01: the photo, (3, H, W), values from 0 to 1.
            coarse: colours of the coarse features, (3, h, w), as PCAColors gives them.
            results: colours of the upsampled features, (3, Ho, Wo), by method; "result" takes the first.

        Returns:
            (rows, columns, 3) uint8. Both sides are even, as video needs them: a last row or column is shown twice.
        """
        if self.layout == "result":
            return _even(to_image(next(iter(results.values()))))
        panels = [
            Panel(to_image(image01), "photo", _size(image01)),
            Panel(to_image(coarse), self.backbone, _size(coarse), is_coarse=True),
            *(Panel(to_image(colors), name, _size(colors)) for name, colors in results.items()),
        ]
        is_square = len(panels) == 4 and image01.shape[2] >= image01.shape[1]  # two and two fill a screen best
        sheet = comparison_sheet(
            panels,
            title=self.title,
            subtitle=self.subtitle,
            width=_TWO if is_square else _THREE,
            theme=self.theme,
            columns=2 if is_square else None,
        )
        return _even(sheet)


def _even(picture: Image.Image) -> np.ndarray:
    array = np.asarray(picture)
    return np.pad(array, ((0, array.shape[0] % 2), (0, array.shape[1] % 2), (0, 0)), mode="edge")


def _size(colors: Tensor) -> str:
    return f"{colors.shape[1]}×{colors.shape[2]}"
