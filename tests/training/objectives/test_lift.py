"""LiFT's objective: two octaves of subsampled images."""

import pytest
import torch
import torch.nn.functional as F

import naf
from naf.training.objectives import LiFTObjective
from naf.training.objectives.similarity import cosine_distance
from tests.helpers import small
from tests.training.objectives.examples import (
    extract,
    in_training,
    losses_of_training,
    make_example,
    photos,
    without_gradient,
)

DISTANCES = {"cosine": cosine_distance, "l1": F.l1_loss, "l2": F.mse_loss}


@pytest.mark.parametrize("distance", list(DISTANCES))
def test_terms_compare_doubled_features_with_those_of_the_larger_image(distance):
    upsampler, example = small("lift", patch_size=4), make_example()
    terms = LiFTObjective(distance)(upsampler, example)
    images = [example.image01[:, :, ::step, ::step] for step in (1, 2, 4)]
    features = [extract(image) for image in images]
    half = upsampler(naf.normalize(images[1]), features[1], (16, 16))
    quarter = upsampler(naf.normalize(images[2]), features[2], (8, 8))
    torch.testing.assert_close(terms["half"], DISTANCES[distance](half, features[0]))
    torch.testing.assert_close(terms["quarter"], DISTANCES[distance](quarter, features[1]))
    torch.testing.assert_close(terms["loss"], terms["half"] + terms["quarter"])


def test_the_backbone_sees_two_images_where_the_grid_divides_by_four():
    seen = []

    def record(image01):
        seen.append(image01.shape[2:])
        return extract(image01)

    LiFTObjective()(small("lift", patch_size=4), make_example(extract=record))
    assert seen == [(32, 32), (16, 16)]


def test_other_grids_are_cropped_and_extracted_anew():
    seen = []

    def record(image01):
        seen.append(image01)
        return extract(image01)

    objective, upsampler = LiFTObjective(), small("lift", patch_size=4)
    for seed in range(6):
        terms = objective(upsampler, make_example(side=56, guidance_size=28, seed=seed, extract=record))
        assert terms["loss"].isfinite()
    crops = seen[::3]
    assert {crop.shape[2:] for crop in crops} == {(48, 48)}
    windows = photos(56, 2).unfold(2, 48, 1).unfold(3, 48, 1)
    places = {
        tuple((windows == crop[:, :, None, None]).all((-1, -2)).all(1).all(0).nonzero()[0].tolist()) for crop in crops
    }
    assert len(places) > 1


def test_gradients_reach_every_parameter():
    assert not without_gradient(LiFTObjective(), in_training("lift", patch_size=4))


def test_training_lowers_the_loss():
    losses = losses_of_training(LiFTObjective(), in_training("lift", patch_size=4), 12, lr=1e-2)
    assert losses[-1] < 0.5 * losses[0]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="distance is 'l3', expected one of cosine, l1, l2"):
        LiFTObjective("l3")
    upsampler = small("lift", patch_size=4)
    with pytest.raises(ValueError, match=r"example.extract is None, expected a function: LiFTObjective runs"):
        LiFTObjective()(upsampler, make_example(extract=None))
    with pytest.raises(ValueError, match=r"image01 has sides \(12, 12\), expected at least 16: four cells of 4"):
        LiFTObjective()(upsampler, make_example(side=12, guidance_size=12))
