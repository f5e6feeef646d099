"""Bad input raises one clear error that names the argument, what was given and what was expected."""

import json
import math
import re

import numpy as np
import pytest
import torch

import naf
from tests.helpers import GOLDENS, NAMES, NO_GOLDENS, randn, small

every_upsampler = pytest.mark.parametrize("name", NAMES)
guided = pytest.mark.parametrize("name", [n for n in NAMES if small(n).uses_image])

IMAGE, FEATURES, OUTPUT_SIZE = randn(2, 3, 12, 14), randn(2, 8, 4, 5), (8, 10)


def words(*parts):
    """A pattern in which the parts occur in this order."""
    return ".*".join(map(re.escape, parts))


def with_value(tensor, value):
    tensor = tensor.clone()
    tensor.view(-1)[7] = value
    return tensor


BAD_FEATURES = {
    "not_a_tensor": (FEATURES.tolist(), TypeError, ("features", "list", "expected a torch.Tensor")),
    "array": (FEATURES.numpy(), TypeError, ("features", "ndarray", "expected a torch.Tensor")),
    "none": (None, TypeError, ("features", "NoneType", "expected a torch.Tensor")),
    "rank_3": (FEATURES[0], ValueError, ("features", "(8, 4, 5)", "expected", "(B, C, H, W)")),
    "rank_5": (FEATURES[None], ValueError, ("features", "(1, 2, 8, 4, 5)", "expected", "(B, C, H, W)")),
    "integers": (FEATURES.long(), TypeError, ("features", "torch.int64", "expected", "float")),
    "booleans": (FEATURES > 0, TypeError, ("features", "torch.bool", "expected", "float")),
    "complex": (FEATURES.cfloat(), TypeError, ("features", "torch.complex64", "expected", "float")),
    "no_batch": (FEATURES[:0], ValueError, ("features", "(0, 8, 4, 5)", "expected", "at least 1")),
    "no_channels": (FEATURES[:, :0], ValueError, ("features", "(2, 0, 4, 5)", "expected", "at least 1")),
    "no_columns": (FEATURES[..., :0], ValueError, ("features", "(2, 8, 4, 0)", "expected", "at least 1")),
}


@every_upsampler
@pytest.mark.parametrize(("features", "error", "parts"), BAD_FEATURES.values(), ids=BAD_FEATURES)
def test_bad_features_are_refused(name, features, error, parts):
    with pytest.raises(error, match=words(*parts)):
        small(name)(IMAGE, features, OUTPUT_SIZE)
    guidance = small(name).encode(IMAGE, OUTPUT_SIZE, (4, 5))
    for use in (
        lambda: guidance.upsample(features),
        lambda: guidance.upsample_linear(features, randn(1, 8)),
        lambda: guidance.iter_rows(features),
        lambda: guidance.at(features, [0], [0]),
    ):
        with pytest.raises(error, match=words(*parts)):
            use()


BAD_IMAGES = {
    "not_a_tensor": ([[0.5]], TypeError, ("image", "list", "expected a torch.Tensor")),
    "rank_3": (IMAGE[0], ValueError, ("image", "(3, 12, 14)", "expected", "(B, C, H, W)")),
    "grey": (IMAGE[:, :1], ValueError, ("image", "1 channels", "expected 3")),
    "with_alpha": (IMAGE[:, [0, 1, 2, 0]], ValueError, ("image", "4 channels", "expected 3")),
    "channels_last": (IMAGE.permute(0, 2, 3, 1), ValueError, ("image", "12 channels", "expected 3")),
    "uint8": ((IMAGE.abs() * 9).byte(), TypeError, ("image", "torch.uint8", "expected", "float", "255")),
    "no_rows": (IMAGE[:, :, :0], ValueError, ("image", "(2, 3, 0, 14)", "expected", "at least 1")),
    "other_batch": (IMAGE[:1], ValueError, ("image", "batch 1", "features", "2", "expected the same")),
}


@every_upsampler
@pytest.mark.parametrize(("image", "error", "parts"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images_are_refused(name, image, error, parts):
    with pytest.raises(error, match=words(*parts)):
        small(name)(image, FEATURES, OUTPUT_SIZE)


@guided
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_image_that_is_not_finite_is_refused(name, value):
    with pytest.raises(ValueError, match=words("image", "1 NaN or infinite", str(IMAGE.numel()), "expected finite")):
        small(name)(with_value(IMAGE, value), FEATURES, OUTPUT_SIZE)


@guided
def test_a_missing_image_is_refused(name):
    with pytest.raises(TypeError, match=words("image is None", "expected a tensor")):
        small(name)(None, FEATURES, OUTPUT_SIZE)
    with pytest.raises(TypeError, match=words("image is None", "expected a tensor")):
        small(name).encode(None, OUTPUT_SIZE, (4, 5))


@guided
@pytest.mark.parametrize("image_size", [(1, 1), (1, 14), (12, 1)])
def test_an_image_of_one_pixel_works_or_is_refused_in_words(name, image_size):
    image = randn(2, 3, *image_size)
    if name.startswith("naf"):  # its 3x3 convolutions pad by reflection
        with pytest.raises(ValueError, match=words("image", str(image_size), "expected at least 2")):
            small(name)(image, FEATURES, OUTPUT_SIZE)
    else:
        assert small(name)(image, FEATURES, OUTPUT_SIZE).isfinite().all()


BAD_SIZES = [(0, 4), (4,), (4, 4, 4), "ab", "4", 4, None, (4.5, 4), (8.0, 10.0), (True, 4), (-1, 3), (math.nan, 4), []]


@every_upsampler
@pytest.mark.parametrize("size", BAD_SIZES, ids=repr)
def test_a_bad_size_is_refused(name, size):
    expected = words(repr(size), "expected a pair of positive integers (rows, columns)")
    if (name, size) != ("anyup", None):  # AnyUp's own call: the size of the image
        with pytest.raises(ValueError, match="output_size.*" + expected):
            small(name)(IMAGE, FEATURES, size)
    with pytest.raises(ValueError, match="output_size.*" + expected):
        small(name).encode(IMAGE, size, (4, 5))
    with pytest.raises(ValueError, match="grid.*" + expected):
        small(name).encode(IMAGE, OUTPUT_SIZE, size)


@every_upsampler
@pytest.mark.parametrize("size", [[8, 10], torch.Size([8, 10]), np.array([8, 10]), torch.tensor([8, 10])], ids=repr)
def test_any_pair_of_whole_numbers_is_a_size(name, size):
    assert small(name)(IMAGE, FEATURES, size).shape == (2, 8, 8, 10)


@every_upsampler
@pytest.mark.parametrize(
    ("features", "parts"),
    [
        (randn(2, 8, 5, 4), ("features", "(5, 4)", "(4, 5)")),
        (randn(2, 8, 4, 6), ("features", "(4, 6)", "(4, 5)")),
        (randn(1, 8, 4, 5), ("features", "batch 1", "2", "expected the same")),
    ],
    ids=["turned_grid", "other_grid", "other_batch"],
)
def test_guidance_refuses_features_of_another_grid_or_batch(name, features, parts):
    guidance = small(name).encode(IMAGE, OUTPUT_SIZE, (4, 5))
    with pytest.raises(ValueError, match=words(*parts)):
        guidance.upsample(features)


@every_upsampler
@pytest.mark.parametrize("rows", [0, -3, 2.5, "4", None, True], ids=repr)
def test_a_bad_band_height_is_refused_at_once(name, rows):
    guidance = small(name).encode(IMAGE, OUTPUT_SIZE, (4, 5))
    with pytest.raises(ValueError, match=words(f"rows is {rows!r}", "expected", "integer")):
        guidance.iter_rows(FEATURES, rows=rows)


BAD_POSITIONS = {
    "above": ([-0.51], [0], ("rows", "outside", "-0.5", "7.5")),
    "below": ([7.51], [0], ("rows", "outside", "-0.5", "7.5")),
    "left": ([0], [-1], ("cols", "outside", "-0.5", "9.5")),
    "right": ([0], [10], ("cols", "outside", "-0.5", "9.5")),
    "nan": ([math.nan], [0], ("rows", "outside")),
    "two_dimensions": ([[0]], [0], ("rows", "(1, 1)", "expected one dimension")),
    "number": (3, [0], ("rows", "()", "expected one dimension")),
    "different_counts": ([0, 1, 2], [0, 1], ("rows", "3", "cols", "2")),
    "words": (["a"], [0], ("rows", "expected")),
    "none": (None, [0], ("rows", "expected")),
}


@every_upsampler
@pytest.mark.parametrize(("rows", "cols", "parts"), BAD_POSITIONS.values(), ids=BAD_POSITIONS)
def test_bad_positions_are_refused(name, rows, cols, parts):
    guidance = small(name).encode(IMAGE, OUTPUT_SIZE, (4, 5))
    with pytest.raises((TypeError, ValueError), match=words(*parts)):
        guidance.at(FEATURES, rows, cols)


@every_upsampler
@pytest.mark.parametrize(
    ("row", "col", "parts"),
    [
        (8, 0, ("row is 8", "expected an integer from 0 to 7")),
        (-1, 0, ("row is -1", "expected an integer from 0 to 7")),
        (0, 10, ("col is 10", "expected an integer from 0 to 9")),
        (1.5, 0, ("row is 1.5", "expected an integer")),
        (0, "1", ("col is '1'", "expected an integer")),
        (True, 0, ("row is True", "expected an integer")),
    ],
    ids=repr,
)
def test_a_bad_pixel_is_refused(name, row, col, parts):
    guidance = small(name).encode(IMAGE, OUTPUT_SIZE, (4, 5))
    with pytest.raises(ValueError, match=words(*parts)):
        guidance.attention(row, col)


BAD_HEADS = {
    "channels": (randn(2, 7), None, ("weight", "(2, 7)", "expected", "8")),
    "rank": (randn(8), None, ("weight", "(8,)", "expected", "8")),
    "kernel": (randn(2, 8, 3, 3), None, ("weight", "(2, 8, 3, 3)", "expected", "8")),
    "bias_length": (randn(2, 8), randn(3), ("bias", "(3,)", "expected (2,)")),
    "bias_rank": (randn(2, 8), randn(2, 1), ("bias", "(2, 1)", "expected (2,)")),
}


@every_upsampler
@pytest.mark.parametrize(("weight", "bias", "parts"), BAD_HEADS.values(), ids=BAD_HEADS)
def test_a_head_that_does_not_fit_is_refused(name, weight, bias, parts):
    guidance = small(name).encode(IMAGE, OUTPUT_SIZE, (4, 5))
    with pytest.raises(ValueError, match=words(*parts)):
        guidance.upsample_linear(FEATURES, weight, bias)


# NAF --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(3, 10), (8, 4), (1, 1)])
def test_naf_refuses_an_output_below_the_grid(size):
    with pytest.raises(ValueError, match=words(str(size), "smaller than the feature grid (4, 5)", "average-pool")):
        small("naf")(IMAGE, FEATURES, size)


def test_naf_refuses_channels_that_its_heads_do_not_divide_and_says_what_would_do():
    parts = ("features have 6 channels", "heads_attn=4", "zeros to 8 channels", "last 2", "heads_attn=1 or 2")
    with pytest.raises(ValueError, match=words(*parts)):
        small("naf")(IMAGE, randn(2, 6, 4, 5), OUTPUT_SIZE)
    guidance = small("naf").encode(IMAGE, OUTPUT_SIZE, (4, 5))
    with pytest.raises(ValueError, match=words(*parts)):
        guidance.upsample(randn(2, 6, 4, 5))
    # What the message advises works.
    padded = torch.cat([randn(2, 6, 4, 5), torch.zeros(2, 2, 4, 5)], dim=1)
    assert small("naf")(IMAGE, padded, OUTPUT_SIZE)[:, :6].shape == (2, 6, 8, 10)
    assert small("naf", heads_attn=2)(IMAGE, randn(2, 6, 4, 5), OUTPUT_SIZE).shape == (2, 6, 8, 10)


def test_naf_without_encoder_expects_its_guidance_channels():
    with pytest.raises(ValueError, match=words("image", "3 channels", "expected 32")):
        small("naf", use_encoder=False)(IMAGE, FEATURES, OUTPUT_SIZE)


BAD_CONFIGS = [
    ({"dim": 0}, ("dim is 0", "expected", "integer")),
    ({"dim": -16}, ("dim is -16", "expected", "integer")),
    ({"dim": 24}, ("dim is 24", "expected a multiple of 16")),
    ({"dim": 256.0}, ("dim is 256.0", "expected", "integer")),
    ({"dim": "256"}, ("dim is '256'", "expected", "integer")),
    ({"dim": 32, "heads_attn": 3}, ("dim is 32", "expected a multiple of heads_attn = 3")),
    ({"heads_attn": 0}, ("heads_attn is 0", "expected", "integer")),
    ({"dim": 48, "heads_rope": 8}, ("dim is 48", "expected a multiple of 4 * heads_rope = 32")),
    ({"heads_rope": True}, ("heads_rope is True", "expected", "integer")),
    ({"kernel_size": 8}, ("kernel_size is 8", "expected", "odd")),
    ({"kernel_size": 1}, ("kernel_size is 1", "expected", "at least 3")),
    ({"kernel_size": -3}, ("kernel_size is -3", "expected", "at least 3")),
    ({"kernel_size": 9.0}, ("kernel_size is 9.0", "expected", "integer")),
    ({"img_layers": 0}, ("img_layers is 0", "expected", "integer")),
    ({"rope_base": 0.0}, ("rope_base is 0.0", "positive number")),
    ({"rope_base": math.nan}, ("rope_base is nan", "positive number")),
    ({"rope_rescale": 0.5}, ("rope_rescale is 0.5", "at least 1")),
    ({"rope_rescale": math.nan}, ("rope_rescale is nan", "at least 1")),
    ({"neighborhood": "own"}, ("neighborhood is 'own'", "'official', 'cell'")),
    ({"backend": "cuda"}, ("backend is 'cuda'", "'auto'", "'reference'")),
]


@pytest.mark.parametrize(("config", "parts"), BAD_CONFIGS, ids=str)
def test_naf_refuses_a_bad_configuration(config, parts):
    with pytest.raises(ValueError, match=words(*parts)):
        naf.create("naf", weights=None, **config)


def official_calls():
    if not GOLDENS.is_dir():
        return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=NO_GOLDENS))]
    calls = json.loads((GOLDENS / "official_behaviour.json").read_text())
    return [pytest.param(call, id=call["what"]) for call in calls if "config" in call]


@pytest.mark.parametrize("call", official_calls())
def test_calls_that_the_official_code_takes_work_and_others_work_or_say_why_not(call):
    def run():
        upsampler = naf.create("naf", weights=None, **call["config"])
        return upsampler(torch.zeros(call["image"]), torch.zeros(call["features"]), call["output_size"])

    expected = [*call["features"][:2], *call["output_size"]]
    if call["raises"] is None:
        assert call["output_shape"] == expected
        assert list(run().shape) == expected
    elif call["what"] == "low-res grid smaller than the kernel":
        assert list(run().shape) == expected
    else:
        with pytest.raises(ValueError, match=r"expected|does not divide|smaller than"):
            run()


# Registry and normalisation -----------------------------------------------------------------------------------------


@every_upsampler
def test_an_unknown_argument_is_refused_with_the_known_ones(name):
    options = naf.registry.entry(name).options
    with pytest.raises(
        TypeError, match=words(f"'{name}' has no argument 'kernelsize'", "takes", *(options or ["none"]))
    ):
        naf.create(name, weights=None, kernelsize=9)


@every_upsampler
@pytest.mark.parametrize("keyword", ["self", "args", "kwargs"])
def test_python_words_are_no_arguments(name, keyword):
    with pytest.raises(TypeError, match=words(repr(keyword), "takes")):
        naf.create(name, weights=None, **{keyword: 1})


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nav", ("'nav'", "unknown", "did you mean 'naf'", "bilinear", "nearest")),
        ("bilinaer", ("'bilinaer'", "did you mean 'bilinear'")),
        ("NAF", ("'NAF'", "unknown", "naf")),
        ("xyzzy", ("'xyzzy'", "unknown", "bicubic", "naf++")),
        (3, ("3", "unknown", "naf")),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(name, parts):
    with pytest.raises(ValueError, match=words(*parts)):
        naf.create(name)


@pytest.mark.parametrize(
    ("image", "error", "parts"),
    [
        ([0.5], TypeError, ("image01", "list", "expected float")),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), TypeError, ("image01", "uint8", "expected float", "255")),
        (torch.zeros(4, 4), ValueError, ("image01", "(4, 4)", "expected (3, H, W)")),
        (torch.zeros(1, 4, 4), ValueError, ("image01", "(1, 4, 4)", "expected (3, H, W)")),
        (torch.zeros(1, 1, 3, 4, 4), ValueError, ("image01", "(1, 1, 3, 4, 4)", "expected (3, H, W)")),
        (torch.full((3, 4, 4), 255.0), ValueError, ("image01", "255", "expected 0 to 1")),
        (torch.full((3, 4, 4), -2.0), ValueError, ("image01", "-2", "expected 0 to 1")),
    ],
    ids=str,
)
def test_normalize_refuses_what_is_no_image(image, error, parts):
    with pytest.raises(error, match=words(*parts)):
        naf.normalize(image)
