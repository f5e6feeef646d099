"""SqueezeNet 1.0 (ImageNet) from a plain file, as a backbone whose cells lie where an upsampler expects them."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import squeezenet1_0

import naf
from naf.backbones import Backbone

# Layer: how many modules of torchvision's trunk, stride, channels, zeros before and behind the image. So padded, each
# cell is centred on its pixels within half a pixel.
LAYERS = {"fire4": (6, 4, 256, (3, 4)), "fire8": (11, 8, 512, (5, 6)), "fire9": (13, 16, 512, (9, 10))}


class SqueezeNet(Backbone):
    """The trunk up to a layer; features are after its ReLU.

    Args:
        weights: safetensors file under torchvision's names.
        layer: "fire4", "fire8" or "fire9".
    """

    def __init__(self, weights: Path, layer: str = "fire9") -> None:
        super().__init__()
        modules, self.stride, self.channels, (before, behind) = LAYERS[layer]
        self.name = f"SqueezeNet {layer}"
        self.padding = (before, behind, before, behind)
        net = squeezenet1_0()
        net.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
        self.layers = net.features[:modules].eval().requires_grad_(False)

    def _features(self, image01: Tensor) -> Tensor:
        features: Tensor = self.layers(F.pad(naf.normalize(image01), self.padding))
        return features
