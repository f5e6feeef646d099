"""FeatUp's implicit upsampler once it is fitted."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import naf
import naf.upsamplers.featup_implicit
from naf.backbones import Hog
from tests.helpers import TOLERANCE, randn, relative_error
from tests.upsamplers.test_featup_fit import CONFIG, create, photo

FEATURES = (1, 16, 5, 5)


@pytest.fixture(scope="module")
def fitted():
    return create().fit(photo(), Hog(stride=8), size=40, views=12, steps=4).requires_grad_(False)


def test_output_is_the_network_at_each_pixel_brought_back_to_the_backbones_channels(fitted):
    out = fitted(photo(), randn(*FEATURES), (40, 40))
    image = photo()[0]
    low, high = image.amin((1, 2), keepdim=True), image.amax((1, 2), keepdim=True)
    colors = (image - low) / (high - low) - 0.5
    network = fitted.network
    frequencies = torch.linspace(-2, 10, 6).exp()
    for row, col in ((0, 0), (39, 3), (17, 22)):
        x = torch.tensor([-1 + 2 * row / 39, -1 + 2 * col / 39, *colors[:, row, col].tolist()])
        products = (frequencies[:, None] * x).flatten()
        sine, cosine = network.phases.flatten(1)
        code = torch.cat([(products + sine).sin(), (products + cosine).cos(), x[2:]])
        y = network.second(network.hidden_norm(network.first(network.code_norm(code)).relu())).relu()
        expected = network.last(y) @ fitted.pca_components + fitted.pca_mean
        # One rounding of a colour moves the highest phase by 1e-3.
        torch.testing.assert_close(out[0, :, row, col], expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_of_the_given_features_only_shape_and_dtype_count(fitted, dtype):
    exact = fitted(photo(), randn(*FEATURES), (33, 20))
    out = fitted(photo(), randn(*FEATURES, seed=5).to(dtype), (33, 20))
    assert out.dtype == dtype
    assert torch.equal(out, exact.to(dtype))


def test_the_image_may_come_in_any_float_dtype_and_at_another_size(fitted):
    exact = fitted(photo(), randn(*FEATURES), (30, 30))
    assert relative_error(fitted(photo().double(), randn(*FEATURES), (30, 30)), exact) < 1e-2
    half = photo().half()
    assert torch.equal(fitted(half, randn(*FEATURES), (30, 30)), fitted(half.float(), randn(*FEATURES), (30, 30)))
    smaller = F.interpolate(photo(), size=(31, 29), mode="bilinear", antialias=True)
    assert fitted(smaller, randn(*FEATURES), (30, 30)).shape == (1, 16, 30, 30)


@pytest.mark.parametrize("has_gradients", [False, True])
def test_bands_points_and_heads_agree_with_the_map(fitted, monkeypatch, has_gradients):
    monkeypatch.setattr(naf.upsamplers.featup_implicit, "_CPU_PIXELS", 100)
    features = randn(*FEATURES)
    guidance = fitted.requires_grad_(has_gradients).encode(photo(), (37, 29), FEATURES[2:])
    full = guidance.upsample(features)
    fitted.requires_grad_(False)
    assert full.requires_grad == has_gradients
    bands = torch.cat([band for _, band in guidance.iter_rows(features, rows=10)], dim=2)
    torch.testing.assert_close(bands, full, rtol=1e-5, atol=1e-5)
    rows, cols = torch.arange(37).repeat(29), torch.arange(29).repeat_interleave(37)
    torch.testing.assert_close(guidance.at(features, rows, cols), full[:, :, rows, cols], rtol=1e-5, atol=1e-5)
    between = (full[:, :, 3, 4] + full[:, :, 4, 4]) / 2
    torch.testing.assert_close(guidance.at(features, [3.5], [4])[..., 0], between, rtol=1e-5, atol=1e-5)
    assert guidance.at(features, [], []).shape == (1, 16, 0)
    for bias in (None, randn(3)):
        weight = randn(3, 16)
        head = guidance.upsample_linear(features.double(), weight, bias)
        assert head.dtype == torch.float64
        expected = F.conv2d(full, weight[:, :, None, None], bias).double()
        torch.testing.assert_close(head, expected, rtol=1e-5, atol=1e-5)


def test_a_state_dict_saved_to_a_file_gives_the_same_upsampler(fitted, tmp_path):
    path = tmp_path / "fitted.safetensors"
    save_file(fitted.state_dict(), path)
    restored = naf.create("featup-implicit", weights=path, **CONFIG).requires_grad_(False)
    inputs = photo(), randn(*FEATURES), (40, 40)
    assert torch.equal(restored(*inputs), fitted(*inputs))
    assert fitted.weights_source == "fitted to one image"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_the_module_may_be_of_another_precision(fitted, dtype):
    module = create()
    module.load_state_dict(fitted.state_dict())
    out = module.to(dtype)(photo(), randn(*FEATURES), (40, 40))
    # Half-precision phases and colour scales move the high frequencies: a loose bound.
    limit = {torch.float64: 2e-3, torch.float16: 0.2, torch.bfloat16: 1.0}[dtype]
    assert relative_error(out, fitted(photo(), randn(*FEATURES), (40, 40))) < limit


def test_training_mode_and_the_global_generator_make_no_difference(fitted):
    inputs = photo(), randn(*FEATURES), (20, 20)
    exact, state = fitted(*inputs), torch.get_rng_state()
    assert torch.equal(fitted.train()(*inputs), exact)
    fitted.eval()
    assert torch.equal(torch.get_rng_state(), state)


def test_non_contiguous_input_makes_no_difference(fitted):
    image = photo()
    exact = fitted(image, randn(*FEATURES), (20, 20))
    for other in (image.transpose(2, 3).contiguous().transpose(2, 3), image.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(fitted(other, randn(*FEATURES), (20, 20)), exact, rtol=0, atol=2e-3)


def test_gradients_of_image_and_parameters_pass_gradcheck():
    upsampler = create(channels=3, n_freqs=2, dim=2, hidden=3).double()
    image = photo(height=8, width=8).double()
    upsampler._keep(upsampler.network, *randn_basis(), torch.zeros(3), torch.ones(3), image[0])
    features = randn(1, 3, 2, 2, dtype=torch.float64)

    def run(image, *parameters):
        state = dict(zip(dict(upsampler.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(upsampler, state, (image, features, (3, 2)))

    assert torch.autograd.gradcheck(run, (image.requires_grad_(), *upsampler.parameters()), atol=1e-4)


def randn_basis():
    return randn(2, 3, dtype=torch.float64), randn(3, dtype=torch.float64)


@torch.no_grad()
def test_the_call_exports(fitted):
    inputs = photo(), randn(*FEATURES), (20, 24)
    exported = torch.export.export(fitted, inputs, strict=False).module()
    torch.testing.assert_close(exported(*inputs), fitted(*inputs), rtol=1e-5, atol=1e-5)


def test_a_call_before_the_fit_or_with_another_image_is_refused(fitted):
    features = randn(*FEATURES)
    with pytest.raises(RuntimeError, match=r"not fitted: call fit\(image, backbone\) first"):
        create()(photo(), features, (20, 20))
    for other in (photo(1), photo().flip(3)):
        with pytest.raises(ValueError, match="image is not the one that this featup-implicit was fitted to"):
            fitted(other, features, (20, 20))
    with pytest.raises(ValueError, match="image has batch 2, expected 1: the network is fitted to one image"):
        fitted(photo().expand(2, -1, -1, -1), features.expand(2, -1, -1, -1), (20, 20))
    with pytest.raises(ValueError, match="features have 8 channels, expected 16 by this featup-implicit"):
        fitted(photo(), randn(1, 8, 5, 5), (20, 20))
    guidance = fitted.encode(photo(), (20, 20), (5, 5))
    with pytest.raises(ValueError, match="features are on meta, the guidance on cpu"):
        guidance.upsample(features.to("meta"))
    with pytest.raises(NotImplementedError):
        guidance.attention(0, 0)
    assert set(TOLERANCE) == {torch.float64, torch.float32, torch.bfloat16, torch.float16}


def test_memory_grows_with_the_output(fitted):
    assert fitted.memory((40, 40), (2000, 2000)) - fitted.memory((40, 40), (1000, 1000)) == 24 * 3_000_000
