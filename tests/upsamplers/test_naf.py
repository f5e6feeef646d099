"""What is NAF's own: its size, its branches, its training mode, its precision, its gradients."""

import math

import pytest
import torch

import naf
from naf.ops.neighborhood import axis_table
from naf.upsamplers import naf_encoder
from naf.upsamplers.naf import NAF
from tests.helpers import randn, relative_error, small

HALF = (torch.bfloat16, torch.float16)
BACKENDS = ("reference", "blocked")

# The paper's tables 6 and 7, to the last parameter.
PARAMETERS = [
    ({"dim": 64}, 42_752),
    ({"dim": 96}, 94_848),
    ({"dim": 128}, 167_424),
    ({}, 662_528),
    ({"dim": 512}, 2_635_776),
    ({"dim": 768}, 5_919_744),
    ({"dim": 1024}, 10_514_432),
    ({"img_layers": 1}, 333_312),
    ({"img_layers": 3}, 991_744),
    ({"img_layers": 4}, 1_320_960),
    ({"img_layers": 5}, 1_650_176),
    ({"dim": 768, "img_layers": 5}, 14_780_928),
]


def count(upsampler):
    return sum(parameter.numel() for parameter in upsampler.parameters())


def scene(grid, output_size, image_size=None, channels=8, batch=1, dtype=torch.float32):
    image = randn(batch, 3, *(image_size or output_size), dtype=dtype)
    return image, randn(batch, channels, *grid, seed=1, dtype=dtype), output_size


@pytest.mark.parametrize(("config", "expected"), PARAMETERS, ids=str)
def test_parameter_counts_are_those_of_the_paper(config, expected):
    with torch.device("meta"):
        assert count(NAF(**config)) == expected


def test_names_stand_for_the_papers_configurations():
    with torch.device("meta"):
        assert count(naf.create("naf", weights=None)) == 662_528
        assert count(naf.create("naf++", weights=None)) == 14_780_928
        assert count(naf.create("naf++", weights=None, dim=512)) == count(NAF(dim=512, img_layers=5))


def test_the_default_state_dict_has_the_official_37_entries():
    with torch.device("meta"):
        state = NAF().state_dict()
    expected = {"image_encoder.rope.periods": (16,)}
    for branch, side in (("encoder", 1), ("sem_encoder", 3)):
        expected[f"image_encoder.{branch}.0.weight"] = (128, 3, side, side)
        expected[f"image_encoder.{branch}.0.bias"] = (128,)
        for layer in (1, 2):
            for index in (1, 2):
                for kind in ("weight", "bias"):
                    expected[f"image_encoder.{branch}.{layer}.norm{index}.{kind}"] = (128,)
                expected[f"image_encoder.{branch}.{layer}.conv{index}.weight"] = (128, 128, side, side)
                expected[f"image_encoder.{branch}.{layer}.conv{index}.bias"] = (128,)
    assert len(expected) == 37
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected


@pytest.mark.parametrize(("grid", "ratio"), [((4, 5), (3, 3)), ((12, 10), (2, 4)), ((9, 9), (1, 1)), ((1, 3), (5, 2))])
def test_both_neighborhood_rules_agree_at_integer_ratios(grid, ratio):
    inputs = scene(grid, tuple(g * s for g, s in zip(grid, ratio, strict=True)), (24, 26))
    assert torch.equal(small("naf", neighborhood="cell")(*inputs), small("naf", neighborhood="official")(*inputs))


def test_neighborhood_rules_differ_at_a_fractional_ratio():
    inputs = scene((12, 10), (23, 19))
    for rule in ("official", "cell"):
        guidance = small("naf", neighborhood=rule).encode(inputs[0], (23, 19), (12, 10))
        assert torch.equal(guidance.attention(7, 3).rows, axis_table(23, 12, 9, rule)[7])
        assert torch.equal(guidance.attention(7, 3).cols, axis_table(19, 10, 9, rule)[3])
    assert not torch.allclose(small("naf", neighborhood="cell")(*inputs), small("naf")(*inputs), atol=1e-3)


@pytest.mark.parametrize(("grid", "output_size"), [((3, 4), (12, 16)), ((5, 4), (13, 9)), ((10, 9), (10, 9))])
def test_backends_agree(grid, output_size):
    inputs = scene(grid, output_size, (20, 22), batch=2)
    results = [small("naf", backend=backend)(*inputs) for backend in ("auto", *BACKENDS)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(results[2], results[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("branch", "half"), [("sem_encoder", slice(0, 4)), ("encoder", slice(4, 8))])
def test_each_branch_guides_its_own_half_of_the_channels(branch, half):
    upsampler = naf.create("naf", weights=None, dim=32, img_layers=1)
    inputs = scene((4, 5), (12, 15))
    with torch.no_grad():
        before = upsampler(*inputs)
        for index, parameter in enumerate(getattr(upsampler.image_encoder, branch).parameters()):
            parameter += randn(*parameter.shape, seed=index)
        after = upsampler(*inputs)
    assert torch.equal(after[:, half], before[:, half])
    other = slice(4, 8) if half.start == 0 else slice(0, 4)
    assert (after[:, other] - before[:, other]).abs().amax((2, 3)).min() > 1e-3


def test_one_head_mixes_both_branches():
    upsampler = naf.create("naf", weights=None, dim=32, img_layers=1, heads_attn=1)
    inputs = scene((4, 5), (12, 15))
    with torch.no_grad():
        before = upsampler(*inputs)
        for index, parameter in enumerate(upsampler.image_encoder.sem_encoder.parameters()):
            parameter += randn(*parameter.shape, seed=index)
        assert (upsampler(*inputs) - before).abs().amax((2, 3)).min() > 1e-3


@pytest.mark.parametrize(("heads_attn", "heads_rope"), [(1, 1), (2, 2), (1, 4), (4, 2), (4, 1), (2, 4), (3, 3)])
@pytest.mark.parametrize("output_size", [(12, 15), (6, 5), (4, 5)])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_lean_encoder_gives_the_scores_of_the_plain_one(heads_attn, heads_rope, output_size, batch):
    upsampler = naf.create(
        "naf", weights=None, dim=48, img_layers=1, heads_attn=heads_attn, heads_rope=heads_rope, kernel_size=3
    )
    image = randn(batch, 3, 12, 15)
    plain = upsampler.encode(image, output_size, (4, 5))
    with torch.no_grad():
        lean = upsampler.encode(image, output_size, (4, 5))
    torch.testing.assert_close(lean.scores(), plain.scores().detach(), rtol=1e-4, atol=1e-5)


def test_permuting_channels_within_a_head_commutes_with_upsampling():
    image, features, output_size = scene((4, 5), (12, 15), channels=12)
    out = small("naf")(image, features, output_size)
    within = torch.tensor([2, 0, 1, 3, 5, 4, 8, 7, 6, 9, 10, 11])
    across = torch.arange(12).roll(3)
    assert torch.equal(small("naf")(image, features[:, within], output_size), out[:, within])
    assert not torch.allclose(small("naf")(image, features[:, across], output_size), out[:, across], atol=1e-3)


def rescales(monkeypatch, upsampler, calls):
    """The factors on the coordinates that RoPE was given, (rows, columns) for each call."""
    factors, angles = [], naf_encoder.rope_angles

    def record(size, periods, rescale=1.0):
        factors.append(float(rescale))
        return angles(size, periods, rescale)

    monkeypatch.setattr(naf_encoder, "rope_angles", record)
    for _ in range(calls):
        upsampler.encode(randn(1, 3, 6, 6), (6, 6), (3, 3))
    return list(zip(factors[::2], factors[1::2], strict=True))


@pytest.mark.parametrize("bound", [2.0, 1.5])
def test_training_draws_a_fresh_rope_factor_at_every_call(monkeypatch, bound):
    torch.manual_seed(3)
    upsampler = naf.create("naf", weights=None, dim=16, img_layers=1, rope_rescale=bound).train()
    factors = rescales(monkeypatch, upsampler, 200)
    assert all(rows == cols for rows, cols in factors)
    exponents = torch.tensor([math.log(rows) / math.log(bound) for rows, _ in factors])
    assert len(exponents.unique()) > 190
    assert exponents.abs().max() <= 1
    # Uniform in -1 ... 1: quarters of the range hold a quarter each, to within five standard deviations.
    shares = torch.histc(exponents, bins=4, min=-1, max=1) / 200
    assert (shares - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 200)


def test_evaluation_uses_no_factor_even_after_training_at_the_same_size(monkeypatch):
    upsampler = naf.create("naf", weights=None, dim=16, img_layers=1)
    assert set(rescales(monkeypatch, upsampler, 3)) == {(1.0, 1.0)}
    upsampler.train()
    upsampler.encode(randn(1, 3, 6, 6), (6, 6), (3, 3))
    upsampler.eval()
    assert set(rescales(monkeypatch, upsampler, 3)) == {(1.0, 1.0)}


def test_training_calls_differ_and_evaluation_calls_do_not():
    upsampler = naf.create("naf", weights=None, dim=32, img_layers=1).train()
    inputs = scene((4, 5), (12, 15))
    assert not torch.allclose(upsampler(*inputs), upsampler(*inputs), atol=1e-4)
    upsampler.eval()
    assert torch.equal(upsampler(*inputs), upsampler(*inputs))


def test_a_rescale_of_one_makes_training_equal_evaluation():
    upsampler = naf.create("naf", weights=None, dim=32, img_layers=1, rope_rescale=1.0)
    inputs = scene((4, 5), (12, 15))
    expected = upsampler(*inputs)
    assert torch.equal(upsampler.train()(*inputs), expected)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("cast", ["to", "method"])
def test_periods_stay_float32_in_a_half_precision_module(dtype, cast):
    upsampler = NAF(dim=64)
    periods = upsampler.image_encoder.rope.periods.clone()
    if cast == "to":
        upsampler.to(dtype)
    else:
        upsampler.half() if dtype == torch.float16 else upsampler.bfloat16()
    assert upsampler.image_encoder.encoder[0].weight.dtype == dtype
    assert upsampler.image_encoder.rope.periods.dtype == torch.float32
    assert torch.equal(upsampler.image_encoder.rope.periods, periods)
    assert torch.equal(upsampler.float().state_dict()["image_encoder.rope.periods"], periods)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("brightness", [1.0, 1e4])
def test_finite_input_of_half_precision_gives_finite_output_at_512(dtype, brightness):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        upsampler = naf.create("naf", weights=None, dim=32, img_layers=2).to(dtype)
    image = (brightness * randn(1, 3, 512, 512).clamp(-3, 3)).to(dtype)
    assert image.isfinite().all()
    features = randn(1, 64, 32, 32, dtype=dtype)
    with torch.no_grad():
        out = upsampler(image, features, (512, 512))
    assert out.dtype == dtype
    assert out.isfinite().all()
    assert out.abs().max() <= features.abs().max()


@pytest.mark.parametrize("with_autograd", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("brightness", [1.0, 1e4])
def test_bright_images_stay_finite_on_both_encoder_paths(with_autograd, brightness):
    upsampler = naf.create("naf", weights=None, dim=32).half()
    image, features, output_size = scene((5, 6), (20, 22), dtype=torch.float16)
    with torch.set_grad_enabled(with_autograd):
        out = upsampler((brightness * image).half(), features, output_size)
    assert out.isfinite().all()


@pytest.mark.parametrize("brightness", [0.0, 1.0])
def test_a_flat_image_gives_finite_output(brightness):
    _, features, output_size = scene((5, 6), (20, 24))
    out = small("naf")(torch.full((1, 3, 20, 24), brightness), features, output_size)
    assert out.isfinite().all()


@pytest.mark.parametrize("with_autograd", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize(("grid", "output_size"), [((8, 8), (64, 64)), ((9, 7), (40, 33))])
def test_bfloat16_is_within_two_percent_of_float32(grid, output_size, with_autograd):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        upsampler = naf.create("naf", weights=None)
    inputs = scene(grid, output_size, channels=32)
    with torch.set_grad_enabled(with_autograd):
        exact = upsampler(*inputs)
        out = upsampler.bfloat16()(inputs[0].bfloat16(), inputs[1].bfloat16(), output_size)
    assert relative_error(out.detach(), exact.detach()) <= 2e-2


def test_autocast_is_within_two_percent_of_float32():
    upsampler = small("naf")
    inputs = scene((8, 7), (40, 33), channels=32)
    exact = upsampler(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = upsampler(*inputs)
    assert relative_error(out, exact) <= 2e-2


@pytest.mark.parametrize("image_size", [(12, 15), (31, 40), (5, 6), (70, 30)])
def test_inference_and_autograd_paths_of_the_encoder_agree(image_size):
    upsampler = naf.create("naf", weights=None, dim=32)
    inputs = scene((4, 5), (12, 15), image_size, batch=2)
    with torch.no_grad():
        banded = upsampler(*inputs)
    graph = upsampler(*inputs)
    assert graph.requires_grad
    torch.testing.assert_close(banded, graph.detach(), rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        inference = upsampler(*inputs)
    assert torch.equal(inference, banded)


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (8, 12), (3, 20)])
def test_a_grid_smaller_than_the_kernel_uses_all_cells_it_has(grid):
    output_size = (grid[0] * 4, grid[1] * 4)
    image, features, _ = scene(grid, output_size)
    guidance = small("naf").encode(image, output_size, grid)
    weights, rows, cols = guidance.attention(0, 0)
    assert rows.tolist() == list(range(min(9, grid[0])))
    assert cols.tolist() == list(range(min(9, grid[1])))
    assert weights.shape[2:] == (len(rows), len(cols))
    assert guidance.upsample(features).isfinite().all()


def test_equal_sizes_filter_the_features_with_keys_equal_to_queries():
    image, features, output_size = scene((12, 11), (12, 11))
    guidance = small("naf").encode(image, output_size, (12, 11))
    assert torch.equal(guidance.keys, guidance.queries)
    assert guidance.upsample(features).shape == features.shape


@pytest.mark.parametrize(("grid", "output_size"), [((5, 6), (15, 18)), ((5, 6), (13, 16))])
def test_return_weights_gives_the_scores_behind_the_output(grid, output_size):
    image, features, _ = scene(grid, output_size, batch=2)
    upsampler = small("naf", kernel_size=3)
    out, scores = upsampler(image, features, output_size, return_weights=True)
    assert torch.equal(out, upsampler(image, features, output_size))
    assert scores.shape == (2, 4, *output_size, 9)
    weights = scores.softmax(-1)
    rows, cols = axis_table(output_size[0], grid[0], 3), axis_table(output_size[1], grid[1], 3)
    cells = features.unflatten(1, (4, 2))[..., rows[:, None, :, None], cols[None, :, None, :]]
    expected = (weights[:, :, None] * cells.flatten(5)).sum(-1).flatten(1, 2)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_without_encoder_the_image_is_the_guidance():
    upsampler = small("naf", use_encoder=False)
    guidance, features = randn(1, 32, 12, 15), randn(1, 8, 4, 5, seed=1)
    before = guidance.clone()
    out = upsampler(guidance, features, (12, 15))
    assert torch.equal(guidance, before)
    assert upsampler.image_channels == 32
    assert not torch.allclose(upsampler(guidance.flip(1), features, (12, 15)), out, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("grid", "output_size"), [((3, 4), (6, 8)), ((3, 4), (7, 9))], ids=["integer", "fractional"])
def test_the_whole_network_passes_gradcheck(grid, output_size, backend):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        upsampler = naf.create(
            "naf", weights=None, dim=16, heads_attn=2, heads_rope=1, kernel_size=3, img_layers=1, backend=backend
        ).double()
    image, features, _ = scene(grid, output_size, (8, 9), channels=2, dtype=torch.float64)
    names, parameters = zip(*upsampler.named_parameters(), strict=True)

    def run(image, features, *values):
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(upsampler, state, (image, features, output_size))

    inputs = (image.requires_grad_(), features.requires_grad_(), *parameters)
    # fast_mode compares random projections: the full Jacobian has over a thousand columns.
    with torch.random.fork_rng(devices=[]):
        assert torch.autograd.gradcheck(run, inputs, fast_mode=True, atol=1e-5)
        few = [x.detach().requires_grad_() for x in (image, features)]
        weights = [p.detach() for p in parameters]
        assert torch.autograd.gradcheck(lambda image, features: run(image, features, *weights), few, fast_mode=False)


def test_gradients_reach_every_parameter_through_each_way_of_use():
    upsampler = naf.create("naf", weights=None, dim=32, img_layers=1)
    image, features, output_size = scene((4, 5), (9, 12))
    guidance = upsampler.encode(image, output_size, (4, 5))
    ways = {
        "upsample": guidance.upsample(features),
        "upsample_linear": guidance.upsample_linear(features, randn(1, 8)),
        "iter_rows": torch.cat([band for _, band in guidance.iter_rows(features, rows=4)], dim=2),
        "at": guidance.at(features, [0, 3.5, 8], [1, 2.5, 11]),
        "scores": guidance.scores(),
        "attention": guidance.attention(3, 4).weights,
    }
    for way, result in ways.items():
        grads = torch.autograd.grad(result.square().sum(), list(upsampler.parameters()), retain_graph=True)
        assert all(grad.isfinite().all() for grad in grads), way
        assert any(grad.abs().max() > 0 for grad in grads), way
