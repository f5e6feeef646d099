"""What a training step does."""

import io
import math

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from naf.configs.compose import plain
from naf.training import build
from naf.training.config import stages_of
from naf.training.errors import TrainingError
from naf.training.l2 import L2
from naf.training.module import SCHEDULES, TrainingModule
from naf.training.plan import Geometry, Stage
from naf.training.run import run
from naf.training.sources import BackboneSource, SegmentSource
from tests.helpers import Tiny, randn, small
from tests.training.tiny_run import FAULTY, STEPS, load, losses, quiet_console, weights


def example(upsampler):
    """Input and target of an upsampler of the tests."""
    from naf.training.example import Example

    return Example(
        image01=torch.zeros(1, 3, 32, 32),
        guidance=randn(1, 3, 32, 32),
        features=randn(1, 8, 4, 4),
        target=randn(1, 8, 8, 8, seed=1),
        stride=4,
        extract=None,
        segments=None,
        generator=torch.Generator(),
        step=0,
    )


def test_l2_is_the_mean_of_squares():
    upsampler = small("naf")
    given = example(upsampler)
    expected = (upsampler(given.guidance, given.features, (8, 8)) - given.target).square().mean()
    terms = L2()(upsampler, given)
    assert terms.keys() == {"loss"}
    torch.testing.assert_close(terms["loss"], expected)


def test_l2_compares_normed_features_where_the_upsampler_norms_them():
    upsampler = small("featup")
    assert upsampler.normalizes_features
    given = example(upsampler)
    predicted = upsampler(given.guidance, given.features, (8, 8))
    normed = F.layer_norm(given.target.movedim(1, -1), (8,)).movedim(-1, 1)
    torch.testing.assert_close(L2()(upsampler, given)["loss"], F.mse_loss(predicted, normed))


@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rates_follow_stage_and_schedule(name, tmp_path):
    stages = ["stages.first.steps=4", "stages.first.lr=1e-3", "+stages.second={steps:4,lr:1e-2,batch_size:1}"]
    sizes = [f"++stages.{stage}.geometry.image_size=16" for stage in ("first", "second")]
    changes = [*stages, *sizes, f"optimizer.schedule={name}", "data.val=null"]
    run(load(tmp_path / "a", *changes), quiet_console())
    factors = {
        "constant": [1.0] * 8,
        "cosine": [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)],
        "anneal_last_quarter": [1.0] * 7 + [0.5],
    }[name]
    base = [1e-3] * 4 + [1e-2] * 4
    assert list(losses(tmp_path / "a", "train/lr").values()) == pytest.approx(
        [x * y for x, y in zip(base, factors, strict=True)]
    )


def test_a_loss_that_is_not_finite_stops_before_it_does_harm(tmp_path, monkeypatch):
    monkeypatch.setenv("NAN_AT", "3")
    with pytest.raises(TrainingError, match=r"step 3 on source 'main': loss nan, grad_norm nan.*last\.ckpt"):
        run(load(tmp_path / "a", FAULTY), quiet_console())
    assert list(losses(tmp_path / "a")) == [0, 1, 2]
    assert all(value.isfinite().all() for value in weights(tmp_path / "a").values())
    monkeypatch.setenv("NAN_AT", "0")
    terminal = Console(file=io.StringIO(), force_terminal=True)
    with pytest.raises(TrainingError, match="no checkpoint yet"):
        run(load(tmp_path / "b", FAULTY), terminal)
    hidden, shown = (terminal.file.getvalue().count(code) for code in ("\x1b[?25l", "\x1b[?25h"))
    assert hidden == shown == 1  # the cursor: the bar has let go of the terminal


def test_backbones_are_frozen_and_not_saved(tmp_path):
    values = plain(load(tmp_path / "a", "sources.main.normalize_channels=true"))
    backbone = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 8, 4, 4))

    class Learned(Tiny):
        def __init__(self):
            super().__init__()
            self.layers = backbone

        def _features(self, image01):
            return self.layers(image01)

    source = BackboneSource(Learned(), normalize_channels=True)
    sources = {"main": source}
    module = TrainingModule(build.make_upsampler(values, sources), L2(), sources, [Stage(1, Geometry())])
    assert module.upsampler.training
    assert not backbone.training
    module.eval()
    module.train()
    assert module.upsampler.training
    assert not backbone.training
    optimized = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert optimized == {id(p) for p in module.upsampler.parameters()}
    assert not any(p.requires_grad for p in backbone.parameters())
    saved = [name for name in module.state_dict() if name.startswith("sources")]
    assert sorted(saved) == ["sources.main.is_calibrated", "sources.main.mean", "sources.main.std"]


def test_gradients_are_clipped_in_the_first_steps_only():
    upsampler = small("naf", dim=16).requires_grad_(True)
    module = TrainingModule(
        upsampler, L2(), {"a": BackboneSource(Tiny())}, [Stage(1, Geometry())], clip_norm=1e-3, clip_first_steps=2
    )
    optimizer = module.configure_optimizers()
    for step, expected in ((1, 1e-3), (2, 5.0)):
        for parameter in upsampler.parameters():
            parameter.grad = torch.zeros_like(parameter)
        next(upsampler.parameters()).grad.view(-1)[0] = 5.0
        type(module).global_step = property(lambda _, step=step: step)
        try:
            module.configure_gradient_clipping(optimizer)
        finally:
            del type(module).global_step
        norm = torch.nn.utils.get_total_norm([p.grad for p in upsampler.parameters()])
        assert norm.item() == pytest.approx(expected, rel=1e-3)
    upsampler.requires_grad_(False)


def test_a_step_draws_the_same_numbers_whatever_was_drawn_before(tmp_path):
    """RoPE's random factor is PyTorch's; without a seed of the step's own a resumed run would differ."""
    changes = ["upsampler.rope_rescale=4.0", "data.val=null"]
    run(load(tmp_path / "a", *changes), quiet_console())
    config = load(tmp_path / "b", *changes)
    torch.manual_seed(123)
    run(config, quiet_console(), stop=2)
    torch.manual_seed(456)
    run(config, quiet_console())
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_what_an_objective_needs_is_asked_for(tmp_path):
    from naf.training.objectives import AnyUpObjective

    with pytest.raises(ValueError, match=r"'labels' cannot give features.*AnyUpObjective"):
        TrainingModule(small("naf"), AnyUpObjective(), {"labels": SegmentSource()}, [Stage(1, Geometry())])
    values = plain(load(tmp_path / "a", "objective=loftup"))
    sources = build.make_sources(values)
    objective = build.make_objective(values, sources)
    assert objective.multiview is not None
    with pytest.raises(ValueError, match=r"data.photos.segments is missing.*LoftUpObjective"):
        build.make_photos(values, sources, objective)


def test_validation_is_what_it_says(tmp_path):
    config = load(tmp_path / "a", "validate_every=6", "stages.first.geometry={image_size:32,reduced:0.5}")
    result = run(config, quiet_console())
    values = plain(config)
    sources = build.make_sources(values)
    upsampler = build.make_upsampler(values, sources)
    state = weights(tmp_path / "a")
    upsampler.load_state_dict({k.removeprefix("upsampler."): v for k, v in state.items() if k.startswith("upsampler.")})
    from naf.training.datamodule import PhotoData

    held_out = build.make_validation_photos(values, sources)
    data = PhotoData(stages_of(config), sources, {}, held_out, seed=0, steps_per_epoch=1)
    errors = {"loss": 0.0, "bilinear": 0.0, "nearest": 0.0}
    batches = data.picture_batches(10)
    assert len(batches) == 3
    for batch in batches:
        given = sources["main"].example(batch)
        size = given.target.shape[2:]
        made = {
            "loss": upsampler(given.guidance, given.features, size),
            "bilinear": F.interpolate(given.features, size=size, mode="bilinear"),
            "nearest": F.interpolate(given.features, size=size, mode="nearest"),
        }
        for key, value in made.items():
            errors[key] += F.mse_loss(value, given.target).item() / 3
    found = result["validation"]
    assert found["val/main/loss"] == pytest.approx(errors["loss"], rel=1e-5)
    assert found["val/over_bilinear"] == pytest.approx(errors["loss"] / errors["bilinear"], rel=1e-5)
    assert found["val/main/over_nearest"] == pytest.approx(errors["loss"] / errors["nearest"], rel=1e-5)
    assert list(losses(tmp_path / "a", "val/main/loss")) == [STEPS]
