"""JAFAR's objective: its terms, its noise, its gradients."""

import pytest
import torch
import torch.nn.functional as F

import naf
from naf.training.objectives import JAFARObjective
from naf.training.objectives.jafar import consistency, noisy_guidance
from naf.training.objectives.similarity import similarity_loss
from tests.helpers import randn, small
from tests.training.objectives.examples import in_training, losses_of_training, make_example, without_gradient
from tests.upsamplers.test_featup_views import blur_by_definition

INERT = {
    "cross_decode.cross_attn.norm_v.weight",
    "cross_decode.cross_attn.attention.v_proj_weight",
    "cross_decode.cross_attn.attention.out_proj.weight",
    "cross_decode.cross_attn.attention.out_proj.bias",
}  # part of the published files, never reach the output


def test_the_loss_is_the_similarity_and_a_tenth_of_the_consistency():
    upsampler = small("jafar")
    terms = JAFARObjective()(upsampler, make_example())
    example = make_example()
    prediction = upsampler(example.guidance, example.features, (16, 16))
    noisy = noisy_guidance(example.guidance, example.generator)
    change = similarity_loss(
        upsampler(noisy, example.target, (32, 32)), upsampler(example.guidance, example.target, (32, 32))
    )
    torch.testing.assert_close(terms["consistency"], change)
    torch.testing.assert_close(terms["cosine"] + terms["min_max"], similarity_loss(prediction, example.target))
    torch.testing.assert_close(terms["loss"], terms["cosine"] + terms["min_max"] + 0.1 * change)


def test_a_method_that_ignores_the_image_is_consistent_and_a_perfect_one_has_no_loss():
    example = make_example()
    terms = JAFARObjective()(naf.create("nearest"), make_example(features=example.target))
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(dict.fromkeys(terms, 0), abs=1e-6)


def test_the_clean_guidance_gives_no_gradient():
    upsampler, example = in_training("jafar"), make_example()
    clean, other = (example.guidance.clone().requires_grad_() for _ in range(2))
    consistency(upsampler, clean, other + 0.1, example.target).backward()
    assert clean.grad is None
    assert other.grad.any()


def test_noise_blurs_adds_and_always_clamps():
    guidance = randn(2, 3, 12, 12)
    kept, seen = guidance.clone(), set()
    blurred = blur_by_definition(guidance)
    for seed in range(40):
        noisy = noisy_guidance(guidance, torch.Generator().manual_seed(seed))
        assert noisy.min() >= 0
        assert noisy.max() <= 1
        near = {name: (noisy - x.clamp(0, 1)).abs().max() for name, x in (("plain", guidance), ("blurred", blurred))}
        base = min(near, key=near.get)
        inside = (noisy > 0.1) & (noisy < 0.9)
        deviation = (noisy - {"plain": guidance, "blurred": blurred}[base])[inside].std()
        assert deviation < 1e-6 or 0.015 < deviation < 0.025
        seen.add((base, bool(deviation > 1e-6)))
    assert len(seen) == 4
    assert torch.equal(guidance, kept)


def test_steps_repeat_with_the_generator():
    upsampler, objective = small("jafar"), JAFARObjective()
    losses = [objective(upsampler, make_example(seed=seed))["loss"].item() for seed in (3, 3, 4)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_the_step_is_the_same_however_the_batch_is_split():
    upsampler, objective, example = small("jafar"), JAFARObjective(), make_example(seed=6)
    whole = objective(upsampler, example)
    parts = []
    for image in range(2):
        fields = {
            name: getattr(example, name)[image : image + 1] for name in ("image01", "guidance", "features", "target")
        }
        parts.append(objective(upsampler, make_example(seed=6, **fields)))
    for name, value in whole.items():
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, value)


@pytest.mark.parametrize(("name", "inert"), [("jafar", INERT), ("naf", set()), ("lift", set())])
def test_gradients_reach_every_parameter_that_matters(name, inert):
    assert without_gradient(JAFARObjective(), in_training(name)) == inert


def test_training_lowers_the_loss():
    losses = losses_of_training(JAFARObjective(), in_training("jafar"), 4, lr=1e-2)
    assert losses[-1] < 0.3 * losses[0]


def test_label_maps_will_do():
    labels = F.one_hot(torch.arange(256).view(1, 16, 16) % 8, 8).permute(0, 3, 1, 2).float().expand(2, -1, -1, -1)
    example = make_example(target=labels, features=F.avg_pool2d(labels, 2), extract=None, segments=None)
    assert JAFARObjective()(small("jafar"), example)["loss"].isfinite()
