"""Noise has the distribution that it says, and is the same for the same seed."""

import math

import pytest
import torch

from naf.data import read_image
from naf.data.samples import SAMPLES
from naf.restoration.noise import NOISES, GaussianNoise, SaltAndPepperNoise, estimate_level

BOTH = pytest.mark.parametrize("kind", NOISES.values(), ids=NOISES)
SHAPE = (2, 3, 200, 200)
COUNT = math.prod(SHAPE)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def within(value, expected, deviation):
    """Within four standard deviations of an estimate: by chance outside once in 16,000 seeds."""
    return abs(float(value) - expected) <= 4 * deviation


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_gaussian_noise_is_normal_with_the_level_as_its_deviation(sigma):
    clean = torch.rand(SHAPE, generator=generator(1))
    drawn = (GaussianNoise(sigma)(clean, generator()) - clean).double() / sigma
    assert within(drawn.mean(), 0, 1 / math.sqrt(COUNT))
    assert within(drawn.square().mean(), 1, math.sqrt(2 / COUNT))
    for deviations in (0.5, 1, 2, 3):
        share = math.erf(deviations / math.sqrt(2))
        assert within((drawn.abs() < deviations).double().mean(), share, math.sqrt(share * (1 - share) / COUNT))
    # Channels, neighbours and images are independent.
    for a, b in ((drawn[:, 0], drawn[:, 1]), (drawn[..., 1:], drawn[..., :-1]), (drawn[0], drawn[1])):
        assert within((a * b).mean(), 0, 1 / math.sqrt(a.numel()))


def test_noise_is_not_clamped():
    clean = torch.rand(SHAPE)
    noisy = GaussianNoise(0.5)(clean, generator())
    assert noisy.min() < -0.5
    assert noisy.max() > 1.5


@pytest.mark.parametrize("level", [0.1, 0.5])
def test_salt_and_pepper_hits_every_value_by_itself(level):
    clean = 0.2 + 0.6 * torch.rand(SHAPE, generator=generator(1))
    noisy = SaltAndPepperNoise(level)(clean, generator())
    salt, pepper = noisy == 1, noisy == 0
    hit = salt | pepper
    assert torch.equal(noisy[~hit], clean[~hit])
    for kind in (salt, pepper):
        assert within(kind.double().mean(), level / 2, math.sqrt(level / 2 * (1 - level / 2) / COUNT))
    # All three channels of a pixel, and two neighbours, are hit as often as independence says.
    for together, number in ((hit.all(1), 3), (hit[..., 1:] & hit[..., :-1], 2), (hit[0] & hit[1], 2)):
        share = level**number
        assert within(together.double().mean(), share, math.sqrt(share * (1 - share) / together.numel() * 3))


def test_the_greatest_level_of_salt_and_pepper_leaves_nothing():
    noisy = SaltAndPepperNoise(1.0)(torch.full(SHAPE, 0.5), generator())
    assert set(noisy.unique().tolist()) == {0.0, 1.0}


def test_a_higher_level_hits_the_same_values_and_more():
    clean = torch.full(SHAPE, 0.5)
    low, high = (SaltAndPepperNoise(level)(clean, generator()) for level in (0.1, 0.4))
    assert torch.equal(high[low != 0.5], low[low != 0.5])
    assert (high != 0.5).sum() > (low != 0.5).sum()


@BOTH
def test_no_noise_leaves_the_image(kind):
    clean = torch.rand(SHAPE)
    assert torch.equal(kind(0.0)(clean, generator()), clean)


@BOTH
def test_a_range_gives_one_level_a_batch(kind):
    noise, draws = kind((0.1, 0.5)), generator()
    levels = torch.tensor([noise.draw_level(draws) for _ in range(400)])
    assert levels.min() >= 0.1
    assert levels.max() <= 0.5
    assert within(levels.mean(), 0.3, 0.4 / math.sqrt(12 * 400))
    assert within((levels < 0.2).double().mean(), 0.25, math.sqrt(0.25 * 0.75 / 400))
    # All images of a call have the level that is drawn first; the next call has another.
    clean, draws = torch.full((2, 3, 100, 100), 0.5), generator(3)
    found = []
    for _ in range(2):
        seen = noise.draw_level(draws.clone_state())
        noisy = noise(clean, draws)
        changed = (
            (noisy - clean).square().mean((1, 2, 3))
            if kind is GaussianNoise
            else (noisy != clean).double().mean((1, 2, 3))
        )
        expected = seen**2 if kind is GaussianNoise else seen
        assert all(within(value, expected, math.sqrt(2 / 30_000)) for value in changed)
        found.append(seen)
    assert abs(found[0] - found[1]) > 0.02


@BOTH
def test_the_same_seed_gives_the_same_noise_in_any_dtype_layout_and_place(kind):
    noise, clean = kind((0.1, 0.5)), torch.rand(2, 3, 16, 20)
    expected = noise(clean, generator(7))
    assert torch.equal(noise(clean, generator(7)), expected)
    assert not torch.equal(noise(clean, generator(8)), expected)
    assert torch.equal(noise(clean.contiguous(memory_format=torch.channels_last), generator(7)), expected)
    torch.testing.assert_close(noise(clean.double(), generator(7)), expected.double())
    assert noise(clean.bfloat16(), generator(7)).dtype == torch.bfloat16
    if torch.cuda.is_available():
        torch.testing.assert_close(noise(clean.cuda(), generator(7)).cpu(), expected)


@BOTH
def test_the_clean_image_and_the_global_generator_stay_as_they_are(kind):
    clean, state = torch.rand(1, 3, 8, 8), torch.random.get_rng_state()
    kept = clean.clone()
    kind((0.1, 0.5))(clean, generator())
    assert torch.equal(clean, kept)
    assert torch.equal(torch.random.get_rng_state(), state)


@BOTH
@pytest.mark.parametrize("level", [-0.1, 1.1, math.nan, math.inf, "much", (0.5, 0.1), (0.1, 0.2, 0.3), (), None, True])
def test_levels_out_of_range_are_refused(kind, level):
    with pytest.raises(ValueError, match=r"level is .*, expected a number from 0"):
        kind(level)


def test_levels_of_8_bit_values_are_refused():
    with pytest.raises(ValueError, match=r"level is 25, expected .* divide that of 8-bit values by 255"):
        GaussianNoise(25)


def test_a_level_may_be_a_list_as_a_configuration_gives_it():
    assert GaussianNoise([0.1, 0.5]).level == (0.1, 0.5)


@BOTH
def test_8_bit_images_are_refused(kind):
    with pytest.raises(TypeError, match=r"clean is torch\.uint8, expected float values from 0 to 1"):
        kind(0.1)(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), generator())


@BOTH
def test_a_generator_of_another_device_is_refused(kind):
    class Elsewhere:
        device = torch.device("meta")

    with pytest.raises(ValueError, match="generator is on meta, expected the CPU"):
        kind(0.1)(torch.rand(1, 3, 4, 4), Elsewhere())


@pytest.mark.parametrize("sigma", [0.03, 0.1, 0.3])
def test_the_level_of_a_noisy_photo_is_estimated(sigma):
    clean = read_image(SAMPLES[0].path)
    before = estimate_level(clean)
    assert before < 0.03
    estimate = estimate_level(GaussianNoise(sigma)(clean, generator()))
    assert sigma < estimate < 1.2 * sigma  # texture counts as noise


def test_the_estimated_level_of_noise_alone_is_its_deviation():
    noise = GaussianNoise(0.2)(torch.zeros(3, 300, 300), generator())
    assert estimate_level(noise) == pytest.approx(0.2, rel=0.01)
    assert estimate_level(torch.full((3, 3, 3), 0.5)) == 0


def test_an_image_too_small_for_an_estimate_is_refused():
    with pytest.raises(ValueError, match=r"image is \(3, 2, 9\), expected"):
        estimate_level(torch.zeros(3, 2, 9))
