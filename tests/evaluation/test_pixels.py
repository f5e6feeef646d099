"""Training on pixels that are upsampled once."""

import numpy as np
import pytest
import torch

from naf.data import feature_cache
from naf.evaluation.features import Features
from naf.evaluation.head import make_head
from naf.evaluation.images import batches
from naf.evaluation.pixels import Pixels, fit_pixels, gather, score_many
from naf.evaluation.probe import fit, score
from naf.evaluation.segmentation import SegmentationTask
from naf.evaluation.subset import Subset
from naf.normalization import normalize
from tests.evaluation.tiny_set import SIDE, Counted, Linear, Memory, features, memory_task, protocol
from tests.helpers import CHANNELS, Tiny, relative_error, small


def full_task(count=5):
    """Every pixel of every image has a label, so that each image weighs the same."""
    whole = memory_task(train=count).train.whole
    labels = [np.where(label == 255, 0, label).astype(np.uint8) for label in whole.labels]
    subset = Subset(Memory(whole.images, labels, 4))
    return SegmentationTask(subset, subset)


def sampled(**changes):
    return protocol(**{"flip": 0.0, "pixels": 16, **changes})


def drawn(folder, task, settings, seeds=(0,), upsampler="naf", backbones=None):
    pixels = Pixels(folder, "fingerprint", seeds, settings)
    backbones = backbones or {"tiny": features()}
    gather(task, backbones, dict.fromkeys(backbones, small(upsampler)), settings, pixels)
    return pixels


class Counting(torch.nn.Module):
    """An upsampler that counts how often it is made to look at an image."""

    def __init__(self, name="naf"):
        super().__init__()
        self.inner, self.calls, self.feature_channels = small(name), 0, None

    def encode(self, *given):
        self.calls += 1
        return self.inner.encode(*given)


@pytest.mark.parametrize("name", ["naf", "guided", "bilinear"])
def test_all_pixels_drawn_once_teach_what_all_pixels_teach(tmp_path, monkeypatch, name):
    task, settings = full_task(), sampled(pixels=SIDE * SIDE, epochs=3)
    monkeypatch.setattr(Pixels, "draw", lambda self, labelled, index: labelled.flatten().nonzero()[:, 0].flip(0))
    pixels = drawn(tmp_path, task, settings, upsampler=name)
    found = fit_pixels(task, *pixels.of("tiny", len(task.train), 0), settings, 4)
    expected = fit(task, features(), small(name), protocol(flip=0.0, epochs=3), 4)
    assert relative_error(found.weight, expected.weight) < 1e-4
    assert relative_error(found.bias, expected.bias) < 1e-4


def test_only_labelled_pixels_are_drawn_by_the_seed():
    pixels = Pixels.__new__(Pixels)
    pixels.seeds, pixels.number = (0, 1), 200
    labelled = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    labelled[3:5, 7:20] = True
    found = pixels.draw(labelled, 0)
    assert found.shape == (400,)
    assert labelled.flatten()[found].all()
    assert len(found.unique()) == 26
    assert found.equal(pixels.draw(labelled, 0))
    assert not found.equal(pixels.draw(labelled, 1))
    assert not found[:200].equal(found[200:])
    pixels.seeds = (1,)
    assert pixels.draw(labelled, 0).equal(found[200:])  # the other seeds of the command do not matter


def test_values_and_targets_are_those_of_the_whole_map(tmp_path):
    task, settings = memory_task(), sampled(pixels=8)
    pixels = drawn(tmp_path, task, settings, seeds=(3, 5))
    values, targets = (torch.stack(pair, 1) for pair in zip(*(pixels.of("tiny", 5, s) for s in (3, 5)), strict=True))
    assert values.shape == (5, 2, 8, CHANNELS)
    assert targets.shape == (5, 2, 8)
    for index in range(5):
        (example,) = batches(task, task.train, settings, [[index]])
        dense = small("naf")(normalize(example.image01), Tiny()(example.image01), (SIDE, SIDE))[0].flatten(1)
        chosen = pixels.draw(example.targets[0] != 255, index).view(2, 8)
        torch.testing.assert_close(values[index], dense[:, chosen].permute(1, 2, 0), rtol=1e-4, atol=1e-5)
        assert targets[index].equal(example.targets[0].flatten()[chosen])


def test_images_without_a_label_are_left_out(tmp_path):
    task = memory_task(train=3)
    task.train.whole.labels[1][:] = 255
    values, targets = drawn(tmp_path, task, sampled(), seeds=(0, 1)).of("tiny", 3, 1)
    assert values.shape == (2, 16, CHANNELS)
    assert targets.max() < 4


def test_no_label_at_all_is_an_error(tmp_path):
    task = memory_task(train=2)
    for label in task.train.whole.labels:
        label[:] = 255
    pixels = drawn(tmp_path, task, sampled())
    with pytest.raises(ValueError, match="no training image has a labelled pixel"):
        pixels.of("tiny", 2, 0)


def test_a_stopped_gathering_goes_on_with_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_SHARD_BYTES", 1)
    task, settings = memory_task(), sampled()
    expected = drawn(tmp_path / "whole", task, settings).of("tiny", 5, 0)

    def stop():
        told.append(1)
        if len(told) == 3:
            raise KeyboardInterrupt

    told, upsamplers = [], {"tiny": small("naf")}
    pixels = Pixels(tmp_path / "stopped", "fingerprint", (0,), settings)
    with pytest.raises(KeyboardInterrupt):
        gather(task, {"tiny": features()}, upsamplers, settings, pixels, on_step=stop)
    told, seen = [], Counted()
    pixels = Pixels(tmp_path / "stopped", "fingerprint", (0,), settings)
    gather(task, {"tiny": Features(seen)}, upsamplers, settings, pixels, on_step=lambda: told.append(1))
    assert seen.images == 2
    assert len(told) == 5
    for found, one in zip(pixels.of("tiny", 5, 0), expected, strict=True):
        assert found.equal(one)


@pytest.mark.parametrize("part", ["tiny", "targets"])
def test_an_image_of_which_a_part_is_lost_is_done_anew_or_an_error(tmp_path, monkeypatch, part):
    monkeypatch.setattr(feature_cache, "_SHARD_BYTES", 1)  # a file for each tensor
    task, settings = memory_task(train=3), sampled()
    pixels = drawn(tmp_path, task, settings)
    expected = pixels.of("tiny", 3, 0)
    (tmp_path / pixels._cache._shard_of[f"{part}/1"]).unlink()
    found, seen = Pixels(tmp_path, "fingerprint", (0,), settings), Counted()
    with pytest.raises(ValueError, match="pixels of image 1 are lost"):
        found.of("tiny", 3, 0)
    gather(task, {"tiny": Features(seen)}, {"tiny": small("naf")}, settings, found)
    assert seen.images == 1
    for one, other in zip(found.of("tiny", 3, 0), expected, strict=True):
        assert one.equal(other)


def test_backbones_that_share_a_network_share_its_work(tmp_path):
    task, settings, network = memory_task(), sampled(), Counting()
    backbones = {"tiny": features(), "linear": features(backbone=Linear())}
    gather(task, backbones, dict.fromkeys(backbones, network), settings, Pixels(tmp_path, "x", (0,), settings))
    assert network.calls == len(task.train)


def test_networks_of_each_backbone_are_not_mixed_up(tmp_path):
    task, settings = memory_task(), sampled()
    backbones = {"a": features(), "b": features()}
    upsamplers = {"a": small("naf"), "b": small("bilinear")}
    pixels = Pixels(tmp_path / "both", "x", (0,), settings)
    gather(task, backbones, upsamplers, settings, pixels)
    for label, name in (("a", "naf"), ("b", "bilinear")):
        alone = drawn(tmp_path / name, task, settings, upsampler=name).of("tiny", 5, 0)[0]
        assert pixels.of(label, 5, 0)[0].equal(alone)


def test_many_layers_are_scored_as_each_alone():
    task, settings = memory_task(), sampled()
    backbones = {"tiny": features(), "linear": features(backbone=Linear())}
    upsamplers = dict.fromkeys(backbones, small("naf"))
    heads = {label: [make_head(CHANNELS, 4, seed).requires_grad_(False) for seed in (0, 1)] for label in backbones}
    steps = []
    found = score_many(task, backbones, upsamplers, settings, heads, on_step=lambda: steps.append(1))
    assert len(steps) == len(task.val)
    for label in backbones:
        alone = score(task, backbones[label], small("naf"), settings, heads[label])
        counts = [[one.matrix.counts for one in scores] for scores in (found[label], alone)]
        pixels = counts[0][0].sum()
        for together, each in zip(*counts, strict=True):
            assert (together - each).abs().sum() <= 0.002 * pixels  # but for ties that rounding breaks
        assert not counts[0][0].equal(counts[0][1])


def test_the_seed_decides_first_values_and_order(tmp_path):
    task, settings = memory_task(), sampled()
    values, targets = drawn(tmp_path, task, settings).of("tiny", 5, 0)
    one, again, other = (fit_pixels(task, values, targets, settings, seed) for seed in (1, 1, 2))
    assert one.weight.equal(again.weight)
    assert not one.weight.equal(other.weight)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path):
    task, settings = memory_task(), sampled()
    values, targets = drawn(tmp_path, task, settings).of("tiny", 5, 0)
    with pytest.raises(ValueError, match="the loss is nan at step 0, expected a finite number"):
        fit_pixels(task, values * float("nan"), targets, settings, 0)
