"""Square views of photos: which part is seen, at which size, and the label map that fits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_LONGEST = 8  # sides of a photo: what is longer is cut off before resizing, or a banner would fill the memory


@dataclass(frozen=True)
class View:
    """A square of a photo: a box is cut out, resized, cropped, and mirrored if asked for.

    Attributes:
        top: first row of the box, in pixels of the photo.
        left: first column.
        height: rows of the box.
        width: columns.
        resized: (rows, columns) that the box is resized to.
        offset: (row, column) where the crop begins in that.
        side: S, pixels of the crop.
        flip: mirrored left to right.
    """

    top: int
    left: int
    height: int
    width: int
    resized: tuple[int, int]
    offset: tuple[int, int]
    side: int
    flip: bool = False

    @staticmethod
    def center(height: int, width: int, side: int) -> View:
        """The official geometry: the short side is resized to `side`, then the centre is cropped."""
        short = min(height, width)
        rows, columns = min(height, _LONGEST * short), min(width, _LONGEST * short)
        resized = (side * rows // short, side * columns // short)
        offset = (round((resized[0] - side) / 2), round((resized[1] - side) / 2))
        return View((height - rows) // 2, (width - columns) // 2, rows, columns, resized, offset, side)

    @staticmethod
    def random(
        height: int, width: int, side: int, scale: tuple[float, float], flip: bool, generator: torch.Generator
    ) -> View:
        """A square of `scale` times the short side anywhere in the photo, mirrored every second time if `flip`."""
        size, row, column, mirror = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        box = max(1, round(min(height, width) * (scale[0] + size * (scale[1] - scale[0]))))
        top, left = int(row * (height - box + 1)), int(column * (width - box + 1))
        return View(top, left, box, box, (side, side), (0, 0), side, flip and mirror < 0.5)

    def of_image(self, image01: Tensor) -> Tensor:
        """The view of an image, bilinear with antialiasing (as Pillow): (3, H, W), values 0 … 1 → (3, S, S)."""
        box = image01[:, self.top : self.top + self.height, self.left : self.left + self.width]
        resized = F.interpolate(box[None], size=self.resized, mode="bilinear", align_corners=False, antialias=True)[0]
        (row, column), side = self.offset, self.side
        view = resized[:, row : row + side, column : column + side].clamp(0, 1)
        return (view.flip(2) if self.flip else view).contiguous()

    def of_labels(self, labels: Tensor) -> Tensor:
        """The view of a label map, nearest: (H, W) → (S, S)."""
        rows = self.top + self._nearest(0, self.height)
        columns = self.left + self._nearest(1, self.width)
        return labels[rows[:, None], columns.flip(0) if self.flip else columns]

    def _nearest(self, axis: int, box: int) -> Tensor:
        """For each row or column of the crop, the one of the box that holds its centre."""
        position = torch.arange(self.side) + self.offset[axis]
        return (2 * position + 1) * box // (2 * self.resized[axis])
