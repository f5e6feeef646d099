"""The loaders of pretrained networks, on the files that they are for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from PIL import Image

from experiments.pretrained import DeepLab, MobileNetV2, SqueezeNet
from naf.data import read_image
from naf.weights import WeightsError, read_state

DATA = (Path(__file__).parents[2] / ".." / "shared" / "data").resolve()
FILES = {
    SqueezeNet: DATA / "weights" / "squeezenet1_0_imagenet.safetensors",
    MobileNetV2: DATA / "weights" / "mobilenet_v2_imagenet.safetensors",
    DeepLab: DATA / "weights" / "deeplab_mnetedgetpu_cityscapes.safetensors",
}
# Layer: channels, stride, whether its values are signed.
LAYERS = {
    (SqueezeNet, "fire4"): (256, 4, False),
    (SqueezeNet, "fire8"): (512, 8, False),
    (SqueezeNet, "fire9"): (512, 16, False),
    (MobileNetV2, "b06"): (32, 8, True),
    (MobileNetV2, "b13"): (96, 16, True),
    (MobileNetV2, "b14.expand"): (576, 16, False),
    (DeepLab, "b08"): (40, 8, True),
    (DeepLab, "b16"): (72, 16, True),
    (DeepLab, "b21"): (144, 16, True),
    (DeepLab, "f"): (128, 16, False),
}
# Deeplab f in CamVid's classes: of road, sidewalk, building, … in the order of the file.
CAMVID = (3, 4, 1, 1, 7, 2, 6, 6, 5, 4, 0, 9, 10, 8, 8, 8, 8, 10, 10)

pytestmark = pytest.mark.skipif(not (DATA / "weights").is_dir(), reason="../shared/data/weights is not there")


@pytest.mark.parametrize(("kind", "layer"), LAYERS, ids=lambda value: getattr(value, "__name__", value))
def test_cells_are_centred_on_their_pixels_within_half_a_pixel(kind, layer):
    channels, stride, is_signed = LAYERS[kind, layer]
    backbone = kind(str(FILES[kind]), layer=layer)
    if layer == "f":
        backbone.head.pooled.convolution.weight.zero_()  # the whole image's mean sees all pixels
    side = 896 if layer in ("b21", "f") else 352  # the cell's field must fit in
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
    features = backbone(image)
    cell = side // stride // 2
    assert features.shape == (1, backbone.channels, side // stride, side // stride)
    assert (backbone.channels, backbone.stride) == (channels, stride)
    assert (features.min() < 0) == is_signed
    features[0, :, cell, cell].square().sum().backward()
    seen = image.grad.abs().sum((0, 1))
    for axis in (0, 1):
        first, *_, last = seen.sum(axis).nonzero().flatten().tolist()
        assert first > 0
        assert last < side - 1
        assert abs((first + last) / 2 - (stride * cell + (stride - 1) / 2)) <= 0.5


def test_deeplab_names_what_is_in_a_street():
    backbone, state = DeepLab(FILES[DeepLab], "f"), read_state(FILES[DeepLab])
    weight = (state["logits.q"].float() - state["logits.zero"]) * state["logits.scale"]
    right = known = 0
    for path in sorted((DATA / "CamVid" / "test").glob("*.jpg"))[::20]:
        label = torch.from_numpy(np.array(Image.open(DATA / "CamVid" / "testannot" / f"{path.stem}.png")))[4:356]
        logits = F.conv2d(backbone(read_image(path)[None, :, 4:356]), weight, state["logits.bias"])
        named = torch.tensor(CAMVID)[F.interpolate(logits, size=label.shape, mode="bilinear").argmax(1)[0]]
        right += (named == label)[label != 11].sum().item()
        known += (label != 11).sum().item()
    assert len(json.loads(FILES[DeepLab].with_suffix(".json").read_text())["classes"]) == len(CAMVID)
    assert right / known > 0.8


@pytest.mark.parametrize("kind", FILES, ids=lambda kind: kind.__name__)
def test_hydra_makes_them_from_plain_strings(kind):
    backbone = instantiate({"_target_": f"experiments.pretrained.{kind.__name__}", "weights": str(FILES[kind])})
    assert isinstance(backbone, kind)
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("kind", FILES, ids=lambda kind: kind.__name__)
def test_wrong_layers_and_files_are_refused(kind):
    with pytest.raises(ValueError, match="layer is 'b99', expected one of"):
        kind(FILES[kind], layer="b99")
    with pytest.raises((WeightsError, FileNotFoundError), match="nowhere"):
        kind("nowhere.safetensors")
