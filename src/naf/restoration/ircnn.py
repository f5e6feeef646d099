"""IRCNN (Zhang et al., "Learning Deep CNN Denoiser Prior for Image Restoration", CVPR 2017, arXiv 1704.03264).

As in NAF's repository: no batch norm. Names in the state dict are its.
"""

from __future__ import annotations

from torch import Tensor, nn

from naf.restoration.registry import register
from naf.restoration.tiled import TiledRestorer

_DILATIONS = (1, 2, 3, 4, 3, 2, 1)
_WIDTH = 64


@register(
    "ircnn",
    paper="arXiv 1704.03264",
    summary="IRCNN: seven dilated convolutions that predict the noise",
)
class IRCNN(TiledRestorer):
    """3x3 convolutions of 64 channels, dilated by 1 2 3 4 3 2 1, ReLU between; the prediction is subtracted."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, dilation in enumerate(_DILATIONS):
            wide_in, wide_out = (3 if index == end else _WIDTH for end in (0, len(_DILATIONS) - 1))
            layers += [
                nn.Conv2d(wide_in, wide_out, 3, padding=dilation, dilation=dilation),
                nn.ReLU(inplace=True),
            ]
        self.model = nn.Sequential(*layers[:-1])

    @property
    def reach(self) -> int:
        """The sum of the dilations."""
        return sum(_DILATIONS)

    @property
    def bytes_per_pixel(self) -> int:
        """The maps before and after a convolution, a copy that the library makes, and some room."""
        return 4 * 4 * _WIDTH

    def _restore(self, noisy: Tensor) -> Tensor:
        noise: Tensor = self.model(noisy)
        return noisy - noise
