"""LiFT: the official outputs, the definition written plainly, and what banding must not change."""

import pytest
import torch
import torch.nn.functional as F

import naf
from naf.ops import rows as row_bands
from naf.upsamplers.lift import LiFT
from tests.helpers import golden_cases, randn, relative_error

CASES = golden_cases("lift")
LIMIT = 1e-5
CHANNELS = 8


def small(**config):
    """A small network whose norms and biases are not those of the start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        upsampler = naf.create("lift", weights=None, in_channels=CHANNELS, **config)
    for index, parameter in enumerate(upsampler.parameters()):
        parameter.data += 0.1 * randn(*parameter.shape, seed=index)
    for name, buffer in upsampler.named_buffers():
        if "running" in name:
            buffer += 0.2 * randn(*buffer.shape).abs()
    return upsampler


def scene(grid=(3, 4), size=(48, 64), batch=2, dtype=torch.float32):
    return randn(batch, 3, *size, dtype=dtype), randn(batch, CHANNELS, *grid, seed=1, dtype=dtype)


def defined(net, image, features, output_size, passes):
    """The method as the paper and the authors' code have it, layer after layer on the whole map."""
    size = [net.patch_size * side for side in features.shape[2:]]
    if list(image.shape[2:]) != size:
        image = F.interpolate(image, size=size, mode="bilinear")
    for index in range(passes):
        if index:
            image = F.interpolate(image, scale_factor=2, mode="bilinear")
        fine = F.adaptive_max_pool2d(net.image_convs_1(image), [2 * side for side in features.shape[2:]])
        both = torch.cat([features, net.image_convs_2(fine)], 1)
        features = net.outc(net.up1.conv_1.double_conv(torch.cat([net.up1.up(both), fine], 1)))
    if features.shape[2:] != output_size:
        features = F.interpolate(features, size=output_size, mode="bilinear")
    return features


@pytest.mark.parametrize("path", CASES)
def test_state_dict_has_exactly_the_official_keys_and_shapes(fill, path):
    meta, _, _ = fill.load_case(path)
    with torch.device("meta"):
        own = LiFT(**meta["config"]).state_dict()
    assert {name: list(tensor.shape) for name, tensor in own.items()} == meta["manifest"]


@pytest.mark.parametrize("with_autograd", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("path", CASES)
def test_output_is_the_official_one(fill, path, with_autograd):
    meta, tensors, state = fill.load_case(path)
    upsampler = naf.create("lift", weights=state, **meta["config"])
    with torch.set_grad_enabled(with_autograd):
        out = upsampler(tensors["image"], tensors["features"], tuple(meta["output_size"]))
    assert out.requires_grad == with_autograd
    assert fill.error(meta, tensors, out) <= LIMIT


def test_parameters_are_as_many_as_the_paper_says():
    with torch.device("meta"):
        counts = {c: sum(p.numel() for p in LiFT(in_channels=c).parameters()) for c in (384, 768)}
    assert counts == {384: 1_187_280, 768: 4_417_296}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("with_autograd", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize(
    ("patch_size", "output_size", "passes"),
    [(16, (6, 8), 1), (8, (12, 16), 2), (14, (24, 32), 3), (5, (20, 11), 3), (16, (2, 5), 1), (4, (9, 9), 2)],
)
def test_output_is_that_of_the_definition(patch_size, output_size, passes, with_autograd, training, monkeypatch):
    monkeypatch.setattr(row_bands, "_CPU_PIXELS", 1)  # one row a band
    monkeypatch.setattr(row_bands, "_LEAST_ROWS", 1)
    upsampler = small(patch_size=patch_size).double().train(training)
    image, features = scene(dtype=torch.float64)
    statistics = [b.clone() for b in upsampler.buffers()]
    with torch.set_grad_enabled(with_autograd):
        out = upsampler(image, features, output_size)
        moved = [not torch.equal(a, b) for a, b in zip(statistics, upsampler.buffers(), strict=True)]
        expected = defined(upsampler, image, features, output_size, passes)
    assert relative_error(out, expected) <= 1e-10
    assert all(moved) == any(moved) == training


def test_passes_are_as_many_as_the_larger_ratio_needs():
    upsampler, (image, _) = small(patch_size=8), scene()
    for output_size, passes in {(3, 4): 1, (6, 8): 1, (7, 8): 2, (6, 33): 4, (48, 64): 4}.items():
        guidance = upsampler.encode(image, output_size, (3, 4))
        assert len(guidance.maps) == passes
        assert guidance.maps[-1].fine.shape[2:] == (3 << passes, 4 << passes)


def test_passes_may_be_asked_for_at_the_call_or_for_good():
    image, features = scene()
    upsampler, twice = small(), small(iterations=2)
    with torch.no_grad():
        expected = defined(upsampler, image, features, (6, 8), 2)
        assert relative_error(upsampler(image, features, (6, 8), iterations=2), expected) <= 1e-5
        assert relative_error(twice(image, features, (6, 8)), expected) <= 1e-5
        once = defined(upsampler, image, features, (6, 8), 1)
        assert relative_error(twice(image, features, (6, 8), iterations=1), once) <= 1e-5
    assert upsampler.iterations is None
    assert twice.iterations == 2


def test_tokens_are_taken_where_the_configuration_says_so():
    image, features = scene()
    tokens = features.flatten(2).mT
    upsampler = small(pre_shape=True, post_shape=True)
    with torch.no_grad():
        expected = upsampler(image, features, (12, 16))
        assert torch.equal(upsampler(image, tokens, (12, 16)), expected)
        # An image that is no multiple of the patch counts whole patches, as the official code does.
        assert upsampler(F.pad(image, (0, 15, 0, 7)), tokens, (12, 16)).shape == expected.shape
        assert torch.equal(upsampler(image, tokens, (12, 16), iterations=2), expected)
    with pytest.raises(ValueError, match="features have 11 tokens, expected 3 x 4 = 12: one for each 16 x 16 pixels"):
        upsampler(image, tokens[:, 1:], (12, 16))
    with pytest.raises(TypeError, match="image is None"):
        upsampler(None, tokens, (12, 16))
    with pytest.raises(ValueError, match="expected four dimensions"):
        small()(image, tokens, (12, 16))


@pytest.mark.parametrize("output_size", [(24, 32), (20, 23)], ids=["passes", "resized"])
@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_bands_of_rows_are_the_whole_map(output_size, rows):
    upsampler, (image, features) = small(), scene()
    with torch.no_grad():
        guidance = upsampler.encode(image, output_size, (3, 4))
        whole = guidance.upsample(features)
        bands = torch.cat([band for _, band in guidance.iter_rows(features, rows)], 2)
        torch.testing.assert_close(bands, whole, rtol=1e-5, atol=1e-5)
        row, col = torch.tensor([18, 0, 3, 3, 11]), torch.tensor([0, 22, 2, 2, 5])
        torch.testing.assert_close(guidance.at(features, row, col), whole[:, :, row, col], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_modules_and_features_lose_only_their_own_digits(dtype):
    upsampler, (image, features) = small(), scene()
    limit = 4e-3 if dtype == torch.float16 else 3e-2
    with torch.no_grad():
        expected = upsampler(image, features, (9, 16))
        out = upsampler(image.to(dtype), features.to(dtype), (9, 16))
        assert out.dtype == dtype
        assert relative_error(out, expected) <= limit
        assert relative_error(upsampler.to(dtype)(image, features, (9, 16)), expected) <= limit


def test_gradients_pass_gradcheck():
    upsampler = small(patch_size=2).double()
    image, features = scene(grid=(2, 1), size=(4, 2), batch=1, dtype=torch.float64)
    parameters = [upsampler.up1.up.weight, upsampler.image_convs_2[1].weight]
    for parameter in upsampler.parameters():
        parameter.requires_grad_(any(parameter is p for p in parameters))

    def call(image, features, *_):
        return upsampler(image, features, (5, 4))

    leaves = (image.requires_grad_(), features.requires_grad_(), *parameters)
    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)


def test_training_reaches_every_parameter():
    upsampler, (image, features) = small().train(), scene()
    upsampler(image.requires_grad_(), features.requires_grad_(), (12, 16)).square().mean().backward()
    for leaf in (image, features, *upsampler.parameters()):
        assert leaf.grad is not None
        assert leaf.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"in_channels": 1}, "in_channels is 1, expected an integer of at least 2"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"patch_size": 14, "adaptive": False}, "patch_size is 14, expected 8 or 16 unless adaptive is True"),
        ({"iterations": 0}, "iterations is 0, expected an integer of at least 1"),
        ({"pre_shape": "yes"}, "pre_shape is 'yes', expected True or False"),
    ],
)
def test_values_out_of_range_are_refused_in_words(config, message):
    with pytest.raises(ValueError, match=message):
        LiFT(**config)
    assert LiFT(in_channels=4, patch_size=8, adaptive=False).patch_size == 8


def test_passes_of_a_call_are_checked():
    image, features = scene()
    with pytest.raises(ValueError, match="iterations is -1, expected an integer of at least 1"):
        small()(image, features, (6, 8), iterations=-1)
