"""DnCNN (Zhang et al., "Beyond a Gaussian Denoiser", IEEE TIP 2017, arXiv 1608.03981).

NAF's repository has no DnCNN although the paper's table does; this is the network of the DnCNN paper at 17 layers, of
which the 0.56 M parameters of the table are those without biases before batch norms.
"""

from __future__ import annotations

from torch import Tensor, nn

from naf.restoration.registry import register
from naf.restoration.tiled import TiledRestorer
from naf.upsamplers.checks import whole_number


@register(
    "dncnn",
    paper="arXiv 1608.03981",
    summary="DnCNN: 17 convolutions with batch norm that predict the noise",
)
class DnCNN(TiledRestorer):
    """Plain 3x3 convolutions, batch norm in all but the first and the last; the prediction is subtracted.

    Args:
        num_layers: convolutions, at least 2; 17 for known noise levels, 20 for unknown ones in the DnCNN paper.
        num_features: channels between them.

    Raises:
        ValueError: for values outside the above.
    """

    def __init__(self, num_layers: int = 17, num_features: int = 64) -> None:
        super().__init__()
        self.num_layers = whole_number("num_layers", num_layers, 2)
        self.num_features = width = whole_number("num_features", num_features, 1)
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(num_layers - 2):
            conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.model = nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))

    @property
    def reach(self) -> int:
        """One pixel a convolution; in evaluation mode batch norms see no other pixel."""
        return self.num_layers

    @property
    def bytes_per_pixel(self) -> int:
        """The maps before and after a convolution, a copy that the library makes, and some room."""
        return 4 * 4 * self.num_features

    def _restore(self, noisy: Tensor) -> Tensor:
        noise: Tensor = self.model(noisy)
        return noisy - noise
