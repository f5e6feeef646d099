"""Outputs in bands without the whole guidance: equal to the whole-image result, resumable, bounded in memory."""

import copy
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from naf.ops.norm_act import Moments
from tests.helpers import CHANNELS, TOLERANCE, randn, relative_error, small

# (grid, output_size, image size)
SIZES = {
    "odd": ((5, 7), (8, 14), (21, 30)),
    "integer": ((4, 6), (64, 96), (64, 96)),
    "fractional": ((20, 20), (310, 300), (310, 300)),
    "image_smaller": ((14, 14), (141, 150), (70, 37)),
    "image_larger": ((12, 13), (25, 40), (90, 123)),
    "image_reduced": ((3, 4), (12, 30), (100, 121)),
    "equal": ((6, 5), (6, 5), (24, 20)),
    "tall": ((11, 2), (50, 3), (9, 33)),
    "single_cell": ((1, 1), (7, 4), (5, 8)),
    "tiny_image": ((2, 2), (9, 8), (2, 2)),
}
by_size = pytest.mark.parametrize(("grid", "output_size", "image_size"), SIZES.values(), ids=SIZES)


def scene(grid, image_size, batch=2, dtype=torch.float32, image_channels=3):
    image = 1 + randn(batch, image_channels, *image_size)
    return image, randn(batch, CHANNELS, *grid, seed=1).to(dtype)


def joined(upsampler, image, features, output_size, rows=7, start=0, memory_budget=0, **options):
    """All bands in one map, after a check that they follow each other."""
    bands, top = [], start
    for span, band in upsampler.iter_rows(
        image, features, output_size, rows, start=start, memory_budget=memory_budget, **options
    ):
        assert span == slice(top, min(top + rows, output_size[0]))
        assert band.shape == (*features.shape[:2], span.stop - top, output_size[1])
        assert band.dtype == features.dtype
        bands.append(band)
        top = span.stop
    assert top == output_size[0]
    return torch.cat(bands, dim=2)


@by_size
@pytest.mark.parametrize("neighborhood", ["official", "cell"])
@pytest.mark.parametrize("img_layers", [1, 3])
def test_bands_equal_the_whole_image(grid, output_size, image_size, neighborhood, img_layers):
    upsampler = small("naf", neighborhood=neighborhood, img_layers=img_layers)
    image, features = scene(grid, image_size)
    expected = upsampler(image, features, output_size)
    assert relative_error(joined(upsampler, image, features, output_size), expected) < 1e-5


@given(st.integers(0, 999), st.data())
@settings(max_examples=15)
def test_any_sizes_bands_and_start_equal_the_whole_image(seed, drawn):
    grid = drawn.draw(st.tuples(st.integers(1, 24), st.integers(1, 6)))
    output_size = tuple(coarse + drawn.draw(st.integers(0, 60)) for coarse in grid)
    image_size = drawn.draw(st.tuples(st.integers(2, 90), st.integers(2, 40)))
    start, rows = drawn.draw(st.integers(0, output_size[0] - 1)), drawn.draw(st.integers(1, 40))
    upsampler = small("naf", neighborhood=drawn.draw(st.sampled_from(["official", "cell"])))
    image, features = randn(1, 3, *image_size, seed=seed), randn(1, CHANNELS, *grid, seed=seed + 1)
    expected = upsampler(image, features, output_size)
    assert relative_error(joined(upsampler, image, features, output_size, rows, start), expected[:, :, start:]) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_features_of_any_dtype(dtype):
    upsampler = small("naf")
    image, features = scene((5, 6), (40, 48), dtype=dtype)
    expected = upsampler(image, features, (40, 48))
    assert relative_error(joined(upsampler, image, features, (40, 48)), expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_modules_of_other_dtypes(dtype):
    image, features = scene((5, 6), (40, 48))
    expected = small("naf")(image, features, (40, 48))
    upsampler = copy.deepcopy(small("naf")).to(dtype)
    assert relative_error(joined(upsampler, image.to(dtype), features, (40, 48)), expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("image_size", [(40, 36), (20, 90), (17, 50)])
def test_guidance_that_is_given_in_place_of_an_image(image_size):
    upsampler = small("naf", use_encoder=False)
    image, features = scene((5, 6), image_size, image_channels=32)
    expected = upsampler(image, features, (40, 36))
    assert relative_error(joined(upsampler, image, features, (40, 36)), expected) < 1e-5


def test_a_deep_wide_network_too():
    upsampler = small("naf++")
    image, features = scene((6, 5), (50, 41), batch=1)
    expected = upsampler(image, features, (48, 40))
    assert relative_error(joined(upsampler, image, features, (48, 40)), expected) < 1e-5


@pytest.mark.parametrize("start", [1, 33, 95, 96, 299, 300])
def test_a_start_gives_the_rows_from_there(start):
    upsampler = small("naf")
    image, features = scene((20, 3), (300, 20))
    expected = upsampler(image, features, (300, 20))[:, :, start:]
    if start == 300:
        assert not list(upsampler.iter_rows(image, features, (300, 20), start=300, memory_budget=0))
    else:
        assert relative_error(joined(upsampler, image, features, (300, 20), start=start), expected) < 1e-5


def test_a_state_saves_the_statistics_and_a_partial_one_the_part_that_it_has(monkeypatch):
    upsampler = small("naf", img_layers=2)
    image, features = scene((4, 6), (64, 96))
    walks = []
    original = Moments.add
    monkeypatch.setattr(Moments, "add", lambda self, band: (walks.append(1), original(self, band))[1])
    state = {}
    first = joined(upsampler, image, features, (64, 96), state=state)
    assert len(state) == 2 * 2 * 4  # branches, images, norms
    whole = len(walks)
    assert whole
    walks.clear()
    assert torch.equal(joined(upsampler, image, features, (64, 96), state=state), first)
    assert not walks
    del state["sem_encoder.1.3"]
    assert torch.equal(joined(upsampler, image, features, (64, 96), state=state), first)
    assert 0 < len(walks) < whole


def test_a_budget_that_the_guidance_fits_makes_it_as_a_whole():
    upsampler = small("naf")
    image, features = scene((4, 6), (64, 96))
    state = {}
    whole = joined(upsampler, image, features, (64, 96), memory_budget=1 << 30, state=state)
    assert not state
    assert relative_error(whole, upsampler(image, features, (64, 96))) < 1e-5


@pytest.mark.parametrize("name", ["bilinear", "jafar", "guided", "loftup"])
def test_other_methods_give_bands_too(name):
    upsampler = small(name)
    image, features = scene((8, 8), (64, 64))
    shares = []
    expected = upsampler(image, features, (64, 64))[:, :, 9:]
    actual = joined(upsampler, image, features, (64, 64), start=9, on_progress=shares.append)
    assert relative_error(actual, expected) < 1e-5
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("start", [0, 40])
def test_progress_rises_to_one(start):
    image, features = scene((4, 6), (64, 96))
    shares = []
    joined(small("naf"), image, features, (64, 96), start=start, on_progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert shares[0] < 0.5


def test_nothing_is_recorded_and_the_callers_modes_stay():
    upsampler = small("naf")
    image, features = scene((4, 6), (64, 96))
    image.requires_grad_()
    expected = upsampler(image.detach(), features, (64, 96))
    with torch.autocast("cpu", torch.bfloat16):
        for span, band in upsampler.iter_rows(image, features, (64, 96), 16, memory_budget=0):
            assert torch.is_grad_enabled()
            assert torch.is_autocast_enabled("cpu")
            assert not band.requires_grad
            assert relative_error(band, expected[:, :, span]) < 1e-5


def test_nan_in_the_features_reaches_its_neighborhood_only():
    upsampler = small("naf")
    image, features = scene((24, 24), (96, 96))
    features[0, 0, 3, 4] = torch.nan
    expected = upsampler(image, features, (96, 96))
    actual = joined(upsampler, image, features, (96, 96))
    assert torch.equal(actual.isnan(), expected.isnan())
    assert expected.isnan().any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "rows is 0"),
        ({"start": -1}, "start is -1, expected an integer from 0 to 64"),
        ({"start": 65}, "start is 65"),
        ({"memory_budget": 0.5}, "memory_budget is 0.5"),
        ({"image": randn(1, 3, 64, 96)}, "image has batch 1, features have batch 2"),
        ({"image": torch.full((2, 3, 64, 96), torch.inf)}, "NaN or infinite"),
        ({"image": randn(2, 3, 1, 96)}, "at least 2 on each side"),
        ({"features": randn(2, 7, 4, 6)}, "heads_attn=4 does not divide"),
        ({"output_size": (3, 96)}, "smaller than the feature grid"),
    ],
)
def test_bad_values_are_refused_at_once(change, message):
    image, features = scene((4, 6), (64, 96))
    arguments = {"image": image, "features": features, "output_size": (64, 96), "memory_budget": 0, **change}
    with pytest.raises(ValueError, match=message):
        small("naf").iter_rows(**arguments)


def test_training_mode_is_refused():
    upsampler = copy.deepcopy(small("naf")).train()
    image, features = scene((4, 6), (64, 96))
    with pytest.raises(ValueError, match="training mode"):
        upsampler.iter_rows(image, features, (64, 96))


MEMORY = """
import torch, naf
from naf.benchmark.measure import measure
torch.set_num_threads(1)
upsampler = naf.create("naf", weights=None, dim=64, img_layers=1)
image, features = torch.randn(1, 3, 4096, 160), torch.randn(1, 8, 512, 20)
def run(output_size):
    for _ in upsampler.iter_rows(image[..., :output_size[0], :], features, output_size, 32, memory_budget=0):
        pass
run((520, 160))
with measure() as usage:
    run((4096, 160))
print(usage.above_mib)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the peak memory of a block")
def test_memory_stays_far_below_the_guidance():
    guidance_mib = 4096 * 160 * 64 * 4 / 2**20
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(result.stdout) < guidance_mib / 2
