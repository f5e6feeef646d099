"""The teachers of the embedded backbone: three pretrained networks, and what of their maps is to be predicted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.pretrained import DeepLab, MobileNetV2, SqueezeNet

COMPONENTS = 128  # of each map, at most


class Teachers(nn.Module):
    """The pretrained networks, run on one batch of images with values from 0 to 1."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        squeezenet = folder / "squeezenet1_0_imagenet.safetensors"
        self.fire9, self.fire8 = SqueezeNet(squeezenet, "fire9"), SqueezeNet(squeezenet, "fire8")
        self.mobilenet = MobileNetV2(folder / "mobilenet_v2_imagenet.safetensors", "b14.expand")
        self.b13, self.expand = self.mobilenet.layers[:-1], self.mobilenet.layers[-1]
        self.deeplab = DeepLab(folder / "deeplab_mnetedgetpu_cityscapes.safetensors", "f")

    @torch.no_grad()
    def forward(self, image01: Tensor) -> dict[str, Tensor]:
        """Maps by name, float32; "fire8" at stride 8, the others at stride 16."""
        with torch.autocast("cpu", torch.bfloat16):
            signed = (2 * image01 - 1).contiguous(memory_format=torch.channels_last)
            b13 = self.b13(signed)
            b21 = self.deeplab.layers(signed)
            maps = {
                "fire9": self.fire9(image01),
                "b13": b13,
                "b14.expand": self.expand(b13),
                "b21": b21,
                "f": self.deeplab.head(b21),
                "fire8": self.fire8(image01),
            }
        return {name: value.float() for name, value in maps.items()}


class Projection(nn.Module):
    """Principal components of a teacher's map, half whitened: component i has variance λᵢ^½, the mean square is 1.

    Unwhitened, few components would make up the loss; fully whitened, most of it would be noise.
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        values, vectors = torch.linalg.eigh(covariance)
        kept = min(COMPONENTS, len(values))
        values, vectors = values.flip(0)[:kept].clamp(min=1e-6 * values[-1]), vectors.flip(1)[:, :kept]
        weight = vectors * values.pow(-0.25) / values.sqrt().mean().sqrt()
        self.components = kept
        self.convolution = nn.Conv2d(len(mean), kept, 1).requires_grad_(False)
        self.convolution.load_state_dict({"weight": weight.T[:, :, None, None], "bias": -mean @ weight})

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → (B, min(C, COMPONENTS), h, w)."""
        projected: Tensor = self.convolution(x)
        return projected

    @classmethod
    def fit(cls, maps: Iterator[dict[str, Tensor]]) -> nn.ModuleDict:
        """One for each name, from the statistics of all maps."""
        count: dict[str, int] = {}
        sums: dict[str, Tensor] = {}
        products: dict[str, Tensor] = {}
        for batch in maps:
            for name, value in batch.items():
                rows = value.permute(0, 2, 3, 1).flatten(0, 2).double()
                count[name] = count.get(name, 0) + len(rows)
                sums[name] = sums.get(name, torch.zeros(())) + rows.sum(0)
                products[name] = products.get(name, torch.zeros(())) + rows.T @ rows
        means = {name: sums[name] / count[name] for name in count}
        return nn.ModuleDict(
            {
                name.replace(".", "_"): cls(means[name], products[name] / count[name] - means[name].outer(means[name]))
                for name in count
            }
        )
