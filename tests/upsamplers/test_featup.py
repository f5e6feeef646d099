"""FeatUp's stack against its definition; the official outputs are compared in test_goldens.py."""

import pytest
import torch
import torch.nn.functional as F

import naf
from naf.upsamplers.featup import FeatUp
from tests.helpers import randn, relative_error
from tests.upsamplers.test_bilateral import filled, learned_kernel, resize, windows_of


def made(dtype=torch.float64, **config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return filled(FeatUp(**{"feat_dim": 4, "key_dim": 4, "radius": 2, **config})).to(dtype)


def by_definition(upsampler, image, features, levels):
    """The stack as the paper has it, all channels and the mixing at the end, (B, C, h << levels, w << levels)."""
    x = features
    if upsampler.norm is not None:
        norm = upsampler.norm.norm
        x = F.layer_norm(x.permute(0, 2, 3, 1), norm.normalized_shape, norm.weight, norm.bias).permute(0, 3, 1, 2)
    for level in range(levels):
        kernel = upsampler.upsampler.level(level)
        size = 2 * x.shape[2], 2 * x.shape[3]
        weights = learned_kernel(kernel, F.adaptive_avg_pool2d(image, size))
        x = (windows_of(resize(x, size, "bicubic"), kernel.radius) * weights[:, None]).sum(2)
    return x + 0.1 * upsampler.upsampler.mixing(x)


def scene(grid=(3, 4), image_size=(21, 26), channels=4, dtype=torch.float64):
    return randn(2, 3, *image_size, dtype=dtype), randn(2, channels, *grid, seed=1, dtype=dtype)


@pytest.mark.parametrize("use_norm", [True, False])
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_levels_follow_from_the_output_size(levels, use_norm):
    upsampler, (image, features) = made(use_norm=use_norm), scene()
    output_size = 3 << levels, 4 << levels
    with torch.no_grad():
        out = upsampler(image, features, output_size)
        assert relative_error(out, by_definition(upsampler, image, features, levels)) <= 1e-11


@pytest.mark.parametrize(("ratio", "levels"), [(None, 4), (2, 1), (4, 2), (8, 3), (16, 4)])
@pytest.mark.parametrize("output_size", [(42, 57), (5, 90)], ids=str)
def test_other_sizes_are_resized_bilinearly(ratio, levels, output_size):
    upsampler, (image, features) = made(ratio=ratio), scene()
    with torch.no_grad():
        out = upsampler(image, features, output_size)
        expected = resize(by_definition(upsampler, image, features, levels), output_size)
    assert relative_error(out, expected) <= 1e-11


def test_a_given_ratio_holds_where_other_levels_would_give_the_size():
    upsampler, (image, features) = made(ratio=4), scene()
    with torch.no_grad():
        out = upsampler(image, features, (6, 8))
        assert relative_error(out, resize(by_definition(upsampler, image, features, 2), (6, 8))) <= 1e-11


@pytest.mark.parametrize("output_size", [(12, 16), (11, 19)], ids=["exact", "resized"])
def test_gradients_are_those_of_the_definition(output_size):
    upsampler, (image, features) = made(ratio=4), scene()
    used = [p for name, p in upsampler.named_parameters() if ".up3." not in name and ".up4." not in name]
    leaves = [image.requires_grad_(), features.requires_grad_(), *used]
    loss = randn(2, 4, *output_size, seed=2, dtype=torch.float64)
    actual = torch.autograd.grad((upsampler(image, features, output_size) * loss).sum(), leaves)
    expected = resize(by_definition(upsampler, image, features, 2), output_size)
    for a, e in zip(actual, torch.autograd.grad((expected * loss).sum(), leaves), strict=True):
        assert relative_error(a, e) <= 1e-9


@pytest.mark.parametrize("output_size", [(12, 16), (11, 19)], ids=["exact", "resized"])
@pytest.mark.parametrize("outputs", [2, 7])
def test_bands_points_and_heads_are_those_of_the_map(output_size, outputs):
    upsampler, (image, features) = made(ratio=4), scene()
    guidance = upsampler.encode(image, output_size, (3, 4))
    full = guidance.upsample(features)
    bands = torch.cat([band for _, band in guidance.iter_rows(features, 3)], dim=2)
    torch.testing.assert_close(bands, full)
    rows, cols = torch.tensor([0, 10, 4, 7]), torch.tensor([15, 0, 3, 9])
    torch.testing.assert_close(guidance.at(features, rows, cols), full[:, :, rows, cols])
    weight, bias = randn(outputs, 4, dtype=torch.float64), randn(outputs, dtype=torch.float64)
    expected = F.conv2d(full, weight[:, :, None, None], bias)
    torch.testing.assert_close(guidance.upsample_linear(features, weight, bias), expected)
    no_bias = F.conv2d(full, weight[:, :, None, None])
    torch.testing.assert_close(guidance.upsample_linear(features, weight), no_bias)


def test_nan_stays_near_its_cell():
    upsampler, (image, features) = made(ratio=2, radius=1), scene((12, 12), (24, 24))
    expected = upsampler(image, features, (24, 24))
    features[0, 1, 2, 3] = torch.nan
    out = upsampler(image, features, (24, 24))
    assert out[0, :, 4:6, 6:8].isnan().all()
    torch.testing.assert_close(out[1], expected[1])
    torch.testing.assert_close(out[0, :, 12:], expected[0, :, 12:])


def test_both_published_layouts_are_loaded():
    upsampler = made(torch.float32)
    state = upsampler.state_dict()
    lightning = {key.replace("norm.norm.", "model.1.norm."): value for key, value in state.items()}
    training = {f"{prefix}.weight": torch.ones(2) for prefix in ("model.0.blocks", "downsampler.x", "scale_net.net")}
    for published in (state, lightning, {**lightning, **training}):
        fresh = naf.create("featup", weights=published, feat_dim=4, key_dim=4, radius=2)
        assert fresh.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[key]) for key, value in fresh.state_dict().items())


def test_a_checkpoint_with_a_norm_is_refused_without_one():
    state = made(torch.float32).state_dict()
    with pytest.raises(naf.WeightsError, match=r"unexpected: norm\.norm\.weight"):
        naf.create("featup", weights=state, feat_dim=4, key_dim=4, radius=2, use_norm=False)


def test_dropout_acts_in_training_alone():
    upsampler, (image, features) = made(torch.float32, key_dim=64), scene(dtype=torch.float32)
    expected = upsampler(image, features, (12, 16))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = (upsampler.train()(image, features, (12, 16)) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(upsampler.eval()(image, features, (12, 16)), expected)


def test_dropped_channels_scale_the_others_in_the_mixing():
    # Without levels' dropout: what is left is y + 0.1 * (W (mask * y) + b), one mask a sample and channel.
    upsampler, (image, features) = made(ratio=2, use_norm=False), scene()
    before = by_definition(upsampler, image, features, 1)
    mixing = upsampler.upsampler.mixing
    unmixed = torch.linalg.solve(
        torch.eye(4, dtype=torch.float64) + 0.1 * mixing.weight.flatten(1),
        (before - 0.1 * mixing.bias[:, None, None]).flatten(2),
    ).unflatten(2, (6, 8))
    guidance = upsampler.encode(image, (6, 8), (3, 4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)  # drops some channels and keeps others
        upsampler.train()
        out = guidance.upsample(features)
    extra = (out - unmixed) / 0.1 - mixing.bias[:, None, None]  # W (mask * y)
    ratio = torch.linalg.solve(mixing.weight.flatten(1), extra.flatten(2)).unflatten(2, (6, 8)) / unmixed
    mask = ratio.mean((2, 3), keepdim=True)
    torch.testing.assert_close(ratio, mask.expand_as(ratio), rtol=1e-6, atol=1e-6)
    assert set(mask.flatten().mul(0.8).round(decimals=5).abs().tolist()) == {0.0, 1.0}


def test_feature_dim_is_another_name_of_feat_dim():
    assert FeatUp(feature_dim=12, key_dim=4, radius=1).feature_channels == 12


BAD = {
    "feat_dim": ({"feat_dim": 0}, "feat_dim is 0, expected an integer of at least 1"),
    "feature_dim": ({"feature_dim": 1.5}, "feature_dim is 1.5, expected an integer of at least 1"),
    "key_dim": ({"key_dim": 0}, "key_dim is 0, expected an integer of at least 1"),
    "radius": ({"radius": 0}, "radius is 0, expected an integer of at least 1"),
    "ratio": ({"ratio": 3}, "ratio is 3, expected 2, 4, 8, 16 or None"),
}


@pytest.mark.parametrize(("config", "message"), BAD.values(), ids=BAD)
def test_a_bad_configuration_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        naf.create("featup", weights=None, **config)


@pytest.mark.parametrize(("radius", "least"), [(1, 1), (2, 2), (3, 2), (4, 3)])
def test_the_smallest_grid_is_what_reflection_needs(radius, least):
    upsampler = made(torch.float32, radius=radius)
    assert upsampler.smallest_grid == least
    image, features = scene((least, least), dtype=torch.float32)
    assert upsampler(image, features, (20, 20)).isfinite().all()
    if least > 1:
        with pytest.raises(ValueError, match=rf"grid is \({least - 1}, {least}\), expected at least {least}"):
            upsampler(image, features[:, :, 1:], (20, 20))


def test_autocast_does_not_lower_the_precision():
    upsampler, inputs = made(torch.float32, ratio=4), scene(dtype=torch.float32)
    expected = upsampler(*inputs, (12, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(upsampler(*inputs, (12, 16)), expected)


def test_a_half_precision_module_works_in_float32_on_the_cpu():
    upsampler, inputs = made(torch.float16, ratio=4), scene(dtype=torch.float32)
    out = upsampler(*inputs, (12, 16))
    assert out.dtype == torch.float32
    assert relative_error(out, upsampler.float()(*inputs, (12, 16))) <= 1e-6
