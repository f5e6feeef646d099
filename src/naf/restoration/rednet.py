"""RED-Net (Mao et al., "Image Restoration Using Very Deep … Networks", NeurIPS 2016, arXiv 1603.09056).

The network of NAF's repository, whose paper cites a segmentation network of the same name instead: the first
convolution halves the sides, the last transposed one doubles them, and the result is subtracted from the input. Names
in the state dict are its.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from naf.restoration.registry import register
from naf.restoration.tiled import TiledRestorer
from naf.upsamplers.checks import whole_number


@register(
    "rednet",
    paper="arXiv 1603.09056",
    summary="RED-Net: 15 convolutions and 15 transposed ones with symmetric skips",
)
class REDNet(TiledRestorer):
    """Convolutions and as many transposed ones at half the sides; every second output of the first is added again.

    Args:
        num_layers: convolutions, and transposed ones, at least 2.
        num_features: channels.

    Raises:
        ValueError: for values outside the above.
    """

    multiple = 2

    def __init__(self, num_layers: int = 15, num_features: int = 64) -> None:
        super().__init__()
        self.num_layers = count = whole_number("num_layers", num_layers, 2)
        self.num_features = width = whole_number("num_features", num_features, 1)
        first, *others = (
            nn.Sequential(nn.Conv2d(inputs, width, 3, stride=stride, padding=1), nn.ReLU(inplace=True))
            for inputs, stride in [(3, 2), *[(width, 1)] * (count - 1)]
        )
        self.conv_layers = nn.Sequential(first, *others)
        self.deconv_layers = nn.Sequential(
            *(
                nn.Sequential(nn.ConvTranspose2d(width, width, 3, padding=1), nn.ReLU(inplace=True))
                for _ in range(count - 1)
            ),
            nn.ConvTranspose2d(width, 3, 3, stride=2, padding=1, output_padding=1),
        )

    @property
    def reach(self) -> int:
        """Two pixels a layer at half the sides, and those of the first and last layer."""
        return 4 * (self.num_layers - 1) + 2

    @property
    def bytes_per_pixel(self) -> int:
        """Kept maps and those before and after a layer, float32 at a quarter of the pixels, and some room."""
        return self.num_features * (-(-self.num_layers // 2) + 6)

    def _restore(self, noisy: Tensor) -> Tensor:
        x = noisy
        kept: list[Tensor] = []
        most = -(-self.num_layers // 2) - 1
        for index, layer in enumerate(self.conv_layers):
            x = layer(x)
            if index % 2 == 1 and len(kept) < most:
                kept.append(x)
        *others, last = self.deconv_layers
        for index, layer in enumerate(others):
            x = layer(x)
            if (index + 1 + self.num_layers) % 2 == 0 and kept:
                x = F.relu(x + kept.pop())
        residual: Tensor = last(x)
        return noisy - residual
