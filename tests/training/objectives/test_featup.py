"""FeatUp's objective: the random field and the sum of the terms."""

import pytest
import torch

import naf
from naf.training.objectives import FeatUpObjective
from naf.training.objectives.crf import crf_loss
from tests.helpers import randn, small
from tests.training.objectives.examples import in_training, losses_of_training, make_example, without_gradient


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_random_field_agrees_with_its_definition():
    image, features = randn(2, 3, 6, 9, dtype=torch.float64), 5 + randn(2, 4, 6, 9, seed=1, dtype=torch.float64)
    loss = crf_loss(image, features, 30, generator(4))
    drawn = generator(4)
    rows, cols = torch.randint(6, (30,), generator=drawn), torch.randint(9, (30,), generator=drawn)
    total = 0.0
    for b in range(2):
        for i in zip(rows, cols, strict=True):
            for j in zip(rows, cols, strict=True):
                position = ((i[0] - j[0]) / 6) ** 2 + ((i[1] - j[1]) / 9) ** 2
                color = (image[b, :, i[0], i[1]] - image[b, :, j[0], j[1]]).square().sum()
                kernel = 10 * torch.exp(-position / 0.2 - color / 0.3) + 3 * torch.exp(-position / 0.01)
                total += kernel * (features[b, :, i[0], i[1]] - features[b, :, j[0], j[1]]).square().sum()
    torch.testing.assert_close(loss, total / (2 * 30 * 30))


def test_the_random_field_sees_differences_of_features_alone():
    image, features = randn(1, 3, 8, 8), randn(1, 4, 8, 8, seed=1)
    loss = crf_loss(image, features, 50, generator())
    torch.testing.assert_close(crf_loss(image, features + 100, 50, generator()), loss, rtol=1e-3, atol=0)
    torch.testing.assert_close(crf_loss(image, 3 * features, 50, generator()), 9 * loss)
    assert crf_loss(image, torch.full((1, 4, 8, 8), 7.0), 50, generator()).abs() < 1e-6


def test_the_loss_is_the_reconstruction_and_a_thousandth_of_the_random_field():
    terms = FeatUpObjective(8, stride=4)(small("featup"), make_example())
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + 0.001 * terms["crf"])
    assert terms["crf"] > 0


def test_the_features_of_the_image_are_upsampled_to_its_size():
    calls = []

    class Recording(type(naf.create("bilinear"))):
        def forward(self, image, features, output_size):
            calls.append((image, features, tuple(output_size)))
            return super().forward(image, features, output_size)

    example = make_example()
    FeatUpObjective(8, stride=4)(Recording(), example)
    ((image, features, size),) = calls
    torch.testing.assert_close(image, naf.normalize(example.image01))
    assert features is example.target
    assert size == (64, 64)


def test_steps_repeat_with_the_generator():
    upsampler, objective = small("featup"), FeatUpObjective(8, stride=4)
    losses = [objective(upsampler, make_example(seed=seed))["loss"].item() for seed in (3, 3, 4)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_gradients_reach_every_parameter_of_the_levels_that_are_taken():
    torch.manual_seed(0)
    upsampler = in_training("featup")
    left = {name for name, _ in upsampler.named_parameters() if ".up3." in name or ".up4." in name}
    assert without_gradient(FeatUpObjective(8, stride=4), upsampler) == left


@pytest.mark.parametrize("name", ["featup", "naf"])
def test_training_lowers_the_loss(name):
    torch.manual_seed(0)
    objective = FeatUpObjective(8, stride=4)
    for parameter in objective.multiview.uncertainty.parameters():
        parameter.requires_grad_(False).zero_()  # or the loss would fall by trusting every cell more
    losses = losses_of_training(objective, in_training(name), 8, lr=1e-2)
    assert losses[-1] - 0.1 < 0.8 * (losses[0] - 0.1)  # the logarithm of the scale, which stays


def test_training_learns_how_far_cells_can_be_trusted():
    torch.manual_seed(0)
    losses = losses_of_training(FeatUpObjective(8, stride=4), small("featup"), 6, lr=1e-2)
    assert losses[-1] < losses[0] - 0.2


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"example.extract is None, expected a function: FeatUpObjective runs"):
        FeatUpObjective(8, stride=4)(small("featup"), make_example(extract=None))
    for argument in ("channels", "views", "projection"):
        with pytest.raises(ValueError, match=f"{argument} is 0, expected an integer of at least 1"):
            FeatUpObjective(**{"channels": 8, argument: 0})
