"""The backbone on a larger image, in place of upsampling."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import naf
import naf.upsamplers.large_image
from naf.backbones import Backbone, Hog
from tests.helpers import randn, relative_error


class Patches(Backbone):
    """A linear map of patches of 4 x 4 pixels, on 5 channels."""

    name, stride, channels = "patches", 4, 5

    def __init__(self, max_side=None, fixed_size=None):
        super().__init__(max_side)
        self.fixed_size = fixed_size
        self.embed = nn.Conv2d(3, 5, 4, 4)
        self.embed.weight.data = randn(5, 3, 4, 4)
        self.seen = []

    def _features(self, image01):
        self.seen.append(tuple(image01.shape[2:]))
        return self.embed(image01.to(self.embed.weight.dtype))


def photo(*size, batch=2):
    return naf.normalize(torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0)))


def create(**config):
    return naf.create("large-image", backbone=Patches(**config))


@torch.no_grad()
def test_output_is_the_backbone_of_the_image_enlarged_to_one_cell_a_pixel():
    image01 = torch.rand(2, 3, 17, 30, generator=torch.Generator().manual_seed(0))
    upsampler = create()
    out = upsampler(naf.normalize(image01), randn(2, 5, 4, 7), (9, 14))
    enlarged = F.interpolate(image01, size=(36, 56), mode="bilinear", align_corners=False)
    assert out.shape == (2, 5, 9, 14)
    assert relative_error(out, upsampler.backbone.embed(enlarged)) < 1e-5
    assert upsampler.backbone.seen == [(36, 56)]


@torch.no_grad()
def test_an_image_larger_than_needed_is_reduced_with_antialiasing():
    image01 = torch.rand(1, 3, 60, 64, generator=torch.Generator().manual_seed(0))
    upsampler = create()
    out = upsampler(naf.normalize(image01), randn(1, 5, 3, 3), (5, 6))
    reduced = F.interpolate(image01, size=(20, 24), mode="bilinear", align_corners=False, antialias=True)
    assert relative_error(out, upsampler.backbone.embed(reduced)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("config", [{"max_side": 24}, {"fixed_size": (24, 24)}], ids=str)
def test_where_the_backbone_cannot_follow_its_features_are_resized(config):
    upsampler = create(**config)
    image = photo(40, 40)
    guidance = upsampler.encode(image, (15, 15), (10, 10))
    assert upsampler.backbone.seen == [(24, 24)]
    expected = F.interpolate(guidance.map, size=(15, 15), mode="bilinear", align_corners=False)
    assert torch.equal(guidance.upsample(randn(2, 5, 10, 10)), expected)


@torch.no_grad()
@pytest.mark.parametrize("config", [{}, {"max_side": 24}], ids=["own grid", "resized"])
def test_one_pass_of_the_backbone_serves_maps_bands_points_and_heads(config):
    upsampler, features = create(**config), randn(2, 5, 4, 7)
    guidance = upsampler.encode(photo(20, 30), (9, 14), (4, 7))
    full = guidance.upsample(features)
    bands = torch.cat([band for _, band in guidance.iter_rows(features, rows=4)], dim=2)
    torch.testing.assert_close(bands, full, rtol=1e-5, atol=1e-5)
    points = guidance.at(features, [0, 8, 3], [13, 0, 5])
    torch.testing.assert_close(points, full[:, :, [0, 8, 3], [13, 0, 5]], rtol=1e-5, atol=1e-5)
    assert guidance.at(features, [], []).shape == (2, 5, 0)
    weight, bias = randn(2, 5), randn(2)
    head = guidance.upsample_linear(features, weight, bias)
    torch.testing.assert_close(head, F.conv2d(full, weight[:, :, None, None], bias), rtol=1e-5, atol=1e-5)
    assert len(upsampler.backbone.seen) == 1


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_of_the_given_features_only_shape_and_dtype_count(dtype):
    upsampler, image = create(), photo(20, 30)
    exact = upsampler(image, randn(2, 5, 4, 7), (8, 14))
    out = upsampler(image, randn(2, 5, 4, 7, seed=9).to(dtype), (8, 14))
    assert out.dtype == dtype
    assert torch.equal(out, exact.to(dtype))


@torch.no_grad()
def test_any_float_image_is_taken():
    upsampler, features = Patches(), randn(2, 5, 4, 7)
    upsampler = naf.create("large-image", backbone=upsampler)
    exact = upsampler(photo(20, 30), features, (8, 14))
    for dtype, limit in ((torch.float64, 1e-5), (torch.float16, 4e-3), (torch.bfloat16, 2e-2)):
        assert relative_error(upsampler(photo(20, 30).to(dtype), features, (8, 14)), exact) < limit


def test_the_backbone_moves_along_but_its_parameters_are_not_the_upsamplers(tmp_path):
    upsampler = create()
    assert not list(upsampler.parameters())
    assert not upsampler.state_dict()
    assert upsampler.double() is upsampler
    assert upsampler.backbone.embed.weight.dtype == torch.float64
    assert upsampler(photo(20, 30), randn(2, 5, 4, 7), (8, 14)).dtype == torch.float32
    upsampler.to("meta")
    assert upsampler.backbone.embed.weight.device.type == "meta"
    backbone = Patches().train()
    naf.create("large-image", backbone=backbone)
    assert backbone.training
    save_file(upsampler.state_dict(), tmp_path / "empty.safetensors")
    assert naf.create("large-image", weights=tmp_path / "empty.safetensors", backbone=backbone).backbone is backbone


def test_gradients_reach_the_image_and_nothing_is_recorded_without_them():
    upsampler, features = create(), randn(2, 5, 4, 7)
    image = photo(20, 30)
    assert not upsampler(image, features, (8, 14)).requires_grad
    image.requires_grad_()
    upsampler(image, features, (8, 14)).square().sum().backward()
    assert image.grad.abs().sum() > 0


def test_it_works_with_a_backbone_of_the_package_and_with_any_object_that_offers_the_same():
    upsampler = naf.create("large-image", backbone=Hog(stride=8))
    assert upsampler(photo(24, 32), randn(2, 16, 3, 4), (6, 8)).shape == (2, 16, 6, 8)

    class Duck:
        stride, channels = 1, 3

        def input_size(self, image_size):
            return image_size

        def extract(self, image01):
            return type("Extracted", (), {"features": image01})

    upsampler = naf.create("large-image", backbone=Duck()).double()
    image = photo(12, 10)
    out = upsampler(image, randn(2, 3, 2, 2), (12, 10))
    assert relative_error(naf.normalize(out), image) < 1e-5


def test_values_past_the_range_of_photos_are_clamped():
    upsampler = create()
    out = upsampler(torch.full((1, 3, 8, 8), 9.0), randn(1, 5, 2, 2), (2, 2))
    with torch.no_grad():
        assert relative_error(out, upsampler.backbone.embed(torch.ones(1, 3, 8, 8))) < 1e-5


def test_memory_counts_the_enlarged_image():
    assert create().memory((20, 30), (100, 200)) == 4 * (3 * 400 * 800 + 5 * 100 * 200)


def test_bad_input_is_refused():
    with pytest.raises(TypeError, match=r"backbone is a str, expected what naf\.backbones\.create gives"):
        naf.create("large-image", backbone="hog")
    upsampler = create()
    with pytest.raises(ValueError, match="features have 6 channels, expected 5 by the backbone"):
        upsampler(photo(20, 30), randn(2, 6, 4, 7), (8, 14))
    image = photo(20, 30)
    image[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="image holds 1 NaN"):
        upsampler(image, randn(2, 5, 4, 7), (8, 14))
    guidance = upsampler.encode(photo(20, 30), (8, 14), (4, 7))
    with pytest.raises(ValueError, match="features are on meta, the guidance on cpu"):
        guidance.upsample(randn(2, 5, 4, 7).to("meta"))
    with pytest.raises(NotImplementedError):
        guidance.attention(0, 0)
