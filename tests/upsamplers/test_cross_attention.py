"""JAFAR and AnyUp against their definitions, spelled out with PyTorch's own attention."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import naf
from naf.upsamplers import anyup
from naf.upsamplers.cross_attention import Rotation
from naf.upsamplers.jafar import JAFAR
from tests.helpers import randn, relative_error, small

METHODS = ("jafar", "anyup")


def scene(batch=1, grid=(5, 6), image=(20, 26), channels=8, dtype=torch.float32):
    return randn(batch, 3, *image, dtype=dtype), randn(batch, channels, *grid, seed=1, dtype=dtype)


def dense_attention(upsampler, queries, keys, features, mask=None):
    """The heads' mean weights of nn.MultiheadAttention, times the raw features."""
    block = upsampler.cross_decode.cross_attn
    tokens = [x.flatten(2).mT for x in (queries, keys, features)]
    value = tokens[2] if block.attention.vdim == tokens[2].shape[-1] else tokens[1]
    normed = block.norm_q(tokens[0]), block.norm_k(tokens[1])
    _, weights = block.attention(*normed, value, average_attn_weights=True, attn_mask=mask)
    return (weights @ tokens[2]).mT


@pytest.mark.parametrize("size", [(20, 26), (11, 9), (23, 40)])
def test_jafar_is_attention_to_the_whole_grid(size):
    upsampler, (image, features) = small("jafar"), scene(batch=2)
    encoded = upsampler.image_encoder(image)
    rows, cols = (torch.linspace(0, 1, side) for side in image.shape[2:])
    freqs = upsampler.rope.freqs
    angle = (rows[:, None, None] * freqs[0] + cols[None, :, None] * freqs[1]).permute(2, 0, 1)
    first, second = encoded.chunk(2, dim=1)
    encoded = encoded * angle.cos() + torch.cat([-second, first], dim=1) * angle.sin()
    queries = F.group_norm(F.adaptive_avg_pool2d(upsampler.query_encoder(encoded), size), 8)
    queries = upsampler.cross_decode.conv2d(queries)
    code = upsampler.key_features_encoder(F.normalize(features, dim=1))
    pooled = F.group_norm(F.adaptive_avg_pool2d(upsampler.key_encoder(encoded), features.shape[2:]), 8)
    keys = upsampler.sft_key.gamma(code) * pooled + upsampler.sft_key.beta(code)
    expected = dense_attention(upsampler, queries, keys, features).unflatten(2, size)
    assert relative_error(upsampler(image, features, size), expected) <= 2e-6


@pytest.mark.parametrize("size", [(20, 26), (11, 9), (23, 40)])
@pytest.mark.parametrize("window_ratio", [0.0, 0.1, 0.3])
def test_anyup_is_attention_to_a_window(size, window_ratio):
    upsampler, (image, features) = small("anyup", window_ratio=window_ratio), scene(batch=2)
    encoded = upsampler.rope(upsampler.image_encoder(image))
    queries = F.adaptive_avg_pool2d(upsampler.query_encoder(encoded), size)
    queries = upsampler.cross_decode.conv2d(queries)
    pooled = F.adaptive_avg_pool2d(upsampler.key_encoder(encoded), features.shape[2:])
    code = upsampler.key_features_encoder(F.normalize(features, dim=1)) + 1 / 16  # its mean, which is kept apart
    keys = upsampler.aggregation(torch.cat([pooled, code], dim=1))
    axes = []
    for fine, coarse in zip(size, features.shape[2:], strict=True):
        centre = (torch.arange(fine) + 0.5)[:, None] / fine
        low = ((centre - window_ratio).clamp(0, 1) * coarse).floor()
        high = ((centre + window_ratio).clamp(0, 1) * coarse).ceil()
        cells = torch.arange(coarse)
        axes.append((cells >= low) & (cells < high) if window_ratio > 0 else torch.ones(fine, coarse).bool())
    mask = ~(axes[0][:, None, :, None] & axes[1][None, :, None, :]).flatten(2).flatten(0, 1)
    expected = dense_attention(upsampler, queries, keys, features, mask).unflatten(2, size)
    assert relative_error(upsampler(image, features, size), expected) <= 2e-6


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("side", "size"),
    [((20, 26), (20, 26)), ((20, 26), (7, 9)), ((20, 26), (31, 27)), ((20, 26), (5, 6)), ((5, 6), (5, 6))],
)
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_the_lean_path_equals_the_plain_layers(name, side, size, kernel_size):
    upsampler, (image, features) = small(name, kernel_size=kernel_size), scene(batch=2, image=side)
    lean = upsampler.encode(image, size, (5, 6))
    plain = upsampler.encode(image.requires_grad_(), size, (5, 6))
    assert plain.queries.requires_grad
    assert not lean.queries.requires_grad
    torch.testing.assert_close(lean.queries, plain.queries, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lean.keys(features), plain.keys(features), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_pass_gradcheck_in_float64(name):
    upsampler = naf.create(name, weights=None, qk_dim=8, num_heads=2, **({"v_dim": 3} if name == "jafar" else {}))
    upsampler = upsampler.double().requires_grad_(False)
    image, features = scene(grid=(2, 3), image=(4, 5), channels=3, dtype=torch.float64)
    inputs = image.requires_grad_(), features.requires_grad_()
    assert torch.autograd.gradcheck(lambda i, f: upsampler(i, f, (4, 6)), inputs, fast_mode=True)


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_that_acts_is_trained(name):
    upsampler, (image, features) = naf.create(name, weights=None, qk_dim=16, **V_DIM[name]), scene()
    upsampler.train()(image, features, (10, 12)).square().sum().backward()
    inert = {
        key for key, parameter in upsampler.named_parameters() if parameter.grad is None or not parameter.grad.any()
    }
    attention = "cross_decode.cross_attn"
    expected = {f"{attention}.attention.out_proj.{kind}" for kind in ("weight", "bias")}
    if name == "jafar":
        expected |= {f"{attention}.norm_v.weight", f"{attention}.attention.v_proj_weight"}
    assert inert == expected


V_DIM = {"jafar": {"v_dim": 8}, "anyup": {}}


def test_the_rotation_in_place_equals_the_one_of_the_layers():
    rotation = Rotation(16).requires_grad_(False)
    rotation.freqs += 0.3 * randn(2, 16)  # trained frequencies keep no zeros
    x = randn(1, 16, 9, 7)
    expected, tokens = rotation(x), x[0].permute(1, 2, 0).contiguous()
    rotation.rotate_(tokens)
    torch.testing.assert_close(tokens.permute(2, 0, 1)[None], expected, rtol=1e-5, atol=1e-6)


def test_initial_frequencies_are_those_of_the_paper():
    freqs = Rotation(16).freqs
    series = 2 * math.pi * 100.0 ** -torch.linspace(0, 1, 4)
    torch.testing.assert_close(freqs[0, :8], series.repeat(2))
    torch.testing.assert_close(freqs[1, 8:], series.repeat(2))
    assert not freqs[0, 8:].any()
    assert not freqs[1, :8].any()


@pytest.mark.parametrize("limit", [1, 1 << 20])
def test_unification_reads_the_responses_as_the_released_code_does(monkeypatch, limit):
    monkeypatch.setattr(anyup, "_CODE_BYTES", limit)
    channels, width = 6, 8
    unify = anyup.Unification(width, 5).requires_grad_(False)
    x = randn(2, channels, 7, 9)
    ones = F.conv2d(torch.ones(1, 1, 7, 9), torch.ones(1, 1, 5, 5), padding=2)
    for sample, code in zip(x, unify(x), strict=True):
        responses = torch.cat([F.conv2d(c[None, None], unify.basis, padding=2)[0] for c in sample]) / ones[0]
        # Channel by channel in memory, read as (width, channels).
        expected = responses.view(width, channels, 7, 9).softmax(0).mean(1)
        torch.testing.assert_close(code + 1 / width, expected, rtol=1e-5, atol=1e-6)
        # The code of nearly equal responses keeps its digits, which a softmax in float32 would not.
        fine = anyup._centred_softmax(1e-5 * responses.view(1, 1, 1, width, channels, 63))
        exact = (1e-5 * responses.double()).view(1, 1, 1, width, channels, 63).softmax(3) - 1 / width
        assert relative_error(fine, exact) <= 1e-6


def test_anyup_serves_any_number_of_channels():
    image, _ = scene()
    for channels in (1, 3, 50):
        assert small("anyup")(image, randn(1, channels, 5, 6), (20, 26)).shape == (1, channels, 20, 26)


@pytest.mark.parametrize("chunk", [1, 30, 100, 10**6])
def test_chunks_of_queries_change_nothing(chunk):
    image, features = scene(batch=2)
    expected = small("anyup")(image, features, (13, 17))
    by_call = small("anyup")(image, features, (13, 17), q_chunk_size=chunk)
    by_configuration = small("anyup", q_chunk_size=chunk)(image, features, (13, 17))
    for out in (by_call, by_configuration):
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_without_an_output_size_anyup_gives_that_of_the_image():
    image, features = scene()
    assert torch.equal(small("anyup")(image, features), small("anyup")(image, features, (20, 26)))
    with pytest.raises(TypeError, match="image is None"):
        small("anyup")(None, features)


@pytest.mark.parametrize("name", METHODS)
def test_a_3x3_convolution_refuses_an_image_of_one_pixel_in_words(name):
    with pytest.raises(ValueError, match=r"is \(1, 9\), expected at least 2"):
        small(name, kernel_size=3)(randn(1, 3, 1, 9), randn(1, 8, 2, 2), (4, 4))


def test_the_resized_call_sees_the_image_at_the_size_of_the_output():
    image, features = scene()
    resized = F.interpolate(image, size=(10, 12), mode="bilinear", align_corners=False)
    out = small("anyup", resize_image=True)(image, features, (10, 12))
    assert torch.equal(out, small("anyup")(resized, features, (10, 12)))
    assert relative_error(out, small("anyup")(image, features, (10, 12))) > 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_attention_needs_the_features(name):
    image, features = scene()
    guidance = small(name).encode(image, (20, 26), (5, 6))
    with pytest.raises(TypeError, match="features is None"):
        guidance.attention(0, 0)
    weights, rows, cols = guidance.attention(0, 25, features)
    assert weights.shape == (1, 1, len(rows), len(cols))
    if name == "anyup":  # a corner's window is cut at the border
        assert rows.tolist() == [0]
        assert cols.tolist() == [5]


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("jafar", {"qk_dim": 20}, "qk_dim is 20, expected a multiple of 8"),
        ("jafar", {"qk_dim": 16, "num_heads": 3}, "qk_dim is 16, expected a multiple of 3"),
        ("jafar", {"v_dim": 0}, "v_dim is 0, expected an integer of at least 1"),
        ("jafar", {"kernel_size": 5}, "kernel_size is 5, expected 1 or 3"),
        ("anyup", {"kernel_size_lfu": 4}, "kernel_size_lfu is 4, expected an odd integer"),
        ("anyup", {"q_chunk_size": 0}, "q_chunk_size is 0, expected an integer of at least 1"),
        ("anyup", {"window_ratio": math.nan}, "window_ratio is nan, expected a number"),
        ("anyup", {"num_heads": 0}, "num_heads is 0, expected an integer of at least 1"),
    ],
)
def test_bad_configuration_is_refused(name, config, message):
    with pytest.raises(ValueError, match=message):
        naf.create(name, weights=None, **config)


def test_a_network_as_wide_as_its_features_keeps_one_projection():
    upsampler = JAFAR(qk_dim=16, v_dim=16)
    names = upsampler.state_dict()
    assert "cross_decode.cross_attn.attention.in_proj_weight" in names
    assert "cross_decode.cross_attn.attention.q_proj_weight" not in names
    assert isinstance(upsampler.cross_decode.cross_attn.norm_v, nn.RMSNorm)
    assert upsampler(*scene(channels=16), (9, 9)).isfinite().all()
