"""A backbone without weights: histograms of oriented gradients and colour, computed by scikit-image.

It knows nothing of objects. It is there so that everything runs on a machine without a network, on real photos.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from naf.backbones.base import Backbone

_ORIENTATIONS = 8
_COLOR = torch.tensor([1.0, 2.5, 2.5])[None, :, None, None]  # a* and b* of photos span less than L*


class Hog(Backbone):
    """Dense gradient and colour descriptor (HOG: Dalal and Triggs, CVPR 2005), 16 channels a cell.

    Channels: mean of L*, a*, b* (3), their standard deviation (3), contrast of fine and of coarse texture (2), and
    orientation histogram normalised over 3 x 3 cells (8). All are about 0 … 1. No gradient reaches the image.

    Args:
        stride: pixels a cell, at least 4.
        max_side: the descriptor sees at most this many pixels on the longer side.

    Raises:
        ValueError: for a smaller stride.
    """

    name = "hog"
    channels = 8 + _ORIENTATIONS

    def __init__(self, *, stride: int = 16, max_side: int | None = None) -> None:
        super().__init__(max_side)
        if stride < 4:
            raise ValueError(f"stride is {stride!r}, expected at least 4 pixels a cell")
        self.stride = stride

    @torch.no_grad()
    def _features(self, image01: Tensor) -> Tensor:
        maps = [self._describe(image.permute(1, 2, 0).float().cpu().numpy()) for image in image01]
        return torch.stack(maps).to(image01.device)

    def _describe(self, image: np.ndarray) -> Tensor:
        from skimage.color import rgb2lab
        from skimage.feature import hog
        from skimage.filters import gaussian

        stride = self.stride
        lab = torch.from_numpy(rgb2lab(image).astype(np.float32)).permute(2, 0, 1)[None] / 100
        mean = F.avg_pool2d(lab, stride)
        deviation = (F.avg_pool2d(lab.square(), stride) - mean.square()).clamp(min=0).sqrt()
        light = lab[0, 0].numpy()
        smooth = [gaussian(light, sigma, mode="reflect") for sigma in (1.5, 4.0)]  # type: ignore[no-untyped-call]
        texture = torch.from_numpy(np.stack([light - smooth[0], smooth[0] - smooth[1]]))
        contrast = F.avg_pool2d(texture[None].abs(), stride)
        # One more cell on each side, mirrored, so that every cell has its 3 x 3 block.
        padded = np.pad(light, stride, mode="symmetric")
        blocks = hog(padded, _ORIENTATIONS, (stride, stride), (3, 3), block_norm="L2-Hys", feature_vector=False)
        orientation = torch.from_numpy(blocks[:, :, 1, 1].astype(np.float32)).permute(2, 0, 1)[None]
        return torch.cat([mean * _COLOR, deviation * _COLOR, 8 * contrast, orientation], dim=1)[0]
