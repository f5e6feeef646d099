"""NAF's options beside the released configuration: coordinates in cells, interleaved branches, and the ablations."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import naf
from naf.ops.neighborhood import axis_table, make_neighborhood
from naf.ops.rope import rope_angles, rotate
from naf.registry import entry
from naf.upsamplers.naf import NAF
from tests.helpers import randn, relative_error, small

VARIANTS = {
    "cells": {"coordinates": "cells", "reference_cells": 5.0},
    "interleave": {"interleave": True},
    "both": {"interleave": True, "coordinates": "cells"},
    "pixel": {"encoder": "pixel"},
    "inception": {"encoder": "inception"},
    "resnet": {"encoder": "resnet"},
    "interleaved_resnet": {"encoder": "resnet", "interleave": True},
    "max": {"key_pooling": "max"},
    "conv": {"key_pooling": "conv"},
    "bilinear": {"key_pooling": "bilinear"},
    "none": {"position": "none"},
    "manhattan": {"position": "manhattan"},
    "gaussian": {"position": "gaussian"},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)

# (grid, output_size, image_size): integer and fractional ratios, odd sizes, images larger and smaller than the output.
SIZES = {
    "integer": ((4, 5), (12, 15), (12, 15)),
    "fractional": ((12, 10), (23, 19), (23, 19)),
    "larger_image": ((4, 5), (13, 17), (26, 34)),
    "odd_larger_image": ((3, 7), (10, 15), (23, 31)),
    "smaller_image": ((5, 4), (21, 18), (9, 12)),
    "ratio_of_one": ((10, 11), (10, 11), (20, 22)),
}
by_size = pytest.mark.parametrize(("grid", "output_size", "image_size"), SIZES.values(), ids=SIZES)


def scene(grid, output_size, image_size, batch=2, channels=8, dtype=torch.float32):
    image = randn(batch, 3, *image_size, dtype=dtype)
    return image, randn(batch, channels, *grid, seed=1, dtype=dtype), output_size


def variant_of(variant, **config):
    return small("naf", **VARIANTS[variant], **config)


def count(upsampler):
    return sum(parameter.numel() for parameter in upsampler.parameters())


# Parameters ---------------------------------------------------------------------------------------------------------

# Table 6 says 0.26, 0.66, 0.15 and 0.66 M.
COUNTS = [
    ({"encoder": "pixel"}, 266_240),
    ({"encoder": "dual"}, 662_528),
    ({"encoder": "inception"}, 151_120),
    ({"encoder": "resnet"}, 662_528),
    ({"interleave": True, "coordinates": "cells"}, 662_528),
    ({"key_pooling": "conv"}, 662_528 + 256 * 257),
    ({"key_pooling": "max"}, 662_528),
    ({"position": "gaussian"}, 662_528 + 4),
    ({"position": "manhattan", "heads_attn": 1}, 662_528 + 1),
]


@pytest.mark.parametrize(("config", "expected"), COUNTS, ids=str)
def test_parameter_counts(config, expected):
    with torch.device("meta"):
        assert count(NAF(**config)) == expected


def test_only_what_a_variant_adds_or_lacks_changes_the_state_dict():
    with torch.device("meta"):
        default = NAF().state_dict()

        def changes(**config):
            state = NAF(**config).state_dict()
            return set(state) - set(default), set(default) - set(state)

        for config in ({"interleave": True}, {"coordinates": "cells"}, {"encoder": "resnet"}, {"key_pooling": "max"}):
            assert changes(**config) == (set(), set())
            shapes = {name: x.shape for name, x in NAF(**config).state_dict().items()}
            assert shapes == {name: x.shape for name, x in default.items()}
        assert changes(key_pooling="conv") == ({"key_conv.weight", "key_conv.bias"}, set())
        assert changes(position="gaussian") == ({"spatial_kernel.log_sigma"}, set())
        assert changes(encoder="pixel") == (set(), {name for name in default if "sem_encoder" in name})


def test_naf_plus_is_registered_with_its_configuration():
    upsampler, record = small("naf+"), entry("naf+")
    assert (upsampler.heads_attn, upsampler.neighborhood) == (1, "cell")
    assert (upsampler.coordinates, upsampler.reference_cells) == ("cells", 10)
    assert record.parameters == entry("naf").parameters
    assert {"coordinates", "reference_cells", "interleave", "encoder", "key_pooling", "position"} <= set(record.options)


@pytest.mark.parametrize("channels", [1, 3, 7])
@by_size
def test_naf_plus_serves_any_number_of_channels(channels, grid, output_size, image_size):
    image, features, _ = scene(grid, output_size, image_size, channels=channels)
    upsampler = small("naf+")
    out = upsampler(image, features, output_size)
    expected = small("naf+", backend="reference")(image, features, output_size)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    # One head gives all channels the same weights.
    each = [upsampler(image, features[:, index : index + 1], output_size) for index in range(channels)]
    torch.testing.assert_close(torch.cat(each, dim=1), out, rtol=1e-5, atol=1e-5)
    bands = [band for _, band in upsampler.iter_rows(image, features, output_size, 5, memory_budget=0)]
    torch.testing.assert_close(torch.cat(bands, dim=2), out, rtol=1e-5, atol=1e-5)
    guidance, head = upsampler.encode(image, output_size, grid), randn(2, channels, seed=3)
    linear = guidance.upsample_linear(features, head, None)
    torch.testing.assert_close(linear, F.conv2d(out, head[:, :, None, None]), rtol=1e-5, atol=1e-5)
    points = guidance.at(features, [3, 9, 0], [7, 0, 6])
    torch.testing.assert_close(points, out[:, :, [3, 9, 0], [7, 0, 6]], rtol=1e-5, atol=1e-5)


# Paths --------------------------------------------------------------------------------------------------------------


@every_variant
@by_size
def test_inference_autograd_and_streamed_outputs_agree(variant, grid, output_size, image_size):
    upsampler = copy.deepcopy(variant_of(variant)).requires_grad_()
    image, features, _ = scene(grid, output_size, image_size)
    recorded = upsampler(image, features, output_size)
    assert recorded.requires_grad
    with torch.no_grad():
        out = upsampler(image, features, output_size)
    torch.testing.assert_close(out, recorded.detach(), rtol=1e-5, atol=1e-5)
    bands = [band for _, band in upsampler.iter_rows(image, features, output_size, 5, memory_budget=0)]
    torch.testing.assert_close(torch.cat(bands, dim=2), out, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [{"interleave": True, "coordinates": "cells"}, {"encoder": "pixel"}], ids=str)
@pytest.mark.parametrize("heads", [(1, 1), (2, 2), (1, 4), (4, 2), (4, 4), (4, 1), (2, 4), (3, 3), (1, 3)])
@pytest.mark.parametrize("image_size", [(12, 15), (24, 30), (17, 31)])
def test_the_lean_encoder_gives_the_queries_of_the_plain_one(config, heads, image_size):
    config = {"dim": 48, "heads_attn": heads[0], "heads_rope": heads[1], "kernel_size": 3, **config}
    upsampler = copy.deepcopy(small("naf", **config)).requires_grad_()
    image, grid, output_size = randn(2, 3, *image_size), (4, 5), (12, 15)
    plain = upsampler.encode(image, output_size, grid)
    assert plain.order is None
    with torch.no_grad():
        lean = upsampler.encode(image, output_size, grid)
    torch.testing.assert_close(lean.scores(), plain.scores().detach(), rtol=1e-4, atol=1e-5)
    joined = lean.queries.permute(0, 2, 3, 1, 4).flatten(3)
    assert (lean.order is None) == bool(heads[1] % heads[0])  # else pairs lie side by side: the fast way
    if lean.order is not None:
        joined = joined[..., lean.order.argsort()]
    expected = plain.queries.permute(0, 2, 3, 1, 4).flatten(3).detach()
    torch.testing.assert_close(joined, expected, rtol=1e-5, atol=1e-5)


@every_variant
@pytest.mark.parametrize(("grid", "output_size"), [((4, 5), (12, 15)), ((12, 10), (23, 19))])
def test_backends_agree(variant, grid, output_size):
    inputs = scene(grid, output_size, (20, 22))
    results = [variant_of(variant, backend=backend)(*inputs) for backend in ("blocked", "reference")]
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


@every_variant
@pytest.mark.parametrize("rule", ["official", "cell"])
def test_every_way_of_use_follows_the_scores(variant, rule):
    upsampler = variant_of(variant, neighborhood=rule, kernel_size=5)
    grid, output_size = (6, 7), (16, 12)
    image, features, _ = scene(grid, output_size, (16, 12))
    guidance = upsampler.encode(image, output_size, grid)
    out, scores = upsampler(image, features, output_size, return_weights=True)
    assert torch.equal(scores, guidance.scores())
    weights = scores.softmax(-1)
    rows, cols = (axis_table(fine, coarse, 5, rule) for fine, coarse in zip(output_size, grid, strict=True))
    cells = features.unflatten(1, (4, 2))[..., rows[:, None, :, None], cols[None, :, None, :]]
    expected = (weights[:, :, None] * cells.flatten(5)).sum(-1).flatten(1, 2)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    bands = torch.cat([band for _, band in guidance.iter_rows(features, rows=5)], dim=2)
    torch.testing.assert_close(bands, out, rtol=1e-5, atol=1e-5)
    points = guidance.at(features, [3, 15, 0], [11, 0, 6])
    torch.testing.assert_close(points, out[:, :, [3, 15, 0], [11, 0, 6]], rtol=1e-5, atol=1e-5)
    attention = guidance.attention(3, 10)
    assert torch.equal(attention.rows, rows[3])
    assert torch.equal(attention.cols, cols[10])
    torch.testing.assert_close(attention.weights.flatten(2), weights[:, :, 3, 10], rtol=1e-5, atol=1e-6)
    head, bias = randn(1, 8, seed=3), randn(1, seed=4)
    linear = guidance.upsample_linear(features, head, bias)
    torch.testing.assert_close(linear, F.conv2d(out, head[:, :, None, None], bias), rtol=1e-5, atol=1e-5)


@every_variant
def test_weights_sum_to_one_and_nan_reaches_its_neighborhood_only(variant):
    upsampler = variant_of(variant, kernel_size=3)
    grid, output_size = (8, 9), (24, 27)
    image, features, _ = scene(grid, output_size, (24, 27), batch=1)
    constant = upsampler(image, torch.full_like(features, -2.5), output_size)
    torch.testing.assert_close(constant, torch.full_like(constant, -2.5), rtol=1e-5, atol=0)
    clean = upsampler(image, features, output_size)
    features[0, 0, 4, 5] = torch.nan
    out = upsampler(image, features, output_size)
    rows, cols = (axis_table(fine, coarse, 3) for fine, coarse in zip(output_size, grid, strict=True))
    touched = (rows == 4).any(1)[:, None] & (cols == 5).any(1)[None]
    assert torch.equal(out[0, 0].isnan(), touched)
    torch.testing.assert_close(out[0, 0][~touched], clean[0, 0][~touched], rtol=1e-5, atol=1e-5)
    assert out[0, 2:].isfinite().all()


@every_variant
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_modules_of_other_dtypes_stay_close(variant, dtype):
    tolerance = {torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float64: 1e-5}[dtype]
    upsampler = variant_of(variant)
    image, features, output_size = scene((5, 6), (20, 23), (20, 23))
    expected = upsampler(image, features, output_size)
    other = copy.deepcopy(upsampler).to(dtype)
    out = other(image.to(dtype), features.to(dtype), output_size)
    assert out.dtype == dtype
    assert relative_error(out, expected) <= tolerance


@every_variant
def test_autocast_stays_close(variant):
    image, features, output_size = scene((5, 6), (20, 23), (20, 23))
    expected = variant_of(variant)(image, features, output_size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = variant_of(variant)(image, features, output_size)
    assert relative_error(out, expected) <= 2e-2


@every_variant
def test_gradcheck(variant):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = {"dim": 16, "img_layers": 1, "heads_attn": 2, "heads_rope": 2, "kernel_size": 3}
        upsampler = NAF(**config, **VARIANTS[variant]).double()
    image, features, output_size = scene((3, 4), (7, 9), (8, 9), batch=1, channels=2, dtype=torch.float64)
    names, parameters = zip(*upsampler.named_parameters(), strict=True)

    def run(image, features, *values):
        torch.manual_seed(5)  # the factor on the coordinates
        return torch.func.functional_call(
            upsampler, dict(zip(names, values, strict=True)), (image, features, output_size)
        )

    inputs = (image.requires_grad_(), features.requires_grad_(), *parameters)
    with torch.random.fork_rng(devices=[]):
        assert torch.autograd.gradcheck(run, inputs, fast_mode=True, atol=1e-5)
        grads = torch.autograd.grad(run(*inputs).square().sum(), parameters)
    assert all(grad.isfinite().all() and grad.abs().max() > 0 for grad in grads)


@pytest.mark.parametrize("variant", ["inception", "resnet"])
def test_gradient_checkpointing_changes_no_gradient(variant):
    upsampler = copy.deepcopy(variant_of(variant, img_layers=2)).requires_grad_()
    inputs = scene((4, 5), (12, 15), (12, 15))
    grads = []
    for enabled in (False, True):
        upsampler.set_grad_checkpointing(enabled)
        loss = upsampler(*inputs).square().sum()
        grads.append(torch.autograd.grad(loss, list(upsampler.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


# Coordinates in cells -----------------------------------------------------------------------------------------------


def flat_scores(upsampler, grid, ratio):
    """Scores of a guidance that is the same at every pixel, (n, Ho, Wo, k * k)."""
    size = tuple(side * ratio for side in grid)
    guidance = randn(32)[None, :, None, None].expand(1, -1, *size)
    return upsampler.encode(guidance, size, grid).scores()[0]


@pytest.mark.parametrize("grids", [((6, 8), (11, 13)), ((5, 20), (12, 6))])
def test_in_cells_a_pixel_scores_alike_on_every_grid(grids):
    config = {"use_encoder": False, "kernel_size": 3}
    cells = small("naf", coordinates="cells", reference_cells=6, **config)
    # Pixel (9, 10) of either grid: the same place within its cell, and no border near.
    first, second = (flat_scores(cells, grid, 4)[:, 9, 10] for grid in grids)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
    # Neighbours at distance of one cell: the pattern moves with the cell.
    moved = flat_scores(cells, grids[0], 4)
    torch.testing.assert_close(moved[:, 9, 10], moved[:, 13, 14], rtol=1e-4, atol=1e-5)
    in_image = [flat_scores(small("naf", **config), grid, 4)[:, 9, 10] for grid in grids]
    assert relative_error(*in_image) > 0.01


def test_coordinates_in_cells_follow_the_formula_on_each_axis():
    upsampler = small("naf", coordinates="cells", reference_cells=10.0, use_encoder=False)
    guidance, size, grid = randn(1, 32, 12, 20, dtype=torch.float64), (12, 20), (4, 5)
    queries = copy.deepcopy(upsampler).double().encode(guidance, size, grid).queries
    periods = upsampler.image_encoder.rope.periods.double()
    angles = []
    for fine, coarse in zip(size, grid, strict=True):
        place = [(2 * (i + 0.5) / fine - 1) * coarse / 10 for i in range(fine)]
        angles.append(2 * math.pi * torch.tensor(place, dtype=torch.float64)[:, None] / periods)
    expected = rotate(guidance.permute(0, 2, 3, 1), *angles, heads=4)
    torch.testing.assert_close(queries.permute(0, 2, 3, 1, 4).flatten(3), expected)


def test_on_the_reference_grid_cells_are_the_image():
    inputs = scene((6, 6), (24, 24), (24, 24))
    cells = small("naf", coordinates="cells", reference_cells=6)
    assert torch.equal(cells(*inputs), small("naf")(*inputs))
    other = scene((6, 3), (24, 12), (24, 12))
    assert relative_error(cells(*other), small("naf")(*other)) > 1e-3


def test_weights_of_the_package_take_coordinates_in_cells():
    upsampler, plain = naf.create("naf"), naf.create("naf", coordinates="image")
    assert upsampler.weights_source == plain.weights_source == "embedded"
    assert (upsampler.config["coordinates"], upsampler.config["reference_cells"]) == ("cells", 16)
    same, other = scene((16, 16), (32, 32), (32, 32), batch=1), scene((4, 4), (16, 16), (16, 16), batch=1)
    with torch.no_grad():
        assert torch.equal(upsampler(*same), plain(*same))
        assert relative_error(upsampler(*other), plain(*other)) > 1e-3


def test_training_rescales_coordinates_in_cells_too():
    upsampler = copy.deepcopy(small("naf", coordinates="cells", use_encoder=False)).train()
    guidance, periods = randn(1, 32, 6, 8), upsampler.image_encoder.rope.periods
    torch.manual_seed(4)
    queries = upsampler.encode(guidance, (6, 8), (3, 4)).queries
    torch.manual_seed(4)
    factor = 2 ** (2 * torch.rand(()) - 1)
    angles = rope_angles(6, periods, factor * 3 / 16), rope_angles(8, periods, factor * 4 / 16)
    expected = rotate(guidance.permute(0, 2, 3, 1), *angles, heads=4)
    torch.testing.assert_close(queries.permute(0, 2, 3, 1, 4).flatten(3), expected, rtol=1e-5, atol=1e-5)


# Interleaved branches -----------------------------------------------------------------------------------------------


def test_interleaved_guidance_holds_the_branches_channels_in_turn():
    upsampler, given = small("naf", interleave=True), small("naf", use_encoder=False)
    image, features, output_size = scene((4, 5), (12, 15), (12, 15))
    maps = [branch(image, torch.float32) for branch in upsampler.image_encoder.branches.values()]
    guidance = image.new_empty(2, 32, 12, 15)
    guidance[:, 0::2], guidance[:, 1::2] = maps
    expected = given(guidance, features, output_size)
    torch.testing.assert_close(upsampler(image, features, output_size), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("branch", ["encoder", "sem_encoder"])
def test_interleaved_every_head_sees_both_branches(branch):
    upsampler = naf.create("naf", weights=None, dim=32, img_layers=1, interleave=True)
    inputs = scene((4, 5), (12, 15), (12, 15))
    with torch.no_grad():
        before = upsampler(*inputs)
        for index, parameter in enumerate(getattr(upsampler.image_encoder, branch).parameters()):
            parameter += randn(*parameter.shape, seed=index)
        assert (upsampler(*inputs) - before).abs().amax((0, 2, 3)).min() > 1e-3


# Encoders -----------------------------------------------------------------------------------------------------------


def test_the_pixel_encoder_sees_no_neighbours():
    encoder = small("naf", encoder="pixel").image_encoder.encoder
    # Shuffled pixels keep the statistics of the norms.
    image, order = randn(1, 3, 6, 8), torch.randperm(48, generator=torch.Generator().manual_seed(0))
    shuffled = image.flatten(2)[:, :, order].unflatten(2, (6, 8))
    expected = encoder(image, torch.float32).flatten(2)[:, :, order].unflatten(2, (6, 8))
    torch.testing.assert_close(encoder(shuffled, torch.float32), expected, rtol=1e-5, atol=1e-5)


def test_residual_blocks_without_a_last_convolution_are_the_identity():
    upsampler = copy.deepcopy(small("naf", encoder="resnet", img_layers=2))
    image = randn(1, 3, 6, 8)
    for branch in upsampler.image_encoder.branches.values():
        made = branch(image, torch.float32)
        for block in list(branch)[1:]:
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)
        pad = branch[0].kernel_size[0] // 2
        first = branch[0](F.pad(image, (pad,) * 4, mode="reflect"))
        torch.testing.assert_close(branch(image, torch.float32), first)
        assert relative_error(made, first) > 1e-2


def test_inception_paths_are_the_quarters_of_a_block():
    block, x = small("naf", encoder="inception").image_encoder.encoder[1], randn(1, 32, 6, 8)
    active = F.silu(block.norm(x))
    near = [F.silu(layer(active)) for layer in (block.reduce3, block.reduce5)]
    expected = [
        block.single(active),
        block.conv3(F.pad(near[0], (1,) * 4, mode="reflect")),
        block.conv5(F.pad(near[1], (2,) * 4, mode="reflect")),
        block.pooled(F.pad(active, (1,) * 4, value=-math.inf).unfold(2, 3, 1).unfold(3, 3, 1).amax((4, 5))),
    ]
    torch.testing.assert_close(block(x, torch.float32), torch.cat(expected, dim=1), rtol=1e-5, atol=1e-5)
    assert block.reduce3.out_channels == 4
    assert block.reduce5.out_channels == 1


# Keys ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["average", "max", "bilinear", "conv"])
@pytest.mark.parametrize(("grid", "output_size"), [((4, 5), (12, 15)), ((5, 4), (13, 9))])
def test_keys_are_pooled_as_named(pooling, grid, output_size):
    upsampler = small("naf", key_pooling=pooling)
    guidance = upsampler.encode(randn(2, 3, *output_size), output_size, grid)
    queries, keys = (x.permute(0, 1, 4, 2, 3).flatten(1, 2) for x in (guidance.queries, guidance.keys))  # (B, dim, …)
    functions = {
        "max": F.adaptive_max_pool2d,
        "bilinear": lambda x, size: F.interpolate(x, size, mode="bilinear"),
    }
    expected = functions.get(pooling, F.adaptive_avg_pool2d)(queries, grid)
    if pooling == "conv":
        place = guidance.order.argsort()
        expected = upsampler.key_conv(expected[:, place])[:, guidance.order]
    torch.testing.assert_close(keys, expected, rtol=1e-5, atol=1e-6)


# Position -----------------------------------------------------------------------------------------------------------


def test_without_position_a_flat_image_averages_the_window():
    _, features, output_size = scene((6, 7), (12, 14), (12, 14))
    flat = torch.full((2, 3, 12, 14), 0.3)
    out = small("naf", position="none", kernel_size=3)(flat, features, output_size)
    rows, cols = axis_table(12, 6, 3), axis_table(14, 7, 3)
    expected = features[..., rows[:, None, :, None], cols[None, :, None, :]].mean((4, 5))
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("position", ["manhattan", "gaussian"])
@pytest.mark.parametrize("rule", ["official", "cell"])
def test_spatial_kernels_multiply_the_content_score(position, rule):
    config = {"kernel_size": 5, "neighborhood": rule}
    upsampler = copy.deepcopy(small("naf", position=position, **config)).double()
    grid, output_size, image = (6, 7), (16, 12), randn(1, 3, 16, 12, dtype=torch.float64)
    scores = upsampler.encode(image, output_size, grid).scores()[0]
    without = copy.deepcopy(small("naf", position="none", **config)).double()
    without.load_state_dict({k: v for k, v in upsampler.state_dict().items() if k != "spatial_kernel.log_sigma"})
    content = without.encode(image, output_size, grid).scores()[0]
    near = make_neighborhood(grid, output_size, 5, rule)
    sigma = upsampler.spatial_kernel.log_sigma.exp().tolist()
    assert len(set(sigma)) == 4
    for head, row, col in ((0, 0, 0), (1, 7, 5), (3, 15, 11)):
        p = (row + 0.5) * 6 / 16 - 0.5, (col + 0.5) * 7 / 12 - 0.5  # in cells
        for index, (r, c) in enumerate((r, c) for r in near.rows[row].tolist() for c in near.cols[col].tolist()):
            steps = abs(p[0] - r), abs(p[1] - c)
            power = sum(steps) if position == "manhattan" else sum(step**2 for step in steps)
            expected = content[head, row, col, index] * math.exp(-power / (2 * sigma[head] ** 2))
            torch.testing.assert_close(scores[head, row, col, index], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kernel_size", [3, 9])
def test_spatial_kernels_start_at_a_quarter_of_the_window(kernel_size):
    sigma = NAF(dim=16, position="gaussian", kernel_size=kernel_size).spatial_kernel.log_sigma.exp()
    torch.testing.assert_close(sigma, torch.full((4,), (kernel_size - 1) / 4))


# Bad values ---------------------------------------------------------------------------------------------------------

BAD = [
    ({"coordinates": "pixels"}, "coordinates is 'pixels', expected one of 'image', 'cells'"),
    ({"encoder": "vit"}, "encoder is 'vit', expected one of 'dual', 'pixel', 'inception', 'resnet'"),
    ({"key_pooling": "mean"}, "key_pooling is 'mean', expected one of 'average', 'max', 'conv', 'bilinear'"),
    ({"position": None}, "position is None, expected one of 'rope', 'none', 'manhattan', 'gaussian'"),
    ({"reference_cells": 0}, "reference_cells is 0, expected a positive number of cells"),
    ({"reference_cells": math.nan}, "reference_cells is nan"),
    ({"reference_cells": math.inf}, "reference_cells is inf"),
    ({"interleave": True, "encoder": "pixel"}, "the encoder 'pixel' has one branch"),
    ({"interleave": True, "encoder": "inception"}, "the encoder 'inception' has one branch"),
]


@pytest.mark.parametrize(("config", "message"), BAD, ids=str)
def test_bad_options_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        NAF(dim=32, **config)


@pytest.mark.parametrize(("encoder", "least"), [("dual", 2), ("inception", 3), ("resnet", 2)])
def test_images_too_small_for_the_padding_are_refused(encoder, least):
    upsampler = small("naf", encoder=encoder)
    features = randn(1, 8, 4, 5)
    with pytest.raises(ValueError, match=f"expected at least {least} on each side"):
        upsampler(randn(1, 3, least - 1, 9), features, (8, 10))
    assert upsampler(randn(1, 3, least, 9), features, (8, 10)).isfinite().all()


def test_the_pixel_encoder_takes_a_single_row():
    assert small("naf", encoder="pixel")(randn(1, 3, 1, 9), randn(1, 8, 4, 5), (8, 10)).isfinite().all()
