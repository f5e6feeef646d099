"""FeatSharp against its definition, part by part; there are no official outputs to compare with."""

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import naf
from naf.ops import rows as row_bands
from naf.upsamplers import featsharp_block
from naf.upsamplers.featsharp import FeatSharp
from naf.upsamplers.featsharp_block import SwiGLU, WindowAttention
from naf.upsamplers.featsharp_jbu import JBU, prime_factors
from tests.helpers import randn, relative_error

CHANNELS, STRIDE = 8, 4


@dataclass
class Features:
    features: torch.Tensor


class Backbone(nn.Module):
    """Patches of 4 x 4 pixels through a fixed matrix; works at any size and counts its calls."""

    def __init__(self, channels=CHANNELS):
        super().__init__()
        self.channels, self.stride, self.seen = channels, STRIDE, []
        self.weight = nn.Parameter(randn(channels, 3, STRIDE, STRIDE) / 4, requires_grad=False)

    def extract(self, image01):
        assert image01.min() >= 0
        assert image01.max() <= 1
        self.seen.append(tuple(image01.shape))
        return Features(F.conv2d(image01.to(self.weight.dtype), self.weight, stride=STRIDE).to(image01.dtype))

    def input_size(self, image_size):
        return tuple(round(side / STRIDE) * STRIDE for side in image_size)


def small(perturbed=True, backbone=None, **config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        upsampler = naf.create("featsharp", weights=None, backbone=backbone or Backbone(), **config)
    if perturbed:
        for index, parameter in enumerate(upsampler.parameters()):
            parameter.data += 0.2 * randn(parameter.numel(), seed=index).view_as(parameter)
        samples = randn(50, CHANNELS) @ randn(CHANNELS, CHANNELS, seed=1)
        upsampler.normalizer.fit(samples.mean(0), samples.T.cov())
    return upsampler


def scene(grid=(4, 5), size=(30, 41), batch=2, dtype=torch.float32):
    return randn(batch, 3, *size, dtype=dtype) / 2, randn(batch, CHANNELS, *grid, seed=1, dtype=dtype)


def attention_by_definition(net, x):
    """(H, W, G), every pixel with every pixel, those out of reach taken out."""
    height, width, dim = x.shape
    q, k, v = net.qkv(x).unflatten(-1, (3, net.heads, -1)).flatten(0, 1).unbind(1)  # (pixels, n, d)
    row, col = (index.flatten() for index in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    down, across = ((index[:, None] - index).abs() for index in (row, col))
    heads = []
    for head in range(net.heads):
        scores = q[:, head] @ k[:, head].T / math.sqrt(dim // net.heads)
        scores = scores - (across if head % 2 else down) * 2.0 ** -math.floor((head + 2) / 2)
        scores[(down > net.window) | (across > net.window)] = -math.inf
        heads.append(scores.softmax(1) @ v[:, head, : net.width])
    return net.proj(torch.cat(heads, 1)).unflatten(0, (height, width))


def block_by_definition(block, x):
    """(H, W, 2C) → (H, W, C)."""
    x = x + block.ls1.gamma * attention_by_definition(block.attn, block.norm1(x))
    gate, value = block.mlp.w12(block.norm2(x)).chunk(2, -1)
    return x[..., : block.channels] + block.ls2.gamma * block.mlp.w3(gate.sigmoid() * gate * value)


def jbu_by_definition(net, features, image):
    """One sample: features (C, h, w) and the image at the output size (3, H, W)."""
    for factor, level in zip(net.factors, net.ups, strict=True):
        size = [factor * side for side in features.shape[1:]]
        key = level.range_proj(F.adaptive_avg_pool2d(image[None], size))
        near = F.unfold(F.pad(key, (3,) * 4, mode="reflect"), 7)[0].unflatten(0, (-1, 49))  # (D, 49, pixels)
        scores = (near * key[0].flatten(1)[:, None]).sum(0) * level.range_temp.exp()
        offset = torch.linspace(-1, 1, 7, dtype=image.dtype) ** 2
        spatial = torch.exp(-(offset[:, None] + offset) / (2 * level.sigma_spatial**2)) * level.spatial_alpha.exp()
        weights = scores.softmax(0) * level.range_alpha.exp() * spatial.flatten()[:, None]
        source = F.interpolate(features[None], size=size, mode="bilinear")
        patches = F.unfold(F.pad(source, (3,) * 4, mode="reflect"), 7)[0].unflatten(0, (-1, 49))
        features = (patches * weights / weights.sum(0)).sum(1).unflatten(1, size)
    return features


def test_ratios_are_cut_into_prime_factors_in_ascending_order():
    assert [prime_factors(n) for n in (1, 2, 3, 4, 6, 8, 12)] == [[], [2], [3], [2, 2], [2, 3], [2, 2, 2], [2, 2, 3]]


@pytest.mark.parametrize(("dim", "heads", "window"), [(16, 2, 3), (12, 4, 1), (10, 2, 0)])
@pytest.mark.parametrize("size", [(11, 9), (3, 17), (1, 1)])
def test_windowed_attention_is_that_of_the_definition(dim, heads, window, size):
    net = WindowAttention(dim, heads, window).double()
    x = randn(2, *size, dim, dtype=torch.float64)
    with torch.no_grad():
        out = net(x, 0, size[0])
        for index in range(2):
            torch.testing.assert_close(out[index], attention_by_definition(net, x[index]))


def test_queries_and_keys_are_as_wide_as_the_next_power_of_two():
    for dim, padded in {16: 8, 18: 16, 2: 1}.items():
        net = WindowAttention(dim, 2, 3)
        assert net.qkv.weight.shape == (3 * 2 * padded, dim)
        assert net.proj.weight.shape == (dim, dim)


def test_the_hidden_width_is_rounded_to_a_multiple_of_eight():
    assert {c: SwiGLU(2 * c, c).w3.in_features for c in (8, 384, 768)} == {8: 24, 384: 1024, 768: 2048}


@pytest.mark.parametrize("use_layer_norm", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 8, 100])
def test_bands_of_the_block_are_those_of_the_definition(rows, use_layer_norm):
    block = small(use_layer_norm=use_layer_norm, num_heads=4).ups[0].block.double()
    x = randn(1, 13, 10, 2 * CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        bands = [block(x, start, stop) for start, stop in row_bands.bands(0, 13, rows)]
        torch.testing.assert_close(torch.cat(bands, 1)[0], block_by_definition(block, x[0]))


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_joint_bilateral_upsampling_is_that_of_the_definition(factor):
    net = JBU(factor).double()
    for index, parameter in enumerate(net.parameters()):
        parameter.data += 0.3 * randn(parameter.numel(), seed=index).view_as(parameter)
    size = (3 * factor, 4 * factor)
    image, features = randn(2, 3, *size, dtype=torch.float64), randn(2, 5, 3, 4, dtype=torch.float64, seed=1)
    with torch.no_grad():
        out = net.upsample(features, net.filters(image, (3, 4)))
        for index in range(2):
            torch.testing.assert_close(out[index], jbu_by_definition(net, features[index], image[index]))


def test_without_offsets_and_layer_scale_it_is_the_upsampling_that_it_starts_from():
    upsampler = small(perturbed=False)
    block = upsampler.ups[0].block
    image, features = scene()
    with torch.no_grad():
        for scale in (block.ls1.gamma, block.ls2.gamma):
            scale.zero_()
        guidance = F.interpolate(image, size=(8, 10), mode="bilinear")
        expected = torch.stack(
            [jbu_by_definition(upsampler.ups[0].jbu, *pair) for pair in zip(features, guidance, strict=True)]
        )
        torch.testing.assert_close(upsampler(image, features, (8, 10)), expected, rtol=1e-5, atol=1e-5)
        # Standardising and undoing it changes nothing, as the weights sum to one.
        samples = randn(50, CHANNELS) @ randn(CHANNELS, CHANNELS, seed=1) + 3
        upsampler.normalizer.fit(samples.mean(0), samples.T.cov())
        torch.testing.assert_close(upsampler(image, features, (8, 10)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("factor", "inputs"), [(1, "jbu"), (2, "jbu"), (3, "jbu"), (2, "jafar")])
def test_the_whole_is_tiles_start_and_block(factor, inputs):
    upsampler = small(factor=factor, inputs=inputs, num_heads=4).double()
    level = upsampler.ups[0]
    image, features = scene(batch=1, dtype=torch.float64)
    (height, width), size = (4 * STRIDE, 5 * STRIDE), (4 * factor, 5 * factor)
    with torch.no_grad():
        out = upsampler(image, features, size)
        assert upsampler.backbone.seen == [(1, 3, height, width)] * factor**2
        mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        image01 = (image * std + mean).clamp(0, 1)
        whole = F.interpolate(image01, size=(height * factor, width * factor), mode="bilinear")
        bias = F.interpolate(upsampler.bias_buffer.buffer, size=(4, 5), mode="bilinear")
        phi = upsampler.normalizer
        tiles = torch.zeros(1, CHANNELS, *size, dtype=torch.float64)
        for i in range(factor):
            for j in range(factor):
                tile = whole[:, :, i * height : (i + 1) * height, j * width : (j + 1) * width]
                code = phi(upsampler.backbone.extract(tile).features) + bias
                tiles[:, :, 4 * i : 4 * i + 4, 5 * j : 5 * j + 5] = code + level.tile_pos[:, :, i, j, None, None]
        coarse = phi(features) + bias
        if inputs == "jbu":
            guidance = F.interpolate(image, size=size, mode="bilinear")
            start = jbu_by_definition(level.jbu, coarse[0], guidance[0])[None]
        else:
            reduced = tuple(min(side, 2 * other) for side, other in zip(image.shape[2:], size, strict=True))
            start = level.jafar.upsampler(F.interpolate(image, size=reduced, mode="bilinear"), coarse, size)
        x = torch.cat([start, tiles], 1)[0].permute(1, 2, 0)
        expected = phi.inverse(block_by_definition(level.block, x).permute(2, 0, 1)[None])
    torch.testing.assert_close(out, expected)


def test_other_output_sizes_are_resized_from_the_networks_own():
    upsampler, (image, features) = small(), scene()
    with torch.no_grad():
        own = upsampler(image, features, (8, 10))
        for size in ((13, 31), (3, 4)):
            expected = F.interpolate(own, size=size, mode="bilinear")
            torch.testing.assert_close(upsampler(image, features, size), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output_size", [(8, 10), (21, 15)], ids=["own", "resized"])
def test_bands_and_points_are_those_of_the_whole_map(output_size, monkeypatch):
    monkeypatch.setattr(featsharp_block, "_TILE", 3)
    upsampler, (image, features) = small(), scene()
    with torch.no_grad():
        guidance = upsampler.encode(image, output_size, (4, 5))
        whole = guidance.upsample(features)
        for rows in (1, 3, 100):
            bands = torch.cat([band for _, band in guidance.iter_rows(features, rows)], 2)
            torch.testing.assert_close(bands, whole, rtol=1e-5, atol=1e-5)
        row, col = torch.tensor([7, 0, 3, 3]), torch.tensor([0, 9, 2, 2])
        torch.testing.assert_close(guidance.at(features, row, col), whole[:, :, row, col], rtol=1e-5, atol=1e-5)


def test_the_image_is_encoded_once_for_many_features():
    upsampler, (image, features) = small(), scene()
    with torch.no_grad():
        guidance = upsampler.encode(image, (8, 10), (4, 5))
        assert len(upsampler.backbone.seen) == 4
        for seed in range(2):
            other = randn(*features.shape, seed=seed)
            out = guidance.upsample(other)
            assert len(upsampler.backbone.seen) == 4
            assert torch.equal(out, small()(image, other, (8, 10)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_features_lose_only_their_own_digits(dtype):
    upsampler, (image, features) = small(), scene()
    limit = 4e-3 if dtype == torch.float16 else 2e-2
    with torch.no_grad():
        expected = upsampler(image, features.to(dtype).float(), (8, 10))
        out = upsampler(image, features.to(dtype), (8, 10))
        assert out.dtype == dtype
        assert relative_error(out, expected) <= limit
        assert upsampler.to(dtype)(image, features, (8, 10)).dtype == torch.float32


@pytest.mark.parametrize("inputs", ["jbu", "jafar"])
def test_training_reaches_every_parameter_that_acts(inputs):
    upsampler, (image, features) = small(inputs=inputs).train(), scene()
    upsampler(image.requires_grad_(), features.requires_grad_(), (8, 10)).square().mean().backward()
    for name, leaf in (("image", image), ("features", features), *upsampler.named_parameters()):
        if name.endswith("_alpha") or "cross_attn" in name:  # without effect, or JAFAR's own business
            continue
        assert leaf.grad is not None, name
        assert leaf.grad.isfinite().all(), name
        assert leaf.grad.abs().max() > 0, name


def test_gradients_pass_gradcheck():
    upsampler = small(num_heads=2).double()
    image, features = scene(grid=(2, 3), size=(8, 12), batch=1, dtype=torch.float64)
    parameters = [upsampler.ups[0].tile_pos, upsampler.ups[0].jbu.ups[0].sigma_spatial, upsampler.bias_buffer.buffer]
    for parameter in upsampler.parameters():
        parameter.requires_grad_(any(parameter is p for p in parameters))
    inner = (image / 4).requires_grad_()  # away from where 0 … 1 clamps

    def call(image, features, *_):
        return upsampler(image, features, (4, 7))

    assert torch.autograd.gradcheck(call, (inner, features.requires_grad_(), *parameters), fast_mode=True)


def test_the_backbone_is_no_part_of_the_state_and_moves_along():
    backbone = Backbone()
    upsampler = small(perturbed=False, backbone=backbone)
    prefixes = {name.split(".")[0] for name in upsampler.state_dict()}
    assert prefixes == {"normalizer", "bias_buffer", "ups"}
    assert not any(parameter is backbone.weight for parameter in upsampler.parameters())
    assert upsampler.double().backbone.weight.dtype == torch.float64


def test_parameters_are_those_of_the_description():
    names = {
        "tile_pos": (1, 8, 2, 2),
        "block.attn.qkv.weight": (48, 16),
        "block.attn.proj.weight": (16, 16),
        "block.ls1.gamma": (16,),
        "block.mlp.w12.weight": (48, 16),
        "block.mlp.w3.weight": (8, 24),
        "block.ls2.gamma": (8,),
        "jbu.ups.0.range_temp": (),
        "jbu.ups.0.range_proj.0.weight": (32, 3, 1, 1),
        "jbu.ups.0.range_proj.2.weight": (32, 32, 1, 1),
        "jbu.ups.0.sigma_spatial": (),
        "jbu.ups.0.range_alpha": (),
        "jbu.ups.0.spatial_alpha": (),
        "block.norm1.weight": (16,),
        "block.norm2.weight": (16,),
    }
    state = small(perturbed=False).ups[0].state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith("bias")} == names
    with torch.device("meta"):
        large = FeatSharp(Backbone(768), factor=4, inputs="jafar", use_layer_norm=False)
        assert sum(p.numel() for p in large.ups.parameters()) == 20_412_032
        assert any(name.startswith("jafar.upsampler.") for name in large.ups[0].state_dict())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"factor": 0}, "factor is 0, expected an integer of at least 1"),
        ({"window": -1}, "window is -1"),
        ({"bias_side": 0}, "bias_side is 0"),
        ({"inputs": "bicubic"}, "inputs is 'bicubic', expected one of 'jbu', 'jafar'"),
        ({"use_layer_norm": 1}, "use_layer_norm is 1, expected True or False"),
        ({"num_heads": 5}, "num_heads is 5, expected a divisor of 16: twice the backbone's 8 channels"),
    ],
)
def test_values_out_of_range_are_refused_in_words(config, message):
    with pytest.raises(ValueError, match=message):
        FeatSharp(Backbone(), **config)


def test_what_does_not_fit_the_backbone_is_refused_in_words():
    with pytest.raises(TypeError, match="backbone is a int, expected"):
        FeatSharp(3)
    image, features = scene()
    with pytest.raises(ValueError, match="features have 4 channels, expected 8 by the backbone of this featsharp"):
        small()(image, features[:, :4], (8, 10))
    with pytest.raises(ValueError, match=r"grid is \(1, 5\), expected at least 2 on each side"):
        small()(image, features[:, :, :1], (8, 10))

    class Fixed(Backbone):
        def input_size(self, image_size):
            return 32, 32

    with pytest.raises(ValueError, match="a tile would have 16 x 20 pixels, but the backbone brings those to 32 x 32"):
        small(backbone=Fixed())(image, features, (8, 10))
