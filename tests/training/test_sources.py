"""Feature sources: input, target and guidance of a step."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import naf
from naf.backbones import Backbone
from naf.backbones.fingerprint import fingerprint_of
from naf.data.feature_cache import FeatureCache
from naf.training.photos import Batch, PhotoFolder, collate
from naf.training.plan import Geometry, Stage, StepPlan
from naf.training.sampler import Ticket, make_plan
from naf.training.sources import BackboneSource, PixelSource, SegmentSource
from naf.training.sources.area import cell_means
from tests.helpers import Tiny

DATA = Path("../shared/data").resolve()
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")


def make_batch(size=64, reduced=32, guidance=40, count=3, seed=0, segments=None):
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        StepPlan(seed, 0, "photos", size, reduced, guidance, count, seed),
        torch.rand(count, 3, size, size, generator=generator),
        segments,
        [f"photo {index} of {seed}" for index in range(count)],
        0,
    )


def part(batch, images):
    """What another process, or another batch, has of a batch's images."""
    segments = None if batch.segments is None else batch.segments[images]
    return Batch(batch.plan, batch.image01[images], segments, batch.keys[images], range(len(batch.keys))[images].start)


class Learned(Backbone):
    """A convolution with batch norm, which must stay as it is."""

    name, stride, channels = "learned", 8, 6

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Conv2d(3, 6, 8, 8), nn.BatchNorm2d(6))
        self.runs = 0

    def _features(self, image01):
        self.runs += len(image01)
        return self.net(image01)


def regions(count=3, size=64):
    """Label maps of blocks of 16 pixels with ids of their own."""
    ids = torch.arange((size // 16) ** 2).view(size // 16, -1).repeat_interleave(16, 0).repeat_interleave(16, 1)
    return torch.stack([ids * (index + 1) for index in range(count)])


def test_a_backbones_example_is_made_as_in_the_official_code():
    source, batch = BackboneSource(Tiny()), make_batch()
    example = source.example(batch)
    normalized = naf.normalize(batch.image01)
    reduced = F.interpolate(normalized, size=(32, 32), mode="bilinear", align_corners=False)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    backbone = Tiny()
    torch.testing.assert_close(example.target, backbone(batch.image01), rtol=0, atol=0)
    torch.testing.assert_close(example.features, backbone((reduced * std + mean).clamp(0, 1)), rtol=0, atol=1e-5)
    guidance = F.interpolate(normalized, size=(40, 40), mode="bilinear", align_corners=False)
    torch.testing.assert_close(example.guidance, guidance, rtol=0, atol=1e-5)
    assert (example.stride, example.step, example.segments) == (4, 0, None)
    assert torch.equal(example.extract(batch.image01), example.target)


def test_a_source_is_frozen_and_gives_no_gradients():
    source = BackboneSource(Learned()).train()
    before = {name: value.clone() for name, value in source.backbone.state_dict().items()}
    example = source.example(make_batch())
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    assert not any(x.requires_grad for x in (example.features, example.target, example.extract(image)))
    assert not any(parameter.requires_grad for parameter in source.parameters())
    assert all(torch.equal(value, before[name]) for name, value in source.backbone.state_dict().items())


def test_backbones_that_do_not_give_whole_cells_are_refused():
    with pytest.raises(ValueError, match=r"grid of \(4, 4\) for \(32, 32\) pixels, expected \(8, 8\) at stride 4"):
        BackboneSource(Tiny(max_side=16)).example(make_batch())


def test_calibrated_channels_have_mean_0_and_deviation_1():
    images = make_batch(count=5).image01
    source = BackboneSource(Tiny(), normalize_channels=True)
    with pytest.raises(ValueError, match="call calibrate first"):
        source.example(make_batch())
    source.calibrate(images)
    cells = source.extract(images).transpose(0, 1).flatten(1)
    torch.testing.assert_close(cells.mean(dim=1), torch.zeros(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(cells.std(dim=1, correction=0), torch.ones(8), rtol=0, atol=1e-5)
    other = BackboneSource(Tiny(), normalize_channels=True)
    other.calibrate(iter([images[:2], images[2], images[3:]]))
    torch.testing.assert_close(other.std, source.std)
    example = source.example(make_batch())
    torch.testing.assert_close(example.target * source.std + source.mean, Tiny()(make_batch().image01))


def test_a_channel_that_never_changes_is_only_shifted():
    source = BackboneSource(Tiny(), normalize_channels=True)
    source.calibrate(torch.full((2, 3, 8, 8), 0.5))
    assert torch.equal(source.std, torch.ones(8, 1, 1))
    with pytest.raises(ValueError, match="images is empty"):
        source.calibrate([])
    with pytest.raises(ValueError, match="normalize_channels is False"):
        BackboneSource(Tiny()).calibrate(torch.rand(1, 3, 8, 8))


def test_the_state_holds_the_calibration_and_not_the_backbone():
    sources = nn.ModuleDict({"a": BackboneSource(Learned(), normalize_channels=True), "b": PixelSource()})
    sources["a"].calibrate(make_batch().image01)
    state = sources.state_dict()
    assert set(state) == {"a.mean", "a.std", "a.is_calibrated"}
    fresh = nn.ModuleDict({"a": BackboneSource(Learned(), normalize_channels=True), "b": PixelSource()})
    fresh.load_state_dict(state)
    batch = make_batch(seed=1)
    assert torch.equal(fresh["a"].example(batch).features, sources["a"].example(batch).features)
    with pytest.raises(RuntimeError, match=r"Missing key.*a\.mean"):
        fresh.load_state_dict({})


def test_the_cache_saves_the_backbone_and_changes_no_value(tmp_path):
    backbone = Learned()
    source, fingerprint = BackboneSource(backbone), fingerprint_of(backbone)
    cache, batch = FeatureCache(tmp_path, fingerprint), make_batch()
    first = source.example(batch, cache)
    assert backbone.runs == 6  # three images, full and reduced
    cache.flush()
    again = source.example(batch, FeatureCache(tmp_path, fingerprint))
    assert backbone.runs == 6
    plain = source.example(batch)
    for name in ("features", "target"):
        computed = getattr(first, name)
        assert computed.dtype == torch.float32
        assert torch.equal(getattr(again, name), computed)
        torch.testing.assert_close(computed, getattr(plain, name), rtol=1e-3, atol=1e-4)
    assert torch.equal(again.guidance, first.guidance)


def test_cached_values_do_not_depend_on_what_was_cached_before(tmp_path):
    backbone, batch = Learned(), make_batch()
    source = BackboneSource(backbone)
    alone = source.example(batch, FeatureCache(tmp_path / "a", "f"))
    cache = FeatureCache(tmp_path / "b", "f")
    source.example(part(batch, slice(1, 2)), cache)
    backbone.runs = 0
    assert torch.equal(source.example(batch, cache).target, alone.target)
    assert backbone.runs == 4  # the other two


def test_views_that_do_not_come_again_are_not_cached(tmp_path):
    cache, batch = FeatureCache(tmp_path, "f"), make_batch()
    source = BackboneSource(Learned())
    example = source.example(Batch(batch.plan, batch.image01, None, None, 0), cache)
    assert torch.equal(example.target, source.extract(batch.image01))
    assert len(cache) == 0


def test_cells_average_the_pixels_that_they_cover():
    values = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cell_means(values, 4), F.avg_pool2d(values, 3))
    fine = values.repeat_interleave(5, 2).repeat_interleave(5, 3)  # 60 pixels a side, in 5 cells of 12
    torch.testing.assert_close(cell_means(values, 5), F.avg_pool2d(fine, 12))


def test_blurred_cells_keep_constants_and_lose_contrast():
    constant = torch.full((1, 2, 16, 16), 3.0)
    torch.testing.assert_close(cell_means(constant, 8, blur=1.5), constant[:, :, :8, :8])
    values = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    spread = [cell_means(values, 32, blur).var().item() for blur in (0.0, 0.5, 1.0, 2.0)]
    assert spread == sorted(spread, reverse=True)
    # White noise under a Gaussian of many cells: 1 / (4 pi sigma^2) of its variance (the border adds to it).
    assert spread[3] / spread[0] == pytest.approx(1 / (16 * torch.pi), rel=0.4)


def test_a_pixel_source_averages_colours():
    batch = make_batch(size=64, reduced=24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        example = PixelSource(stride=8).example(batch)
    assert (example.features.dtype, example.target.dtype) == (torch.float32, torch.float32)
    assert example.features.shape == (3, 12, 3, 3)
    assert torch.equal(example.target, F.avg_pool2d(naf.normalize(batch.image01), 8).repeat(1, 4, 1, 1))
    torch.testing.assert_close(example.features.mean(dim=(2, 3)), example.target.mean(dim=(2, 3)), rtol=0, atol=1e-5)
    assert torch.equal(example.extract(batch.image01), example.target)
    for head in example.target.chunk(4, dim=1):
        assert torch.equal(head, example.target[:, :3])


def test_segments_have_one_code_each_and_cells_their_mean():
    source = SegmentSource(stride=4, channels=16)
    example = source.example(make_batch(reduced=12, segments=regions()))
    assert (example.features.shape, example.target.shape) == ((3, 16, 3, 3), (3, 16, 16, 16))
    blocks = F.avg_pool2d(example.target, 4)  # a block of one id is 4 cells wide
    torch.testing.assert_close(blocks.repeat_interleave(4, 2).repeat_interleave(4, 3), example.target)
    codes = blocks.transpose(0, 1).flatten(1).T
    assert torch.pdist(codes).min() > 1  # all ids of all images
    torch.testing.assert_close(example.features.mean(dim=(2, 3)), example.target.mean(dim=(2, 3)), rtol=0, atol=1e-5)
    assert example.extract is None
    assert torch.equal(example.segments, regions())


def test_codes_are_drawn_for_the_step_and_the_image_alone():
    source = SegmentSource(stride=4, blur=(0.0, 2.0))
    batch = make_batch(segments=regions())
    whole = source.example(batch)
    for images in (slice(0, 1), slice(1, 3)):
        some = source.example(part(batch, images))
        assert torch.equal(some.target, whole.target[images])
        assert torch.equal(some.features, whole.features[images])
    other = source.example(make_batch(seed=1, segments=regions()))
    assert (other.target - whole.target).abs().mean() > 0.5


def test_codes_grow_with_scale_and_for_small_segments():
    segments = torch.zeros(3, 64, 64, dtype=torch.int64)
    segments[:, :8, :8] = 1  # 1/64 of the image
    plain, scaled, balanced = (
        SegmentSource(stride=4, channels=16, **options).example(make_batch(segments=segments)).target
        for options in ({}, {"scale": 3.0}, {"balance": 0.5})
    )
    torch.testing.assert_close(scaled, 3 * plain)
    torch.testing.assert_close(balanced[:, :, 0, 0], 8 * plain[:, :, 0, 0])
    torch.testing.assert_close(balanced[:, :, 8, 8], plain[:, :, 8, 8] * (63 / 64) ** -0.5)


def test_noise_is_in_the_input_alone_and_of_the_image_alone():
    segments = torch.zeros(3, 64, 64, dtype=torch.int64)
    batch = make_batch(segments=segments)
    clean = SegmentSource(stride=4, scale=2.0).example(batch)
    noisy = SegmentSource(stride=4, scale=2.0, noise=(0.5, 0.5)).example(batch)
    assert torch.equal(noisy.target, clean.target)
    assert (noisy.features - clean.features).std().item() == pytest.approx(1.0, rel=0.1)
    alone = SegmentSource(stride=4, scale=2.0, noise=(0.5, 0.5)).example(part(batch, slice(1, 3)))
    torch.testing.assert_close(alone.features, noisy.features[1:])


def test_pixels_without_a_label_have_code_0():
    segments = regions()
    segments[:, :16] = 255
    example = SegmentSource(stride=4, ignore=255).example(make_batch(reduced=16, segments=segments))
    assert not example.target[:, :, :4].any()
    assert not example.features[:, :, :1].any()
    assert (example.target[:, :, 4:].abs().amax(dim=1) > 0).all()


def test_what_a_segment_source_cannot_use_is_refused(tmp_path):
    with pytest.raises(ValueError, match="source 'photos' needs label maps"):
        SegmentSource().example(make_batch())
    with pytest.raises(ValueError, match=r"blur is \(2, 1\)"):
        SegmentSource(blur=(2, 1))
    with pytest.raises(ValueError, match=r"noise is \(-1, 1\)"):
        SegmentSource(noise=(-1, 1))
    with pytest.raises(ValueError, match="scale is 0"):
        SegmentSource(scale=0)
    with pytest.raises(ValueError, match="balance is 2"):
        SegmentSource(balance=2)
    for options in ({"stride": 0}, {"channels": 0}):
        with pytest.raises(ValueError, match="is 0, expected at least 1"):
            SegmentSource(**options)


@pytest.mark.parametrize("source", [BackboneSource(Tiny()), PixelSource(8), SegmentSource(4, blur=(0.0, 1.0))])
def test_an_example_is_a_function_of_its_batch(source):
    batch = make_batch(segments=regions())
    one, two = source.example(batch), source.example(batch)
    for name in ("features", "target", "guidance"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    draws = [torch.rand(3, generator=example.generator) for example in (one, two)]
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], torch.rand(3, generator=batch.plan.generator(0)))


@real_data
def test_segments_of_real_photos():
    folder = PhotoFolder(
        DATA / "BSDS500/data/images/train",
        crop="random",
        segments="{root}/../../groundTruth_png/train/{stem}_*.png",
    )
    geometry = Geometry((128, 128), (0.125, 0.25))
    source = SegmentSource(photos=folder, geometry=geometry, weight=0.5)
    plan = make_plan(0, [Stage(1, Geometry(), batch_size=2)], {"bsds": source}, seed=3)
    batch = collate([(ticket, folder.load(index, plan, index)) for index, ticket in enumerate(_tickets(plan))])
    example = source.example(batch)
    assert example.target.shape == (2, 32, 64, 64)
    cells = plan.reduced_size // 2
    assert 8 <= cells <= 16
    assert example.features.shape == (2, 32, cells, cells)
    assert example.guidance.shape == (2, 3, 128, 128)
    # Inside of segments neighbouring target cells are equal; most pixels of a photo are inside.
    still = (example.target.diff(dim=3).abs().amax(dim=1) < 1e-5).float().mean()
    assert 0.6 < still < 1
    with pytest.raises(ValueError, match="photos have no label maps"):
        SegmentSource(photos=PhotoFolder(DATA / "photos"))


def _tickets(plan):
    return [Ticket(plan, index, index) for index in range(plan.batch_size)]
