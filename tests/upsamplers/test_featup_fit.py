"""Fitting FeatUp's implicit network: same numbers for the same seed, also over a break."""

import json
import logging

import pytest
import torch
import torch.nn.functional as F

import naf
import naf.upsamplers.featup_implicit
from naf.backbones import Hog
from naf.upsamplers.featup_objective import Objective
from naf.upsamplers.featup_views import draw_views, see
from tests.helpers import randn
from tests.upsamplers.test_featup_views import blur_by_definition

CONFIG = {"channels": 16, "n_freqs": 6, "dim": 8, "hidden": 16}
FIT = {"size": 32, "views": 24, "steps": 6}


class Counting(Hog):
    """Counts the images that it sees."""

    def __init__(self, sign=1):
        super().__init__(stride=8)
        self.seen, self.sign = 0, sign

    def _features(self, image01):
        self.seen += len(image01)
        return self.sign * super()._features(image01)


def photo(seed=0, height=40, width=40):
    smooth = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return naf.normalize(F.interpolate(smooth, size=(height, width), mode="bilinear"))


def create(**config):
    return naf.create("featup-implicit", weights=None, **{**CONFIG, **config})


def fit(upsampler=None, image=None, backbone=None, **options):
    """A fitted upsampler and the loss of each step."""
    losses = []
    image = photo() if image is None else image
    options = {"on_progress": lambda step, steps, loss: losses.append(loss), **FIT, **options}
    upsampler = (upsampler or create()).fit(image, backbone or Hog(stride=8), **options)
    return upsampler, losses


def same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_loss_falls_clearly():
    _, losses = fit(steps=60)
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 0.15
    assert len(losses) == 60


def test_the_map_agrees_with_the_backbone_when_brought_to_its_grid():
    image, backbone = photo(height=32, width=32), Hog(stride=8)
    upsampler, _ = fit(image=image, steps=250, views=40)
    features = backbone(naf.upsamplers.featup_implicit.to_image01(image))
    with torch.no_grad():
        pooled = F.avg_pool2d(upsampler(image, features, (32, 32)), 8)
    unexplained = (pooled - features).square().mean() / (features - features.mean((2, 3), keepdim=True)).square().mean()
    assert unexplained < 0.5


def test_a_fit_follows_from_its_seed_and_leaves_the_global_generator_alone():
    first, state = create(), torch.get_rng_state()
    first, losses = fit(upsampler=first)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    second, again = fit()
    assert losses == again
    assert same_state(first, second)
    _, others = fit(seed=1)
    assert others != losses


def test_a_second_fit_starts_anew_and_does_not_depend_on_the_first():
    first, losses = fit()
    second, again = fit(upsampler=fit(image=photo(3))[0])
    assert again == losses
    assert same_state(first, second)


def test_fitting_works_without_gradients_around_it_and_on_frozen_parameters():
    _, losses = fit()
    with torch.no_grad():
        assert fit(upsampler=create().requires_grad_(False))[1] == losses
    with torch.inference_mode():
        assert fit(upsampler=create(), image=photo())[1] == losses


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_fit_goes_on_as_if_it_had_not_stopped(tmp_path, error, dtype):
    path = tmp_path / "fit.pt"
    whole, losses = fit(upsampler=create().to(dtype))
    done, backbone = [], Counting()

    def stop(step, steps, loss):
        assert steps == FIT["steps"]
        done.append(loss)
        if step == 4:
            raise error

    broken = create().to(dtype)
    with pytest.raises(error):
        fit(upsampler=broken, backbone=backbone, checkpoint=path, on_progress=stop)
    assert not broken.fitted
    assert [file.name for file in tmp_path.iterdir()] == ["fit.pt"]
    backbone.seen = 0
    resumed, rest = fit(upsampler=broken, backbone=backbone, checkpoint=path)
    assert backbone.seen == 10  # a batch that tells whether the backbone is the same
    assert done + rest == losses
    assert same_state(resumed, whole)


def test_a_break_between_views_goes_on_with_the_next_batch(tmp_path):
    path, backbone = tmp_path / "fit.pt", Counting()
    whole, losses = fit(views=75)

    class Stops(Counting):
        def _features(self, image01):
            if self.seen >= 60:
                raise KeyboardInterrupt
            return super()._features(image01)

    with pytest.raises(KeyboardInterrupt):
        fit(backbone=Stops(), views=75, checkpoint=path)
    resumed, again = fit(backbone=backbone, views=75, checkpoint=path)
    assert backbone.seen == 10 + 15
    assert again == losses
    assert same_state(resumed, whole)


def test_a_finished_fit_is_not_done_again_and_can_be_continued(tmp_path):
    path = str(tmp_path / "fit.pt")
    _, losses = fit(steps=9)
    first, _ = fit(checkpoint=path)
    again, none = fit(checkpoint=path)
    assert none == []
    assert same_state(first, again)
    assert fit(steps=9, checkpoint=path)[1] == losses[6:]


def test_a_checkpoint_is_written_every_hundred_steps_and_reported(tmp_path, caplog):
    path, sizes = tmp_path / "fit.pt", []
    with caplog.at_level(logging.INFO, "naf"):
        fit(
            upsampler=create(n_freqs=1, hidden=2, dim=1),
            steps=102,
            views=10,
            checkpoint=path,
            on_progress=lambda step, steps, loss: sizes.append(path.exists()),
        )
    assert sizes.index(True) == 100
    assert "step 100 of 102" in caplog.text


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    path = tmp_path / "fit.pt"
    fit(checkpoint=path)
    before = path.read_bytes()
    for change, what in (
        ({"image": photo(1)}, "image differs"),
        ({"seed": 1}, "seed differs"),
        ({"views": 25, "seed": 2}, "views, seed differ"),
        ({"size": 40}, "size differs"),
        ({"backbone": Hog(stride=4)}, "stride differs"),
        ({"upsampler": create(hidden=8)}, "hidden differs"),
        ({"backbone": Counting(sign=-1)}, "backbone differs"),
    ):
        with pytest.raises(naf.WeightsError, match=rf"fit\.pt is of another fit: .*{what}"):
            fit(checkpoint=path, **change)
    assert path.read_bytes() == before


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "fit.pt"
    path.write_bytes(b"\x80 no checkpoint")
    with pytest.raises(naf.WeightsError, match="cannot be read"):
        fit(checkpoint=path)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(naf.WeightsError, match="is no checkpoint of a featup-implicit fit"):
        fit(checkpoint=path)


def test_patience_stops_a_fit_whose_smoothed_loss_no_longer_falls():
    tiny = {"n_freqs": 1, "hidden": 2, "dim": 1}
    losses = fit(upsampler=create(**tiny), steps=40)[1]
    smooth = [losses[0]]
    for loss in losses[1:]:
        smooth.append(0.95 * smooth[-1] + 0.05 * loss)
    for patience in (1, 3):
        expected = next(
            n for n in range(patience + 1, 41) if min(smooth[n - patience : n]) >= min(smooth[: n - patience])
        )
        assert expected < 40
        assert fit(upsampler=create(**tiny), steps=40, patience=patience)[1] == losses[:expected]


def test_sides_become_whole_strides_and_keep_their_proportion():
    sizes = []

    class Sizes(Hog):
        def _features(self, image01):
            sizes.append(tuple(image01.shape[2:]))
            return super()._features(image01)

    fit(image=photo(height=30, width=61), backbone=Sizes(stride=8), size=20, views=3, steps=1)
    assert set(sizes) == {(16, 40)}


def test_the_backbone_sees_the_photo_without_normalization():
    image01 = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen = []

    class Sees(Hog):
        def _features(self, image01):
            seen.append(image01)
            return super()._features(image01)

    fit(image=naf.normalize(image01), backbone=Sees(stride=8), views=3, steps=1, seed=5)
    generator = torch.Generator().manual_seed(5)
    upsampler = create()
    upsampler.network.reset(generator)
    Objective(upsampler.dim, 8, generator)
    expected = see(image01[0], draw_views(3, generator))
    torch.testing.assert_close(torch.cat(seen), expected, rtol=1e-4, atol=1e-5)


def test_the_objective_is_that_of_the_paper():
    objective = Objective(4, 8, torch.Generator().manual_seed(0)).double()
    hr, targets = randn(16, 24, 4, dtype=torch.float64), randn(3, 2, 3, 4, seed=1, dtype=torch.float64)
    views = draw_views(3, torch.Generator().manual_seed(1))
    loss = objective(hr, targets, views)
    objective.downsampler.forward = lambda x, patches, generator: cells
    magnitude = hr.norm(dim=2, keepdim=True)
    cells = randn(3, 2, 3, 5, seed=2, dtype=torch.float64)
    scale = torch.exp(objective.outlier(targets) + 0.1)
    expected = ((cells[..., 1:] - targets) ** 2 / (2 * scale**2) + scale.log()).mean()
    expected += 0.001 * ((cells[..., 0] - targets.norm(dim=3)) ** 2).mean()
    steps = magnitude[1:] - magnitude[:-1], magnitude[:, 1:] - magnitude[:, :-1]
    expected += 0.05 * sum((step**2).sum() for step in steps) / (16 * 24)
    blurred = blur_by_definition(hr.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    expected += 0.1 * ((blurred - hr) ** 2).mean()
    torch.testing.assert_close(objective(hr, targets, views), expected)
    assert loss.isfinite()
    assert loss != expected


def test_bad_arguments_are_refused():
    for options, message in (
        ({"steps": 0}, "steps is 0, expected an integer of at least 1"),
        ({"views": 1.5}, "views is 1.5"),
        ({"patience": 0}, "patience is 0"),
        ({"size": 15}, "size is 15, expected an integer of at least 16"),
        ({"image": photo().expand(2, -1, -1, -1)}, "image has batch 2, expected 1"),
        ({"image": photo() * torch.nan}, "NaN"),
        ({"upsampler": create(channels=384)}, "backbone gives 16 channels, .* create it with channels=16"),
        ({"upsampler": create().half()}, "the parameters are torch.float16, expected float32 or float64"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(**options)
    with pytest.raises(TypeError, match="backbone is a str"):
        fit(backbone="hog")


@pytest.mark.parametrize(
    ("value", "message"), [(1e6, "beyond the range of float16"), (torch.nan, "NaN or infinite features")]
)
def test_features_that_cannot_be_kept_are_refused(value, message):
    class Wild(Hog):
        def _features(self, image01):
            return value * super()._features(image01)

    with pytest.raises(ValueError, match=message):
        fit(backbone=Wild(stride=8))


def test_configuration_is_checked():
    assert create(dim=64).dim == 16  # no more than channels
    for name in ("channels", "n_freqs", "dim", "hidden"):
        with pytest.raises(ValueError, match=f"{name} is 0, expected an integer of at least 1"):
            create(**{name: 0})
    assert json.dumps(CONFIG)
