"""Features and their cache."""

import pytest
import torch

from naf.backbones import create
from naf.evaluation.features import Features
from tests.evaluation.tiny_set import Counted, Linear, features
from tests.helpers import CHANNELS, randn


def image(seed=0, batch=1):
    return torch.sigmoid(randn(batch, 3, 16, 16, seed=seed))


def test_the_cache_changes_nothing_and_asks_the_backbone_once(tmp_path):
    plain, cached = features(), features(tmp_path)
    expected = plain.of(image(batch=3))
    for _ in range(3):
        assert cached.of(image(batch=3)).equal(expected)
    assert cached.backbone.images == 3
    plain.of(image(batch=3))
    assert plain.backbone.images == 6


def test_another_run_takes_what_is_on_disk(tmp_path):
    first, second = features(tmp_path), features(tmp_path)
    expected = first.of(image())
    first.flush()
    again = features(tmp_path)
    assert again.of(image()).equal(expected)
    assert again.backbone.images == 0
    assert second.of(image()).equal(expected)  # it was there before the shard: computes anew, finds the same


def test_a_batch_may_be_there_in_part(tmp_path):
    cached = features(tmp_path)
    batch = image(batch=3)
    cached.of(batch[1:2])
    assert cached.of(batch).equal(features().of(batch))
    assert cached.backbone.images == 3


def test_mirrored_images_are_features_of_their_own(tmp_path):
    cached = features(tmp_path)
    straight, flipped = cached.of(image()), cached.of(image().flip(-1))
    assert cached.backbone.images == 2
    assert flipped.equal(features().of(image().flip(-1)))
    assert not flipped.equal(straight.flip(-1))  # gradients to the right: the mirrored features are not the flipped
    assert cached.of(image()).equal(straight)


def test_other_backbones_have_folders_of_their_own(tmp_path):
    first, second = features(tmp_path), features(tmp_path, Linear())
    first.of(image())
    first.flush()
    assert second.of(image()).equal(features(backbone=Linear()).of(image()))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_the_cache_rounds_is_rounded_from_the_first_time_on(tmp_path, dtype):
    cached = Features(Counted(), tmp_path, dtype)
    exact = features().of(image())
    first = cached.of(image())
    assert first.dtype == torch.float32
    assert first.equal(exact.to(dtype).float())
    assert not first.equal(exact)
    assert cached.of(image()).equal(first)
    assert cached.dtype == dtype
    assert features().dtype == Features(Counted(), None, dtype).dtype == torch.float32


def test_standardized_features(tmp_path):
    cached = features(tmp_path)
    raw = cached.of(image())
    mean, deviation = randn(CHANNELS, 1, 1), 1 + randn(CHANNELS, 1, 1, seed=1).abs()
    cached.standardize(mean, deviation)
    torch.testing.assert_close(cached.of(image()), (raw - mean) / deviation)
    cached.flush()
    assert features(tmp_path).of(image()).equal(raw)  # the cache holds them as they were


def test_the_backbone_is_frozen():
    one = Features(create("embedded").requires_grad_(True).train())
    assert not one.backbone.training
    assert not any(parameter.requires_grad for parameter in one.backbone.parameters())
    assert not one.of(torch.rand(1, 3, 32, 32)).requires_grad
