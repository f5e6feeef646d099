"""Vision models of transformers, made small and at random, and loaded from folders."""

import json
import sys

import pytest
import torch

import naf
from naf.backbones import BackboneError
from naf.backbones.fingerprint import fingerprint_of

transformers = pytest.importorskip("transformers")

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TEXT = {**TOWER, "vocab_size": 50}


def vit(kind, patch_size, **more):
    config = getattr(transformers, f"{kind}Config")
    return getattr(transformers, f"{kind}Model")(config(**TOWER, patch_size=patch_size, **more))


def two_towers(kind, **vision):
    config = getattr(transformers, f"{kind}Config")(vision_config={**TOWER, **vision}, text_config=TEXT)
    return getattr(transformers, f"{kind}Model")(config)


def dinov2():
    return vit("Dinov2", 14, image_size=56)


def convnext():
    return transformers.ConvNextModel(transformers.ConvNextConfig(depths=[1] * 4, hidden_sizes=[8, 8, 16, 24]))


def mae():
    decoder = {f"decoder_{key}": value for key, value in TOWER.items()}
    config = transformers.ViTMAEConfig(**TOWER, **decoder, patch_size=16, image_size=64)
    return transformers.ViTMAEForPreTraining(config)


def sam():
    tower = {key: value for key, value in TOWER.items() if key != "intermediate_size"}
    config = transformers.SamVisionConfig(
        **tower, mlp_dim=48, image_size=64, patch_size=16, output_channels=12, window_size=2, global_attn_indexes=[1]
    )
    return transformers.SamVisionModel(config)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def saved(tmp_path):
    """Saves a model with its normalisation; the name to create it by."""

    def save(make, processor=None):
        torch.manual_seed(0)
        model = make()
        for parameter in model.parameters():  # zero biases and unit norms would hide what is left out
            parameter.data += 0.05 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path)
        processor = {"image_mean": MEAN, "image_std": STD} if processor is None else processor
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
        return f"hf:{tmp_path}", model.eval()

    return save


def normalised(image01):
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    return (image01 - mean) / std


# Model, its part that sees images, stride, tokens before the patches.
MODELS = {
    "dinov2": (dinov2, None, 14, 1),
    "dinov2 with registers": (
        lambda: vit("Dinov2WithRegisters", 14, image_size=56, num_register_tokens=4),
        None,
        14,
        5,
    ),
    "dinov3": (lambda: vit("DINOv3ViT", 16, image_size=64, num_register_tokens=4), None, 16, 5),
    "siglip": (lambda: two_towers("Siglip", patch_size=16, image_size=64), "vision_model", 16, 0),
    "vit": (lambda: vit("ViT", 8, image_size=32), None, 8, 1),
}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_features_are_the_patch_tokens_of_the_last_hidden_state(saved, name):
    make, part, stride, prefix = MODELS[name]
    label, model = saved(make)
    backbone = naf.backbones.create(label)
    result = backbone.extract(torch.rand(2, 3, 4 * stride + 2, 6 * stride - 1))
    assert (backbone.name, backbone.note) == (label, "")
    assert (result.stride, backbone.channels, result.grid) == (stride, 32, (4, 6))
    assert result.features.dtype == torch.float32
    image = torch.rand(2, 3, 4 * stride, 6 * stride)
    model = getattr(model, part) if part else model
    offers = {} if "dino" in name else {"interpolate_pos_encoding": True}
    tokens = model(normalised(image), **offers).last_hidden_state[:, prefix:]
    assert tokens.shape[1] == 24
    torch.testing.assert_close(backbone(image), tokens.transpose(1, 2).unflatten(2, (4, 6)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_clip_gives_its_patch_tokens_after_the_final_norm(saved):
    label, model = saved(lambda: two_towers("CLIP", patch_size=32, image_size=64))
    image = torch.rand(1, 3, 64, 96)
    tower = model.vision_model
    tokens = tower(normalised(image), interpolate_pos_encoding=True).last_hidden_state
    expected = tower.post_layernorm(tokens)[:, 1:].transpose(1, 2).unflatten(2, (2, 3))
    torch.testing.assert_close(naf.backbones.create(label)(image), expected, atol=1e-5, rtol=1e-5)


def test_the_text_tower_is_not_loaded(saved):
    label, model = saved(lambda: two_towers("Siglip", patch_size=16, image_size=64))
    backbone = naf.backbones.create(label)
    assert type(backbone.model).__name__ == "SiglipVisionModel"
    assert sum(p.numel() for p in backbone.parameters()) < sum(p.numel() for p in model.parameters())


@torch.no_grad()
def test_siglip2_of_any_aspect_gets_patches(saved):
    label, model = saved(lambda: two_towers("Siglip2", patch_size=16, num_patches=16))
    image = torch.rand(2, 3, 32, 48)
    patches = [
        normalised(image)[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16].permute(0, 2, 3, 1).flatten(1)
        for row in range(2)
        for column in range(3)
    ]
    tokens = model.vision_model(
        torch.stack(patches, 1), torch.ones(2, 6, dtype=torch.long), torch.tensor([[2, 3]] * 2)
    ).last_hidden_state
    expected = tokens.transpose(1, 2).unflatten(2, (2, 3))
    torch.testing.assert_close(naf.backbones.create(label)(image), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_maps_of_convolutional_networks_are_taken_as_they_are(saved):
    label, model = saved(convnext)
    backbone = naf.backbones.create(label)
    image = torch.rand(1, 3, 96, 64)
    assert (backbone.stride, backbone.channels) == (32, 24)
    torch.testing.assert_close(backbone(image), model(normalised(image)).last_hidden_state, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_masked_autoencoders_see_all_patches_in_their_order(saved):
    label, model = saved(mae)
    encoder = model.vit
    encoder.config.mask_ratio = 0.0
    image = torch.rand(1, 3, 64, 64)
    shuffled = encoder(normalised(image), noise=torch.rand(1, 16))  # not a model's parameter: the order of patches
    order = shuffled.ids_restore[..., None].expand(-1, -1, 32)
    tokens = shuffled.last_hidden_state[:, 1:].gather(1, order)
    backbone = naf.backbones.create(label)
    torch.testing.assert_close(backbone(image), tokens.transpose(1, 2).unflatten(2, (4, 4)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backbone(image), backbone(image), atol=0, rtol=0)


def test_a_model_of_one_size_gets_the_image_resized_to_it(saved):
    label, _ = saved(sam)
    result = naf.backbones.create(label).extract(torch.rand(1, 3, 100, 130))
    assert result.input_size == (64, 64)
    assert result.features.shape == (1, 12, 4, 4)


def test_dtype_and_max_side(saved):
    label, _ = saved(dinov2)
    backbone = naf.backbones.create(label, dtype=torch.bfloat16, max_side=56)
    result = backbone.extract(torch.rand(1, 3, 112, 84))
    assert result.features.dtype == torch.bfloat16
    assert result.input_size == (56, 42)


@pytest.mark.parametrize(
    ("processor", "mean", "note"),
    [
        ({}, naf.normalization.IMAGENET_MEAN, "normalised as ImageNet is"),
        ({"do_normalize": False, "image_mean": MEAN, "image_std": STD}, (0.0, 0.0, 0.0), ""),
    ],
)
def test_normalisation_that_is_missing_or_off(saved, processor, mean, note):
    label, _ = saved(dinov2, processor)
    backbone = naf.backbones.create(label)
    assert backbone.mean == mean
    assert note in backbone.note
    assert bool(note) == bool(backbone.note)


def test_without_a_processor_imagenet_is_taken_and_said(saved, tmp_path):
    label, _ = saved(dinov2)
    (tmp_path / "preprocessor_config.json").unlink()
    backbone = naf.backbones.create(label)
    assert backbone.mean == naf.normalization.IMAGENET_MEAN
    assert backbone.note.startswith(label)


def test_fingerprints_are_of_the_weights(saved):
    label, model = saved(lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**TOWER, image_size=64)))
    # Such a checkpoint has no pooler: one made at random would be another each time.
    first, second = (fingerprint_of(naf.backbones.create(label)) for _ in range(2))
    assert first == second
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.save_pretrained(label.removeprefix("hf:"))
    assert fingerprint_of(naf.backbones.create(label)) != first


def test_gradients_reach_the_image(saved):
    label, _ = saved(dinov2)
    image = torch.rand(1, 3, 28, 28, requires_grad=True)
    naf.backbones.create(label)(image).square().sum().backward()
    assert image.grad.abs().max() > 0


# Errors --------------------------------------------------------------------------------------------------------------


def test_models_of_text_are_refused(saved):
    label, _ = saved(lambda: transformers.BertModel(transformers.BertConfig(**TEXT)))
    with pytest.raises(BackboneError, match="is no vision model: BertModel takes no pixel_values"):
        naf.backbones.create(label)


def test_pickled_weights_are_refused(saved, tmp_path):
    label, model = saved(dinov2)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"cannot be had: .*model\.safetensors"):
        naf.backbones.create(label)


def test_weights_with_gaps_are_refused(saved, tmp_path):
    label, model = saved(dinov2)
    state = model.state_dict()
    del state["layernorm.weight"]
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(BackboneError, match=r"its weights lack 1 tensors of Dinov2Model, among them layernorm\.weight"):
        naf.backbones.create(label)


def test_code_of_a_repository_is_not_run_unasked(saved, tmp_path):
    label, _ = saved(dinov2)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text("raise SystemExit('this was run')\n")
    with pytest.raises(BackboneError, match=r"cannot be had: .*custom code.*trust_remote_code=True") as caught:
        naf.backbones.create(label)
    assert "\n" not in str(caught.value)


def test_repositories_out_of_reach_are_named_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BackboneError, match=r"'hf:nobody/nothing@v1' cannot be had: .*connect") as caught:
        naf.backbones.create("hf:nobody/nothing@v1")
    assert "\n" not in str(caught.value)


def test_a_revision_is_passed_on(monkeypatch):
    asked = {}

    def note(place, **options):
        asked.update(options, place=place)
        raise OSError("enough")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", note)
    with pytest.raises(BackboneError, match="enough"):
        naf.backbones.create("hf:user/repository@abc")
    assert asked == {"place": "user/repository", "revision": "abc", "trust_remote_code": False}


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BackboneError, match=r"needs transformers: pip install 'naf-upsampler\[hf\]'"):
        naf.backbones.create("hf:facebook/dinov2-small")


def test_unknown_keywords_are_refused():
    with pytest.raises(TypeError, match="layer"):
        naf.backbones.create("hf:facebook/dinov2-small", layer=2)
