"""What every registered upsampler promises, whatever its method."""

import copy
import math
import pickle
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import naf
from naf.registry import entry
from naf.releases import releases_of
from tests.helpers import CHANNELS, NAMES, TOLERANCE, config_of, randn, relative_error, small

every_upsampler = pytest.mark.parametrize("name", NAMES)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
cheap = settings(max_examples=30)

# (grid, output_size, image size): odd sizes, fractional, integer and equal ratios, grids below the kernel of 9.
SIZES = {
    "odd": ((5, 7), (8, 14), (21, 30)),
    "integer": ((4, 6), (16, 18), (16, 18)),
    "different_ratios": ((3, 10), (31, 17), (40, 40)),
    "equal": ((6, 5), (6, 5), (24, 20)),
    "tall": ((11, 2), (50, 3), (9, 33)),
    "single_cell": ((1, 1), (7, 4), (5, 8)),
    "large_grid": ((12, 13), (25, 40), (25, 40)),
}
by_size = pytest.mark.parametrize(("grid", "output_size", "image_size"), SIZES.values(), ids=SIZES)


def having(attribute):
    """The upsamplers of which the attribute is true."""
    return pytest.mark.parametrize("name", [name for name in NAMES if getattr(small(name), attribute)])


def lacking(attribute):
    """The upsamplers of which the attribute is false or None."""
    return pytest.mark.parametrize("name", [name for name in NAMES if not getattr(small(name), attribute)])


@st.composite
def scenes(draw):
    """Arguments of :func:`scene`: sizes, batch and seed."""
    batch, seed = draw(st.integers(1, 3)), draw(st.integers(0, 999))
    grid = draw(st.tuples(st.integers(1, 10), st.integers(1, 10)))
    output_size = tuple(coarse + draw(st.integers(0, 14)) for coarse in grid)
    image_size = draw(st.sampled_from([output_size, (13, 17), (2, 30)]))
    return grid, output_size, tuple(max(2, side) for side in image_size), batch, seed


def scene(name, grid, output_size, image_size, batch=2, seed=0, dtype=torch.float32):
    """(image, features, output_size), sizes raised to the least that the method takes."""
    upsampler = small(name)
    grid = tuple(max(side, upsampler.smallest_grid) for side in grid)
    output_size = tuple(max(*sides, upsampler.smallest_output) for sides in zip(output_size, grid, strict=True))
    image = randn(batch, 3, *image_size, seed=seed, dtype=dtype)
    return image, randn(batch, CHANNELS, *grid, seed=seed + 1, dtype=dtype), output_size


def guidance_of(name, image, features, output_size):
    return small(name).encode(image, output_size, features.shape[2:])


def expected_at(guidance, features, row, col):
    """The output pixel as the attention weights say, (B, C)."""
    weights, rows, cols = guidance.attention(row, col, features)
    cells = features.unflatten(1, (weights.shape[1], -1))[..., rows[:, None], cols]  # (B, n, C/n, kh, kw)
    return (weights[:, :, None] * cells).sum((3, 4)).flatten(1)


@every_upsampler
@by_size
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shape_dtype_and_device_are_kept(name, grid, output_size, image_size, dtype):
    image, features, output_size = scene(name, grid, output_size, image_size, dtype=dtype)
    out = small(name)(image, features, output_size)
    assert out.shape == (2, CHANNELS, *output_size)
    assert out.dtype == dtype
    assert out.device == features.device
    exact = small(name)(image.float(), features.float(), output_size)
    assert exact.isfinite().all()
    assert relative_error(out, exact) <= TOLERANCE[dtype]


@lacking("couples_batch")
@given(sizes=scenes(), shift=st.integers(1, 2))
@cheap
def test_images_of_a_batch_do_not_see_each_other(name, sizes, shift):
    image, features, output_size = scene(name, *sizes)
    out = small(name)(image, features, output_size)
    order = torch.arange(len(image)).roll(shift)
    torch.testing.assert_close(
        small(name)(image[order], features[order], output_size), out[order], rtol=1e-5, atol=1e-5
    )
    alone = small(name)(image[:1], features[:1], output_size)
    torch.testing.assert_close(alone, out[:1], rtol=1e-5, atol=1e-5)


@having("couples_batch")
def test_images_of_a_coupled_batch_do_see_each_other(name):
    image, features, output_size = scene(name, *SIZES["odd"])
    image[1] *= 2
    alone = small(name)(image[:1], features[:1], output_size)
    assert relative_error(small(name)(image, features, output_size)[:1], alone) > 1e-3


@having("keeps_constants")
@given(sizes=scenes(), level=st.floats(-1e3, 1e3))
@cheap
def test_constant_features_stay_constant(name, sizes, level):
    image, features, output_size = scene(name, *sizes)
    out = small(name)(image, torch.full_like(features, level), output_size)
    torch.testing.assert_close(out, torch.full_like(out, level), rtol=1e-5, atol=1e-6)


@every_upsampler
@given(sizes=scenes())
@cheap
def test_a_convex_method_stays_within_the_range_of_each_channel(name, sizes):
    upsampler = small(name)
    image, features, output_size = scene(name, *sizes)
    out = upsampler(image, features, output_size)
    low, high = features.amin((2, 3), keepdim=True) - 1e-5, features.amax((2, 3), keepdim=True) + 1e-5
    # A method that is called not convex must be able to leave the range: bicubic and Lanczos do at an edge.
    edge = torch.zeros(1, CHANNELS, 8, 8)
    edge[..., 4:] = 1
    steps = upsampler(randn(1, 3, 24, 24), edge, (24, 24))
    assert upsampler.is_convex != bool(((steps > 1 + 1e-3) | (steps < -1e-3)).any())
    assert not upsampler.is_convex or ((out >= low) & (out <= high)).all()


@having("is_linear")
@given(sizes=scenes(), a=st.floats(-3, 3), b=st.floats(-3, 3))
@cheap
def test_a_linear_method_is_linear_in_the_features(name, sizes, a, b):
    upsampler = small(name)
    image, x, output_size = scene(name, *sizes)
    y = randn(*x.shape, seed=77)
    combined = upsampler(image, a * x + b * y, output_size)
    separate = a * upsampler(image, x, output_size) + b * upsampler(image, y, output_size)
    torch.testing.assert_close(combined, separate, rtol=1e-5, atol=2e-5)


@every_upsampler
@by_size
def test_non_contiguous_input_makes_no_difference(name, grid, output_size, image_size):
    image, features, output_size = scene(name, grid, output_size, image_size)
    expected = small(name)(image, features, output_size)
    transposed = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in (image, features)]
    strided = [torch.stack([x, -x], dim=-1)[..., 0] for x in (image, features)]
    channels_last = [x.contiguous(memory_format=torch.channels_last) for x in (image, features)]
    for inputs in (transposed, strided, channels_last):
        torch.testing.assert_close(small(name)(*inputs, output_size), expected, rtol=1e-5, atol=1e-5)


@every_upsampler
def test_input_and_the_global_generator_are_left_alone(name):
    image, features, output_size = scene(name, *SIZES["odd"])
    before, state = (image.clone(), features.clone()), torch.get_rng_state()
    first = small(name)(image, features, output_size)
    assert torch.equal(image, before[0])
    assert torch.equal(features, before[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(small(name)(image, features, output_size), first)


@every_upsampler
def test_a_state_dict_saved_to_a_file_gives_the_same_upsampler(name, tmp_path):
    trained = small(name)
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    restored = naf.create(name, weights=path, **config_of(name))
    assert not restored.training
    assert restored.state_dict().keys() == trained.state_dict().keys()
    for key, tensor in restored.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[key])
    inputs = scene(name, *SIZES["odd"])
    with torch.no_grad():
        assert torch.equal(restored(*inputs), trained(*inputs))


@every_upsampler
@given(
    sizes=scenes(),
    outputs=st.sampled_from([1, 2, 3, 21]),
    has_bias=st.booleans(),
    as_convolution=st.booleans(),
    seed=st.integers(0, 99),
)
@cheap
def test_a_linear_head_may_go_before_the_upsampling(name, sizes, outputs, has_bias, as_convolution, seed):
    image, features, output_size = scene(name, *sizes)
    guidance = guidance_of(name, image, features, output_size)
    weight = randn(outputs, CHANNELS, seed=seed)
    bias = randn(outputs, seed=seed + 1) if has_bias else None
    expected = F.conv2d(guidance.upsample(features), weight[:, :, None, None], bias)
    given_weight = weight[:, :, None, None] if as_convolution else weight
    out = guidance.upsample_linear(features, given_weight, bias)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@every_upsampler
@pytest.mark.parametrize("outputs", [1, 21])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_a_float32_head_takes_features_of_any_dtype(name, dtype, has_bias, outputs):
    image, features, output_size = scene(name, *SIZES["odd"], dtype=dtype)
    weight, bias = randn(outputs, CHANNELS), randn(outputs, seed=1) if has_bias else None
    guidance = guidance_of(name, image, features, output_size)
    out = guidance.upsample_linear(features, weight, bias)
    exact = guidance.upsample_linear(features.float(), weight, bias)
    assert out.dtype == dtype
    assert relative_error(out, exact) <= TOLERANCE[dtype]


@every_upsampler
@given(sizes=scenes(), rows=st.sampled_from([1, 2, 3, 7, 100]))
@cheap
def test_bands_of_rows_together_are_the_whole_map(name, sizes, rows):
    image, features, output_size = scene(name, *sizes)
    guidance = guidance_of(name, image, features, output_size)
    slices, bands = zip(*guidance.iter_rows(features, rows=rows), strict=True)
    assert [range(*s.indices(10**6)) for s in slices] == [
        range(start, min(start + rows, output_size[0])) for start in range(0, output_size[0], rows)
    ]
    assert all(band.dtype == features.dtype for band in bands)
    torch.testing.assert_close(torch.cat(bands, dim=2), guidance.upsample(features), rtol=1e-5, atol=1e-5)


@every_upsampler
@given(sizes=scenes(), seed=st.integers(0, 99))
@cheap
def test_whole_positions_are_pixels_of_the_map(name, sizes, seed):
    image, features, output_size = scene(name, *sizes)
    guidance = guidance_of(name, image, features, output_size)
    generator = torch.Generator().manual_seed(seed)
    rows, cols = (torch.randint(size, (9,), generator=generator) for size in output_size)
    full = guidance.upsample(features)
    for given_rows, given_cols in ((rows, cols), (rows.tolist(), cols.tolist()), (rows.float(), cols.double())):
        points = guidance.at(features, given_rows, given_cols)
        torch.testing.assert_close(points, full[:, :, rows, cols], rtol=1e-5, atol=1e-5)


@every_upsampler
@given(sizes=scenes(), seed=st.integers(0, 99))
@cheap
def test_positions_between_pixels_are_bilinear_in_the_map(name, sizes, seed):
    image, features, output_size = scene(name, *sizes)
    guidance = guidance_of(name, image, features, output_size)
    generator = torch.Generator().manual_seed(seed)
    shares = torch.rand(2, 20, generator=generator, dtype=torch.float64)
    shares[:, :3] = torch.tensor([[0, 1, 0.5], [1, 0, 0.5]])  # corners: the outer half pixels
    rows, cols = (share * size - 0.5 for share, size in zip(shares, output_size, strict=True))
    # grid_sample takes (x, y) scaled so that -1 and 1 are the edges.
    grid = torch.stack([2 * shares[1] - 1, 2 * shares[0] - 1], dim=-1)[None, None]
    full = guidance.upsample(features).double()
    expected = F.grid_sample(
        full, grid.expand(len(full), -1, -1, -1), align_corners=False, padding_mode="border", mode="bilinear"
    )[:, :, 0]
    torch.testing.assert_close(guidance.at(features, rows, cols).double(), expected, rtol=1e-5, atol=1e-5)


@every_upsampler
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_positions_give_no_points(name, dtype):
    image, features, output_size = scene(name, *SIZES["odd"], dtype=dtype)
    guidance = guidance_of(name, image, features, output_size)
    for nothing in ([], torch.empty(0)):
        points = guidance.at(features, nothing, nothing)
        assert points.shape == (2, CHANNELS, 0)
        assert points.dtype == dtype


@having("has_attention")
@given(sizes=scenes(), corner=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)))
@cheap
def test_attention_weights_sum_to_one_and_give_the_pixel(name, sizes, corner):
    upsampler, (image, features, output_size) = small(name), scene(name, *sizes)
    guidance = guidance_of(name, image, features, output_size)
    row, col = (int(share * size) for share, size in zip(corner, output_size, strict=True))
    weights, rows, cols = guidance.attention(row, col, features)
    assert weights.shape == (len(features), weights.shape[1], len(rows), len(cols))
    assert not upsampler.is_convex or weights.min() >= 0
    torch.testing.assert_close(weights.sum((2, 3)), torch.ones(weights.shape[:2]), rtol=1e-5, atol=1e-5)
    for cells, coarse in zip((rows, cols), features.shape[2:], strict=True):
        assert cells.min() >= 0
        assert cells.max() < coarse
    pixel = guidance.upsample(features)[:, :, row, col]
    torch.testing.assert_close(expected_at(guidance, features, row, col), pixel, rtol=1e-5, atol=1e-5)


@lacking("has_attention")
def test_a_method_without_attention_weights_says_so(name):
    guidance = guidance_of(name, *scene(name, *SIZES["odd"]))
    with pytest.raises(NotImplementedError, match="no attention weights"):
        guidance.attention(0, 0)


@every_upsampler
@given(sizes=scenes())
@cheap
def test_encoding_first_gives_the_same_map(name, sizes):
    image, features, output_size = scene(name, *sizes)
    guidance = guidance_of(name, image, features, output_size)
    assert guidance.grid == features.shape[2:]
    assert guidance.output_size == output_size
    assert torch.equal(guidance.upsample(features), small(name)(image, features, output_size))


@having("feature_channels")
def test_features_of_another_width_are_refused_with_the_releases_there_are(name):
    upsampler = small(name)
    image, features, output_size = scene(name, *SIZES["odd"])
    guidance = upsampler.encode(image, output_size, features.shape[2:])
    wrong = features[:, :-1]
    for call in (lambda: upsampler(image, wrong, output_size), lambda: guidance.upsample(wrong)):
        with pytest.raises(ValueError, match=f"features have {CHANNELS - 1} channels, expected {CHANNELS}") as caught:
            call()
        for release in releases_of(name):
            assert f"official:{release.name} ({release.channels})" in str(caught.value)


@lacking("feature_channels")
@by_size
def test_one_guidance_serves_maps_of_any_channel_count(name, grid, output_size, image_size):
    image, features, output_size = scene(name, grid, output_size, image_size)
    guidance = small(name).encode(image, output_size, features.shape[2:])
    for channels in (4, 12, 32):
        other = randn(2, channels, *features.shape[2:], seed=channels)
        expected = small(name)(image, other, output_size)
        assert expected.shape[1] == channels
        torch.testing.assert_close(guidance.upsample(other), expected, rtol=1e-5, atol=1e-6)


def all_bands(guidance, features):
    return torch.cat([band for _, band in guidance.iter_rows(features, rows=5)], dim=2)


def all_points(guidance, features):
    rows, cols = (index.flatten() for index in torch.meshgrid(*map(torch.arange, guidance.output_size), indexing="ij"))
    return guidance.at(features, rows, cols).unflatten(2, guidance.output_size)


FORMS = {"upsample": lambda guidance, features: guidance.upsample(features), "iter_rows": all_bands, "at": all_points}


# Sizes at which some pixel centres lie exactly between two cells, where PyTorch's nearest kernels disagree.
@every_upsampler
@pytest.mark.parametrize("form", ["iter_rows", "at"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("grid", "output_size"), [((2, 2), (41, 55)), ((6, 10), (83, 47))], ids=str)
def test_bands_and_points_are_those_of_the_map_on_ties_too(name, grid, output_size, dtype, form):
    image, features, output_size = scene(name, grid, output_size, (20, 20), dtype=dtype)
    guidance = guidance_of(name, image, features, output_size)
    assert relative_error(FORMS[form](guidance, features), guidance.upsample(features)) <= TOLERANCE[dtype]


@having("is_linear")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", ["odd", "integer", "equal", "large_grid"])
def test_nan_reaches_only_the_pixels_whose_neighborhood_holds_it(name, size, form):
    image, features, output_size = scene(name, *SIZES[size], batch=1)
    bad_row, bad_col = features.shape[2] // 2, features.shape[3] // 3
    guidance = guidance_of(name, image, features, output_size)
    must, may = torch.zeros(2, *output_size, dtype=torch.bool)
    for row in range(output_size[0]):
        for col in range(output_size[1]):
            weights, rows, cols = guidance.attention(row, col)
            holds = ((rows == bad_row)[:, None] & (cols == bad_col)).expand_as(weights)
            may[row, col] = holds.any()
            must[row, col] = weights[holds].abs().sum() > 1e-6  # a weight of zero may or may not pass it on
    features[:, :, bad_row, bad_col] = math.nan
    nan = FORMS[form](guidance, features).isnan()[0].any(0)
    assert not (must & ~nan).any()
    assert not (nan & ~may).any()


@having("uses_features")
@pytest.mark.parametrize(("grid", "output_size"), [((2, 3), (4, 6)), ((3, 2), (7, 5))])
def test_gradients_of_the_features_pass_gradcheck(name, grid, output_size):
    upsampler = small(name)
    image, features, output_size = scene(name, grid, output_size, (6, 7), batch=1, dtype=torch.float64)
    if upsampler.feature_channels is None:
        features = features[:, :4]
    features.requires_grad_()
    # float32 weights would not survive a difference quotient.
    upsampler = naf.create(name, weights=None, **config_of(name)).double()
    guidance = upsampler.requires_grad_(False).encode(image, output_size, features.shape[2:])
    head = randn(1, features.shape[1], dtype=torch.float64)
    assert torch.autograd.gradcheck(guidance.upsample, features)
    assert torch.autograd.gradcheck(lambda x: guidance.upsample_linear(x, head), features)
    assert torch.autograd.gradcheck(lambda x: guidance.at(x, [0, 1.3], [2.5, 0]), features)


@every_upsampler
def test_a_method_that_ignores_the_image_takes_none(name):
    upsampler = small(name)
    image, features, output_size = scene(name, *SIZES["odd"])
    if upsampler.uses_image:
        other = upsampler(image.flip(3), features, output_size)
        assert not torch.equal(upsampler(image, features, output_size), other)
    else:
        assert torch.equal(upsampler(None, features, output_size), upsampler(image, features, output_size))


@every_upsampler
def test_gradients_reach_image_features_and_parameters_in_training(name):
    with torch.random.fork_rng(devices=[]):
        upsampler = naf.create(name, weights=None, **config_of(name)).train()
        image, features, output_size = scene(name, *SIZES["integer"])
        out = upsampler(image.requires_grad_(), features.requires_grad_(), output_size)
        (out * randn(*out.shape)).sum().backward()
    learned = [p.grad for p in upsampler.parameters() if p.grad is not None]
    reached = [image.grad] * upsampler.uses_image + [features.grad] * upsampler.uses_features + learned
    assert all(grad is not None and grad.isfinite().all() for grad in reached)
    assert image.grad is None or image.grad.any()
    assert features.grad is None or features.grad.any()
    assert any(grad.any() for grad in learned) == (entry(name).learns and any(True for _ in upsampler.parameters()))


@every_upsampler
def test_a_double_precision_module_agrees_with_a_single_one(name):
    upsampler = copy.deepcopy(small(name)).double()
    image, features, output_size = scene(name, *SIZES["odd"], dtype=torch.float64)
    out = upsampler(image, features, output_size)
    assert out.dtype == torch.float64
    single = small(name)(image.float(), features.float(), output_size)
    # LoftUp's frequencies reach e^10: one rounding of a coordinate moves a phase by 1e-3.
    assert relative_error(single, out) <= (2e-2 if name == "loftup" else 2e-5)


@every_upsampler
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_a_half_precision_module_gives_half_precision_with_gradients_too(name, dtype, training):
    upsampler = naf.create(name, weights=None, **config_of(name)).to(dtype).train(training)
    image, features, output_size = scene(name, *SIZES["integer"], dtype=dtype)
    with torch.random.fork_rng(devices=[]):
        out = upsampler(image, features.requires_grad_(), output_size)
    assert out.dtype == dtype
    assert out.isfinite().all()
    if upsampler.uses_features:
        out.float().square().sum().backward()
        assert features.grad.dtype == dtype


@every_upsampler
def test_autocast_spares_values_and_backward_passes_of_ours(name):
    upsampler = copy.deepcopy(small(name))
    image, features, output_size = scene(name, *SIZES["odd"])
    expected = upsampler(image, features, output_size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = upsampler(image, features.requires_grad_(), output_size)
        if upsampler.uses_features:
            out.float().square().sum().backward()
            assert features.grad.isfinite().all()
    assert out.dtype == torch.float32
    if not any(True for _ in upsampler.parameters()) and upsampler.uses_features:
        assert relative_error(out, expected) <= 1e-5


@every_upsampler
def test_guidance_of_an_inference_block_serves_outside_it_and_in_another_process(name):
    upsampler = naf.create(name, weights=None, **config_of(name))  # its parameters want gradients
    image, features, output_size = scene(name, *SIZES["odd"])
    with torch.inference_mode():
        guidance = upsampler.encode(image, output_size, features.shape[2:])
        expected = guidance.upsample(features)
    torch.testing.assert_close(guidance.upsample(features), expected, rtol=1e-4, atol=1e-4)
    if not upsampler.uses_features or name == "featsharp":
        return
    sent = pickle.loads(pickle.dumps(guidance))
    torch.testing.assert_close(sent.upsample(features), expected, rtol=1e-4, atol=1e-4)


@having("is_exportable")
def test_the_forward_exports_and_gives_the_same(name):
    upsampler, (image, features, output_size) = small(name), scene(name, *SIZES["odd"])

    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.upsampler = upsampler

        def forward(self, image, features):
            return self.upsampler(image, features, output_size)

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about constants
        exported = torch.export.export(Fixed(), (image, features), strict=False)
        for inputs in ((image, features), (image.flip(3), 2 * features)):
            assert relative_error(exported.module()(*inputs), upsampler(*inputs, output_size)) <= 1e-5


LIMITED = [
    (name, what) for name in NAMES for what in ("grid", "output") if getattr(small(name), f"smallest_{what}") > 1
]


@pytest.mark.parametrize(("name", "what"), LIMITED)
def test_sizes_below_the_least_are_refused(name, what):
    upsampler = small(name)
    least = getattr(upsampler, f"smallest_{what}")
    sizes = {"grid": (9, 9), "output": (18, 18)} | {what: (20, least - 1)}
    with pytest.raises(ValueError, match=rf"{what}\w* is \(20, {least - 1}\), expected at least {least} on each side"):
        upsampler.encode(randn(1, 3, 36, 36), sizes["output"], sizes["grid"])


@every_upsampler
def test_registry_says_where_a_method_comes_from(name):
    known = entry(name)
    assert known.name == name
    assert known.summary
    assert known.paper
    assert isinstance(small(name), known.cls)
