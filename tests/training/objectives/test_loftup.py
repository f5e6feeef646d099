"""LoftUp's objective: segments, affinities, the teacher."""

import copy

import pytest
import torch
import torch.nn.functional as F

import naf
from naf.training.objectives import LoftUpObjective
from naf.training.objectives.affinity import affinity_error
from naf.training.objectives.segments import refine
from naf.upsamplers.base import Guidance, Upsampler
from tests.helpers import randn, small
from tests.training.objectives.examples import in_training, losses_of_training, make_example, without_gradient

STAGES = (1, 2)


class Echo(Upsampler):
    """Gives the image itself, whatever the features."""

    def _encode(self, image, output_size, grid):
        guidance = EchoGuidance(len(image), grid, output_size)
        guidance.image = image
        return guidance


class EchoGuidance(Guidance):
    def _upsample(self, features):
        del features
        return F.interpolate(self.image, size=self.output_size, mode="bilinear")


def test_refined_features_move_towards_the_mean_of_their_segment():
    features = torch.tensor([[1.0, 3.0, 10.0, 20.0]]).view(1, 1, 2, 2)
    segments = torch.tensor([[-1, -1], [7, 900]]).view(1, 2, 2)
    for factor, expected in ((0, [1, 3, 10, 20]), (0.8, [1.8, 2.2, 10, 20]), (1, [2, 2, 10, 20])):
        torch.testing.assert_close(refine(features, segments, factor).flatten(), torch.tensor(expected).float())


def test_segments_of_an_image_do_not_see_other_images():
    features, segments = randn(2, 3, 4, 4), torch.arange(16).view(1, 4, 4).expand(2, -1, -1) % 3
    alone = torch.cat([refine(features[i : i + 1], segments[i : i + 1], 0.5) for i in range(2)])
    torch.testing.assert_close(refine(features, segments, 0.5), alone)


def test_the_affinity_error_is_that_of_the_matrices():
    a, b = randn(2, 5, 4, 6, seed=1, dtype=torch.float64), randn(2, 5, 4, 6, seed=2, dtype=torch.float64)
    rows_a, rows_b = (F.normalize(x.flatten(2), dim=1).mT for x in (a, b))
    expected = (rows_a @ rows_a.mT - rows_b @ rows_b.mT).square().mean()
    torch.testing.assert_close(affinity_error(a, b), expected)
    rotation = torch.linalg.qr(randn(5, 5, dtype=torch.float64)).Q
    turned = 3 * torch.einsum("kc,bchw->bkhw", rotation, a)
    assert affinity_error(a, turned) < 1e-12


def test_terms_of_stage_one_agree_with_their_definitions():
    objective, upsampler = LoftUpObjective(8, stage=1, stride=4), small("loftup")
    example = make_example()
    terms = objective(upsampler, example)
    hr = upsampler(naf.normalize(example.image01), example.target, (64, 64))
    normed = F.layer_norm(example.target.movedim(1, 3), (8,)).movedim(3, 1)
    refined = refine(F.interpolate(normed, size=(64, 64), mode="bicubic"), example.segments, 0.8)
    projection = F.normalize(torch.randn(8, 64, generator=make_example().generator), dim=0)
    difference = torch.einsum("bchw,cd->bdhw", hr - refined, projection)
    torch.testing.assert_close(terms["refined"], difference.square().mean(), rtol=1e-3, atol=0)
    steps = hr.diff(dim=2).square().sum() + hr.diff(dim=3).square().sum()
    torch.testing.assert_close(terms["variation"], steps / hr.numel(), rtol=1e-3, atol=0)
    expected = terms["refined"] + terms["reconstruction"] + 0.001 * terms["variation"]
    torch.testing.assert_close(terms["loss"], expected)


def test_the_reconstruction_is_never_negative():
    objective = LoftUpObjective(8, stage=1, stride=4)
    objective.multiview.uncertainty.bias.data.fill_(-2)  # log s below 0
    objective.multiview.uncertainty.weight.data.zero_()
    example = make_example(target=torch.zeros(2, 8, 16, 16), extract=lambda x: torch.zeros(len(x), 8, 16, 16))
    assert objective(naf.create("nearest"), example)["reconstruction"] == 0


def ramp(side):
    """An image whose colours turn evenly from left to right and top to bottom."""
    axis = torch.linspace(0, 1, side)
    return torch.stack([axis[:, None].expand(side, side), axis.expand(side, side), torch.full((side, side), 0.5)])[None]


def test_the_teacher_is_compared_at_the_place_of_its_crop():
    image01 = ramp(128)
    every_pixel = torch.arange(128 * 128).view(1, 128, 128)
    for seed in range(4):
        example = make_example(
            seed=seed,
            image01=image01,
            segments=every_pixel,
            features=torch.zeros(1, 3, 16, 16),
            extract=lambda x: F.avg_pool2d(x, 4),
        )
        terms = LoftUpObjective(3, stage=2, stride=4)(Echo(), example)
        assert terms["affinity"] < 1e-3
        expected = 20 * terms["affinity"] + terms["reconstruction"] + 0.05 * terms["variation"]
        torch.testing.assert_close(terms["loss"], expected)


def test_the_teacher_sees_segments_and_gives_no_gradient():
    objective, upsampler = LoftUpObjective(8, stage=2, stride=4), in_training("loftup")
    exact = objective(upsampler, make_example())
    refined = objective(upsampler, make_example(segments=torch.arange(64 * 64).view(1, 64, 64).expand(2, -1, -1)))
    assert exact["affinity"] != refined["affinity"]
    (teacher,) = objective.teacher
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not {id(p) for p in objective.parameters()} & {id(p) for p in teacher.parameters()}


def test_the_teacher_follows_every_tenth_step():
    objective, upsampler = LoftUpObjective(8, stage=2, stride=4), in_training("loftup")
    objective(upsampler, make_example())
    (teacher,) = objective.teacher
    before = copy.deepcopy(teacher.state_dict())
    with torch.no_grad():
        for parameter in upsampler.parameters():
            parameter += 1
    for step in range(9):
        objective.after_step(upsampler, step)
    weight = teacher.upsampler.final_conv[0].weight
    assert torch.equal(weight, before["upsampler.final_conv.0.weight"])
    objective.after_step(upsampler, 9)
    torch.testing.assert_close(weight, before["upsampler.final_conv.0.weight"] + 0.01)


def test_a_restored_objective_goes_on_with_the_same_teacher():
    torch.manual_seed(0)
    objective, upsampler = LoftUpObjective(8, stage=2, stride=4).eval(), in_training("loftup")
    objective(upsampler, make_example())
    with torch.no_grad():
        for parameter in upsampler.parameters():
            parameter += 0.1 * randn(*parameter.shape)
    saved = copy.deepcopy(objective.state_dict())
    upsampler.eval()
    expected = objective(upsampler, make_example())
    other = LoftUpObjective(8, stage=2, stride=4).eval()
    fresh = other(upsampler, make_example())
    other.load_state_dict(saved)
    assert other.state_dict().keys() == saved.keys()
    restored = other(upsampler, make_example())
    assert {name: value.item() for name, value in restored.items()} == {name: v.item() for name, v in expected.items()}
    assert fresh["affinity"] != restored["affinity"]


@pytest.mark.parametrize("stage", STAGES)
def test_gradients_reach_every_parameter(stage):
    assert not without_gradient(LoftUpObjective(8, stage=stage, stride=4), in_training("loftup"))


@pytest.mark.parametrize("stage", STAGES)
def test_training_lowers_the_loss(stage):
    torch.manual_seed(0)
    losses = losses_of_training(LoftUpObjective(8, stage=stage, stride=4), in_training("loftup"), 6, lr=3e-3)
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("stage", STAGES)
def test_steps_repeat_with_the_generator(stage):
    upsampler, objective = small("loftup"), LoftUpObjective(8, stage=stage, stride=4)
    losses = [objective(upsampler, make_example(seed=seed))["loss"].item() for seed in (3, 3, 4)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="stage is 3, expected 1 or 2"):
        LoftUpObjective(8, stage=3)
    upsampler, objective = small("loftup"), LoftUpObjective(8, stage=2, stride=4)
    with pytest.raises(ValueError, match=r"example.extract is None, expected a function: LoftUpObjective runs"):
        objective(upsampler, make_example(extract=None))
    with pytest.raises(
        ValueError, match=r"example.segments is None, expected \(B, S, S\) integers: LoftUpObjective needs"
    ):
        objective(upsampler, make_example(segments=None))
    for segments in (torch.zeros(2, 32, 32, dtype=torch.long), torch.zeros(2, 64, 64)):
        with pytest.raises(ValueError, match=r"segments has shape .*, expected \(2, 64, 64\) integers"):
            objective(upsampler, make_example(segments=segments))
    with pytest.raises(
        ValueError, match=r"features have grid \(17, 17\), \(68, 68\) pixels, expected at most \(64, 64\)"
    ):
        objective(upsampler, make_example(features=torch.zeros(2, 8, 17, 17)))
