"""LoftUp: the official outputs, the definition written plainly, and what banding must not change."""

import pytest
import torch
import torch.nn.functional as F

import naf
from naf.ops import rows as row_bands
from naf.upsamplers import loftup as module
from naf.upsamplers import loftup_network
from naf.upsamplers.loftup import LoftUp
from tests.helpers import golden_cases, randn, relative_error

CASES = golden_cases("loftup")
# Frequencies reach e^10: another instruction set than the goldens' moves outputs by up to 1e-4.
LIMIT = 1e-4
SMALL = {"dim": 8, "n_freqs": 3, "num_heads": 2}


def small(seed=0, **config):
    """A small network whose norms and biases are not those of the start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        upsampler = naf.create("loftup", weights=None, **{**SMALL, **config})
    for index, parameter in enumerate(upsampler.parameters()):
        parameter.data += 0.1 * randn(*parameter.shape, seed=index)
    for name, buffer in upsampler.named_buffers():
        if "running" in name:
            buffer += 0.2 * randn(*buffer.shape).abs()
    return upsampler


def scene(grid=(4, 5), size=(11, 9), batch=2, dtype=torch.float32, seed=0):
    return randn(batch, 3, *size, seed=seed, dtype=dtype), randn(batch, 8, *grid, seed=seed + 1, dtype=dtype), size


def defined(upsampler, image, features):
    """The method as the paper and the authors' code have it, layer after layer on the whole map."""
    net, batch, (height, width) = upsampler.upsampler, image.shape[0], image.shape[2:]
    features = upsampler.channelnorm.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    low, high = (f(f(f(image, 3).values, 2).values, 0).values[:, None, None] for f in (torch.min, torch.max))
    colors = (image - low) / torch.clamp(high - low, min=1e-4) - 0.5

    def axes(rows, cols):
        steps = [torch.linspace(-1, 1, side, dtype=image.dtype) for side in (rows, cols)]
        return torch.stack(torch.meshgrid(*steps, indexing="ij"))[None].expand(batch, -1, -1, -1)

    def waves(x, biases):
        count = biases.shape[2]
        freqs = torch.exp(torch.linspace(-2, 10, count, dtype=x.dtype))[:, None, None, None]
        products = x[:, None] * freqs  # (B, n, F, H, W)
        parts = [products + bias.reshape(count, -1)[:, :, None, None] for bias in biases]
        return torch.cat([parts[0].sin().flatten(1, 2), parts[1].cos().flatten(1, 2)], 1)

    code = torch.cat([axes(height, width), colors], 1)
    code = torch.cat([waves(code, net.fourier_feat[1].biases), colors], 1)
    first = net.first_conv
    x = first[0].norm(code.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    for layer in list(first)[1:]:
        x = layer(x)
    tokens = x.flatten(2).mT
    position = waves(axes(*features.shape[2:]), net.lr_pe.biases)
    cells = torch.cat([features, position], 1).flatten(2).mT
    for attention, feed_forward in net.ca_transformer.layers:
        kv = attention.norm_kv(cells)
        tokens = tokens + attention.attention(attention.norm_q(tokens), kv, kv, need_weights=False)[0]
        tokens = tokens + feed_forward.net(tokens)
    x = net.ca_transformer.norm(tokens).mT.unflatten(2, (height, width))
    x = net.final_conv[0](x)
    mean = x.mean(1, keepdim=True)
    deviation = ((x - mean).square().mean(1, keepdim=True) + 1e-6).sqrt()
    norm = net.final_conv[1]
    return (x - mean) / deviation * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize("path", CASES)
def test_state_dict_has_exactly_the_official_keys_and_shapes(fill, path):
    meta, _, _ = fill.load_case(path)
    with torch.device("meta"):
        own = LoftUp(**meta["config"]).state_dict()
    assert {name: list(tensor.shape) for name, tensor in own.items()} == meta["manifest"]


@pytest.mark.parametrize("with_autograd", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("path", CASES)
def test_output_is_the_official_one(fill, path, with_autograd):
    meta, tensors, state = fill.load_case(path)
    upsampler = naf.create("loftup", weights=state, **meta["config"])
    with torch.set_grad_enabled(with_autograd):
        out = upsampler(tensors["image"], tensors["features"], tuple(meta["output_size"]))
    assert out.requires_grad == with_autograd
    assert fill.error(meta, tensors, out) <= min(LIMIT, meta["tolerance"])


def test_parameters_are_as_many_as_the_paper_says():
    with torch.device("meta"):
        counts = {dim: sum(p.numel() for p in LoftUp(dim=dim).parameters()) for dim in (384, 512, 768)}
    assert counts == {384: 4_303_894, 512: 7_165_462, 768: 15_051_286}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("with_autograd", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_output_is_that_of_the_definition(dtype, with_autograd, training, monkeypatch):
    # Many bands, steps of tokens and steps of queries.
    monkeypatch.setattr(row_bands, "_CPU_PIXELS", 20)
    monkeypatch.setattr(row_bands, "_LEAST_ROWS", 1)
    monkeypatch.setattr(module, "_CPU_TOKENS", 7)
    monkeypatch.setattr(loftup_network, "_SCORES", 1)
    upsampler = small().to(dtype).train(training)
    image, features, size = scene(dtype=dtype)
    statistics = [b.clone() for b in upsampler.buffers()]
    with torch.set_grad_enabled(with_autograd):
        out = upsampler(image, features, size)
        expected = defined(upsampler.train(training), image, features)
    assert relative_error(out, expected) <= (1e-5 if dtype == torch.float32 else 1e-10)
    assert training != all(torch.equal(a, b) for a, b in zip(statistics, upsampler.buffers(), strict=True))


def test_an_image_of_another_size_is_resized_to_the_output():
    upsampler = small()
    image, features, _ = scene(size=(20, 30))
    with torch.no_grad():
        resized = F.interpolate(image, size=(9, 13), mode="bilinear", align_corners=False)
        assert torch.equal(upsampler(image, features, (9, 13)), upsampler(resized, features, (9, 13)))


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 100])
def test_bands_of_rows_are_the_whole_map(rows):
    upsampler, (image, features, size) = small(), scene(size=(19, 7))
    with torch.no_grad():
        guidance = upsampler.encode(image, size, (4, 5))
        bands = torch.cat([band for _, band in guidance.iter_rows(features, rows)], 2)
        torch.testing.assert_close(bands, guidance.upsample(features), rtol=1e-5, atol=1e-5)


def test_points_are_pixels_of_the_map():
    upsampler, (image, features, size) = small(), scene(size=(19, 7))
    rows, cols = torch.tensor([18, 0, 3, 3, 7]), torch.tensor([0, 6, 2, 2, 5])
    with torch.no_grad():
        guidance = upsampler.encode(image, size, (4, 5))
        points = guidance.at(features, rows, cols)
        torch.testing.assert_close(points, guidance.upsample(features)[:, :, rows, cols], rtol=1e-5, atol=1e-5)


def test_colours_are_scaled_over_the_whole_batch():
    upsampler, (image, features, size) = small(), scene()
    assert upsampler.couples_batch
    with torch.no_grad():
        image[0].clamp_(-1, 1)
        image[1].clamp_(-3, 3)
        wide = torch.stack([image[0], 2 * image[1]])
        first, second = (upsampler(x, features, size)[0] for x in (image, wide))
        assert relative_error(first, second) > 1e-2  # the other image's range reaches this one
        # Alone, an image may be scaled and shifted at will.
        alone = upsampler(image[:1].double() * 4 + 8, features[:1], size)
        torch.testing.assert_close(alone, upsampler(image[:1], features[:1], size), rtol=0, atol=2e-2)


def test_memory_layout_of_the_image_does_not_move_a_phase():
    upsampler, (image, features, _) = small(), scene(size=(21, 30))
    with torch.no_grad():
        expected = upsampler(image, features, (8, 14))
        for other in (image.transpose(2, 3).contiguous().mT, image.contiguous(memory_format=torch.channels_last)):
            torch.testing.assert_close(upsampler(other, features, (8, 14)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_modules_and_features_lose_only_their_own_digits(dtype):
    upsampler, (image, features, size) = small(), scene()
    limit = 1e-2 if dtype == torch.float16 else 6e-2
    with torch.no_grad():
        expected = upsampler(image, features, size)
        out = upsampler(image, features.to(dtype), size)
        assert out.dtype == dtype
        assert relative_error(out, expected) <= limit
        assert upsampler.to(dtype)(image, features.to(dtype), size).dtype == dtype


def test_autocast_leaves_the_phases_alone():
    upsampler, (image, features, size) = small(), scene()
    with torch.no_grad():
        expected = upsampler(image, features, size)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = upsampler(image, features, size)
    assert out.dtype == torch.float32
    assert relative_error(out, expected) <= 6e-2  # a phase in bfloat16 would be noise


def test_gradients_pass_gradcheck():
    upsampler = small(n_freqs=2).double().requires_grad_(False)
    image, features, size = scene(grid=(2, 2), size=(3, 4), batch=1, dtype=torch.float64)
    # The highest frequency needs a small step; the extremes of the colours have one-sided derivatives only.
    check = {"eps": 1e-9, "atol": 1e-3, "rtol": 1e-2}
    guidance = upsampler.encode(image, size, (2, 2))
    assert torch.autograd.gradcheck(guidance.upsample, features.requires_grad_(), atol=1e-4)
    colors = guidance.colors.clone().requires_grad_()

    def of_colors(x):
        guidance.colors = x
        return guidance.upsample(features.detach())

    assert torch.autograd.gradcheck(of_colors, colors, **check)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_gradients_of_everything_are_those_of_the_definition(training):
    upsampler = small().double().train(training)
    image, features, size = (
        x.requires_grad_() if isinstance(x, torch.Tensor) else x for x in scene(dtype=torch.float64)
    )
    leaves = [image, features, *upsampler.parameters()]
    head = randn(2, 8, *size, dtype=torch.float64)
    own = torch.autograd.grad((upsampler(image, features, size) * head).sum(), leaves)
    expected = torch.autograd.grad((defined(upsampler, image, features) * head).sum(), leaves)
    scale = max(g.abs().max() for g in expected[2:])
    for a, b in zip(own, expected, strict=True):
        assert relative_error(a, b) <= 1e-8 or (a - b).abs().max() <= 1e-10 * scale


def test_training_files_and_bare_networks_are_renamed():
    state = small().state_dict()
    assert LoftUp.adapt_state(state) == state
    lightning = {k.replace("channelnorm.", "model.1."): v for k, v in state.items()}
    lightning |= {"model.0.patch_embed.weight": torch.zeros(1), "downsampler.kernel": torch.zeros(1)}
    assert LoftUp.adapt_state(lightning) == state
    bare = {k.removeprefix("upsampler."): v for k, v in state.items() if k.startswith("upsampler.")}
    adapted = LoftUp.adapt_state(bare)
    assert state.keys() - adapted.keys() == {"channelnorm.norm.weight", "channelnorm.norm.bias"}
    assert adapted.keys() <= state.keys()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dim": 0}, "dim is 0, expected an integer of at least 1"),
        ({"n_freqs": 2.5}, "n_freqs is 2.5"),
        ({"num_layers": True}, "num_layers is True"),
        ({"lr_size": 0}, "lr_size is 0"),
        ({"dim": 8, "num_heads": 3}, "num_heads is 3, expected a divisor of dim \\+ 20 = 28"),
        ({"lr_pe_type": "learnable"}, "lr_pe_type is 'learnable', expected 'sine'"),
        ({"color_feats": False}, "color_feats is False, expected True"),
    ],
)
def test_values_out_of_range_are_refused_in_words(config, message):
    with pytest.raises(ValueError, match=message):
        LoftUp(**config)


def test_features_of_another_width_are_refused():
    image, features, size = scene()
    with pytest.raises(ValueError, match="features have 4 channels, expected 8"):
        small()(image, features[:, :4], size)
