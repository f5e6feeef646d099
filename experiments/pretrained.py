"""Pretrained convolutional networks from plain files, as backbones whose cells lie where an upsampler expects them.

As published, none of them centres cell (i, j) of a stride-s map at pixel s i + (s - 1) / 2; the paddings here do so
within half a pixel. Sources, layouts and licences of the files: the README beside them.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import naf
from naf.backbones import Backbone
from naf.weights import read_state


class SqueezeNet(Backbone):
    """SqueezeNet 1.0 (Iandola et al., 2016; ImageNet) up to a layer; features are after its ReLU.

    Args:
        weights: safetensors file under torchvision's names.
        layer: "fire4" (256 channels, stride 4), "fire8" (512, stride 8) or "fire9" (512, stride 16).
        max_side: the network sees at most this many pixels on the longer side.

    Raises:
        ValueError: for another layer.
        naf.weights.WeightsError: if there is no such file.
    """

    # Modules of torchvision's trunk, stride, channels, zeros before and behind the normalised image.
    _LAYERS: ClassVar = {
        "fire4": (6, 4, 256, (3, 4)),
        "fire8": (11, 8, 512, (5, 6)),
        "fire9": (13, 16, 512, (9, 10)),
    }

    def __init__(self, weights: str | Path, layer: str = "fire9", *, max_side: int | None = None) -> None:
        super().__init__(max_side)
        _check_layer(layer, self._LAYERS)
        from torchvision.models import squeezenet1_0

        modules, self.stride, self.channels, (before, behind) = self._LAYERS[layer]
        self.name = f"SqueezeNet {layer}"
        self.padding = (before, behind, before, behind)
        net = squeezenet1_0()
        net.load_state_dict({name: value.float() for name, value in read_state(weights).items()})
        self.layers = net.features[:modules]
        _freeze(self)

    def _features(self, image01: Tensor) -> Tensor:
        x = F.pad(naf.normalize(image01), self.padding)
        features: Tensor = self.layers(x.contiguous(memory_format=torch.channels_last))
        return features


class MobileNetV2(Backbone):
    """MobileNetV2 1.0 (Sandler et al., CVPR 2018; ImageNet) up to a layer, decoded from its integer file.

    Args:
        weights: safetensors file with integers and scales; the list of its blocks is beside it as .json.
        layer: "b06" (32 channels, signed, stride 8), "b13" (96, signed, stride 16) or "b14.expand" (576, 0 … 6,
            stride 16).
        max_side: the network sees at most this many pixels on the longer side.

    Raises:
        ValueError: for another layer.
        naf.weights.WeightsError: if there is no such file.
    """

    _LAYERS: ClassVar = {"b06": (8, 32), "b13": (16, 96), "b14.expand": (16, 576)}  # stride, channels

    def __init__(self, weights: str | Path, layer: str = "b13", *, max_side: int | None = None) -> None:
        super().__init__(max_side)
        _check_layer(layer, self._LAYERS)
        self.stride, self.channels = self._LAYERS[layer]
        self.name = f"MobileNetV2 {layer}"
        self.layers = _trunk(_blocks(weights), read_state(weights), layer)
        _freeze(self)

    def _features(self, image01: Tensor) -> Tensor:
        features: Tensor = self.layers((2 * image01 - 1).contiguous(memory_format=torch.channels_last))
        return features


class DeepLab(Backbone):
    """DeepLabV3 on MobileNetEdgeTPU-slim (Cityscapes) up to a layer, decoded from its integer file.

    Args:
        weights: safetensors file with integers and scales; the list of its blocks is beside it as .json.
        layer: "b08" (40 channels, signed, stride 8), "b16" (72, signed, stride 16), "b21" (144, signed, stride 16) or
            "f" (128, after ReLU, stride 16): what the classifier sees, the whole image's pooled features in it.
        max_side: the network sees at most this many pixels on the longer side.

    Raises:
        ValueError: for another layer.
        naf.weights.WeightsError: if there is no such file.
    """

    _LAYERS: ClassVar = {"b08": (8, 40), "b16": (16, 72), "b21": (16, 144), "f": (16, 128)}  # stride, channels

    def __init__(self, weights: str | Path, layer: str = "b21", *, max_side: int | None = None) -> None:
        super().__init__(max_side)
        _check_layer(layer, self._LAYERS)
        self.stride, self.channels = self._LAYERS[layer]
        self.name = f"DeepLab {layer}"
        blocks, state = _blocks(weights), read_state(weights)
        self.layers = _trunk(blocks, state, "b21" if layer == "f" else layer)
        self.head = _Head(blocks, state) if layer == "f" else nn.Identity()
        _freeze(self)

    def _features(self, image01: Tensor) -> Tensor:
        x = (2 * image01 - 1).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.head(self.layers(x))
        return features


class _Convolution(nn.Module):
    """Convolution and activation; at stride 2 the padding is one row and column, before or behind."""

    def __init__(self, layer: dict[str, Any], state: dict[str, Tensor], *, is_last_stride: bool = False) -> None:
        super().__init__()
        name, kernel, stride, dilation = (layer[key] for key in ("name", "kernel", "stride", "dilation"))
        same = dilation * (kernel - 1) // 2
        # Even sizes: pixels 2 i … 2 i + 2, or 2 i - 1 … 2 i + 1 for the last halving, which takes back its drift.
        self.padding = () if stride == 1 else (1, 0, 1, 0) if is_last_stride else (0, 1, 0, 1)
        self.convolution = nn.Conv2d(
            layer["cin"], layer["cout"], kernel, stride, same if stride == 1 else 0, dilation, layer["groups"]
        )
        weight = (state[f"{name}.q"].float() - state[f"{name}.zero"]) * state[f"{name}.scale"].view(-1, 1, 1, 1)
        self.convolution.load_state_dict({"weight": weight, "bias": state[f"{name}.bias"]})
        self.activation = {"relu": nn.ReLU(), "relu6": nn.ReLU6(), None: nn.Identity()}[layer["act"]]

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.convolution(F.pad(x, self.padding) if self.padding else x))
        return activated


class _Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        branch = x
        for part in self:
            branch = part(branch)
        return x + branch


class _Head(nn.Module):
    """DeepLabV3's pooling branch beside a 1x1 branch, joined: (B, 144, h, w) → (B, 128, h, w)."""

    def __init__(self, blocks: list[dict[str, Any]], state: dict[str, Tensor]) -> None:
        super().__init__()
        layers = {block["name"]: block["layers"][0] for block in blocks}
        names = ("head", "aspp0", "image_pooling", "concat_projection")
        self.head, self.local, self.pooled, self.joint = (_Convolution(layers[name], state) for name in names)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        local = self.local(x)
        pooled = self.pooled(x.mean((2, 3), keepdim=True)).expand_as(local)
        joint: Tensor = self.joint(torch.cat([pooled, local], dim=1))
        return joint


def _trunk(blocks: list[dict[str, Any]], state: dict[str, Tensor], layer: str) -> nn.Sequential:
    """The chain of blocks up to a block ("b13") or to a layer within one ("b14.expand")."""
    names = [block["name"] for block in blocks]
    kept = blocks[: names.index(layer.partition(".")[0]) + 1]
    if "." in layer:
        within = [part["name"] for part in kept[-1]["layers"]]
        kept[-1] = {"residual": False, "layers": kept[-1]["layers"][: within.index(layer) + 1]}
    halvings = [part["name"] for part in chain.from_iterable(block["layers"] for block in kept) if part["stride"] == 2]
    trunk = nn.Sequential()
    for block in kept:
        parts = [_Convolution(part, state, is_last_stride=part["name"] == halvings[-1]) for part in block["layers"]]
        trunk.append((_Residual if block["residual"] else nn.Sequential)(*parts))
    return trunk


def _blocks(weights: str | Path) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = json.loads(Path(weights).with_suffix(".json").read_text())["blocks"]
    return blocks


def _freeze(backbone: Backbone) -> None:
    backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _check_layer(layer: str, known: dict[str, Any]) -> None:
    if layer not in known:
        raise ValueError(f"layer is {layer!r}, expected one of {', '.join(known)}")
