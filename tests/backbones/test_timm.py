"""timm models, without their weights."""

import pytest
import timm
import torch

import naf
from naf.backbones import BackboneError
from naf.backbones import timm as timm_backbone


def create(name, **config):
    torch.manual_seed(0)
    return naf.backbones.create(name, pretrained=False, **config)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("name", "input_size", "stride", "channels"),
    [
        ("vit_tiny_patch16_224", (96, 128), 16, 192),
        ("vit_small_patch14_reg4_dinov2", (98, 126), 14, 384),
        ("convnext_atto", (96, 128), 32, 320),
        ("resnet10t", (96, 128), 32, 512),
        ("swin_tiny_patch4_window7_224", (96, 128), 32, 768),
    ],
)
def test_any_image_size_gives_aligned_features(name, input_size, stride, channels):
    backbone = create(name)
    result = backbone.extract(torch.rand(2, 3, 100, 130))
    assert (result.stride, backbone.channels) == (stride, channels)
    assert result.input_size == input_size
    assert result.features.shape == (2, channels, input_size[0] // stride, input_size[1] // stride)


def test_a_model_of_one_fixed_size_gets_the_image_resized_to_it():
    result = create("hiera_tiny_224").extract(torch.rand(1, 3, 100, 130))
    assert result.input_size == (224, 224)
    assert result.grid == (7, 7)


def test_features_are_the_models_own_after_its_final_norm_and_its_own_normalisation():
    backbone = create("vit_tiny_patch16_224")
    image = torch.rand(1, 3, 64, 48)
    mean, std = (torch.tensor(backbone.model.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.inference_mode():
        tokens = backbone.model.forward_features((image - mean) / std)[:, 1:]
        expected = tokens.transpose(1, 2).unflatten(2, (4, 3))
        torch.testing.assert_close(backbone(image), expected, atol=1e-5, rtol=1e-5)


def test_layers_are_chosen_by_index():
    shallow, deep = create("convnext_atto", layer=0), create("convnext_atto", layer=-2)
    assert (shallow.stride, deep.stride) == (4, 16)
    image = torch.rand(1, 3, 64, 64)
    assert shallow(image).shape[1:] == (shallow.channels, 16, 16)
    assert deep(image).shape[1:] == (deep.channels, 4, 4)
    with pytest.raises(ValueError, match=r"layer is 9, expected -4 … 3"):
        create("convnext_atto", layer=9)


def test_bfloat16_models_give_bfloat16_features():
    features = create("vit_tiny_patch16_224", dtype=torch.bfloat16)(torch.rand(1, 3, 32, 32))
    assert features.dtype == torch.bfloat16
    assert features.isfinite().all()


def test_unknown_models_are_refused_with_near_names():
    with pytest.raises(BackboneError, match=r"'resnet10' is unknown to timm.*resnet10t"):
        naf.backbones.create("resnet10")


def test_weights_that_cannot_be_had_are_explained(monkeypatch):
    def no_network(*args, **kwargs):
        raise RuntimeError("the hub does not answer")

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(BackboneError, match=r"weights of 'resnet10t' cannot be had: the hub does not answer"):
        naf.backbones.create("resnet10t")


def test_auto_takes_the_embedded_backbone_offline_and_says_so(monkeypatch):
    monkeypatch.setattr(timm_backbone, "is_available", lambda name: False)
    monkeypatch.setattr(naf.backbones, "is_available", lambda name: False)
    backbone = naf.backbones.create("auto", max_side=64)
    assert backbone.name == "embedded"
    assert "trained network) in place of DINOv3" in backbone.note
    assert backbone.extract(torch.rand(1, 3, 128, 128)).input_size == (64, 64)


def test_auto_takes_dinov3_where_it_can_be_had(monkeypatch):
    monkeypatch.setattr(naf.backbones, "is_available", lambda name: True)
    made = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: made(name, **{**options, "pretrained": False}))
    backbone = naf.backbones.create("auto")
    assert backbone.name == naf.backbones.AUTO
    assert backbone.note == ""
    assert backbone(torch.rand(1, 3, 32, 48)).shape == (1, 384, 2, 3)


def test_availability_is_no_when_offline_and_nothing_is_cached(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert not timm_backbone.is_available(naf.backbones.AUTO)
