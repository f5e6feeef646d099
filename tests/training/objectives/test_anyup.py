"""AnyUp's objective: crops at their places, augmented guidance, agreement at the input grid."""

import pytest
import torch
import torch.nn.functional as F

import naf
from naf.training.objectives import AnyUpObjective
from naf.training.objectives.augment import _STEPS, augmented_guidance
from naf.training.objectives.similarity import similarity_loss
from tests.helpers import small
from tests.training.objectives.examples import in_training, losses_of_training, make_example, photos, without_gradient
from tests.training.objectives.test_jafar import INERT


def colors(image01):
    """A backbone of three channels that sees nothing beyond its cell: crops have the features of their place."""
    return F.avg_pool2d(image01, 4)


def test_crops_are_held_against_their_own_places():
    target = colors(photos(64, 2))
    example = make_example(features=target, target=target, extract=colors)
    terms = AnyUpObjective()(naf.create("nearest"), example)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(dict.fromkeys(terms, 0), abs=1e-6)
    moved = make_example(features=target.roll(1, 3), target=target, extract=colors)
    assert AnyUpObjective()(naf.create("nearest"), moved)["cosine"] > 1e-3


def test_crops_have_half_the_side_and_lie_at_cells():
    seen = []

    def record(image01):
        seen.append(image01)
        return colors(image01)

    target = colors(photos(60, 2))
    example = make_example(side=60, extract=record, features=target, target=target)
    AnyUpObjective(crops=5)(naf.create("nearest"), example)
    assert seen[0].shape == (10, 3, 28, 28)  # 7 of 15 cells
    windows = photos(60, 2)[0].unfold(1, 28, 4).unfold(2, 28, 4)  # (3, 9, 9, 28, 28)
    places = {
        tuple((windows == crop[:, None, None]).all((-1, -2)).all(0).nonzero()[0].tolist()) for crop in seen[0][::2]
    }
    assert len(places) > 2


def test_terms_agree_with_their_definitions():
    upsampler, example = small("anyup"), make_example()
    terms = AnyUpObjective(consistency=0.3, coarse=0.7)(upsampler, example)
    prediction = upsampler(example.guidance, example.features, (16, 16))
    coarse = prediction.unflatten(2, (8, 2)).unflatten(4, (8, 2)).mean((3, 5))
    torch.testing.assert_close(terms["coarse"], similarity_loss(coarse, example.features))
    expected = terms["cosine"] + terms["min_max"] + 0.3 * terms["consistency"] + 0.7 * terms["coarse"]
    torch.testing.assert_close(terms["loss"], expected)
    assert terms["consistency"] > 0


@pytest.mark.parametrize("strength", [0.0, 0.37, 0.999])
def test_every_change_of_the_guidance_keeps_shape_and_range_and_changes_something(strength):
    image01 = photos(64, 2)
    for step in _STEPS:
        changed = step.change(image01, strength)
        assert changed.shape == image01.shape
        assert changed.min() >= -0.01
        assert changed.max() <= 1.01
        assert not torch.equal(changed, image01)


def test_the_augmented_guidance_follows_the_generator_alone():
    guidance = make_example().guidance
    torch.manual_seed(1)
    before = torch.get_rng_state()
    looks = [augmented_guidance(guidance, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(looks[0], looks[1])
    assert not torch.allclose(looks[0], looks[2], atol=0.05)
    single = augmented_guidance(guidance[1:], torch.Generator().manual_seed(1))
    torch.testing.assert_close(single, looks[0][1:])


@pytest.mark.parametrize(("name", "inert"), [("anyup", INERT), ("naf", set())])
def test_gradients_reach_every_parameter_that_matters(name, inert):
    upsampler = in_training(name)
    missing = without_gradient(AnyUpObjective(), upsampler)
    assert missing == inert & dict(upsampler.named_parameters()).keys()


def test_training_lowers_the_loss():
    losses = losses_of_training(AnyUpObjective(), in_training("anyup"), 4, lr=1e-2)
    assert losses[-1] < 0.4 * losses[0]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"example.extract is None, expected a function: AnyUpObjective runs"):
        AnyUpObjective()(small("anyup"), make_example(extract=None))
    with pytest.raises(ValueError, match="crops is 0, expected an integer of at least 1"):
        AnyUpObjective(crops=0)
    with pytest.raises(ValueError, match=r"example.target has grid \(1, 1\), expected at least 2 cells"):
        AnyUpObjective()(small("anyup"), make_example(side=8, target=torch.ones(2, 8, 1, 1)))
