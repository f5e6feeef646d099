"""Images and targets at the sizes of a protocol."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from naf.data.labelled import LabelError
from naf.evaluation.images import batches, mirrored, training_order
from naf.evaluation.segmentation import SegmentationTask
from naf.evaluation.subset import Subset
from tests.evaluation.tiny_set import Memory, memory_task, protocol


def halves(size=(60, 40)):
    """Images whose left third is red and of class 1; the rest is black and of class 0."""
    width, height = size
    label = np.zeros((height, width), np.uint8)
    label[:, : width // 3] = 1
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 255 * label
    subset = Subset(Memory([Image.fromarray(image)], [label], 2))
    return SegmentationTask(subset, subset)


class Damaged(Memory):
    """One of the label maps is."""

    def read_label(self, index):
        if index == 1:
            raise LabelError("1.png: damaged")
        return super().read_label(index)


def only(task, settings, index=0):
    (example,) = batches(task, task.train, settings, [[index]])
    return example


@pytest.mark.parametrize("geometry", ["square", "crop"])
@pytest.mark.parametrize("image_size", [24, 48, 96])
def test_images_of_any_size_lie_on_their_labels(image_size, geometry):
    example = only(halves(), protocol(image_size=image_size, target_size=48, geometry=geometry))
    assert example.image01.shape == (1, 3, image_size, image_size)
    assert example.targets.shape == (1, 48, 48)
    assert example.guidance01 is example.image01 or example.guidance01.equal(example.image01)
    red = torch.nn.functional.interpolate(example.image01[:, :1], size=(48, 48), mode="nearest-exact")[:, 0] > 0.5
    differ = (red != (example.targets == 1)).nonzero()[:, 2]
    edge = 16 if geometry == "square" else 8  # of the middle 40 of 60 columns, a third of 60 minus 10
    assert (example.targets == 1)[0, 0].sum() == edge * (1 if geometry == "square" else 12 / 8)
    assert differ.numel() == 0 or differ.max() - differ.min() <= 2  # at the edge alone, where pixels are mixed


def test_the_guidance_may_have_a_size_of_its_own():
    task = memory_task()
    example = only(task, protocol(image_size=16, guidance_size=32))
    assert example.image01.shape[2:] == (16, 16)
    assert example.guidance01.equal(only(task, protocol(image_size=32)).image01)
    same = only(task, protocol(image_size=16, guidance_size=16))
    assert same.guidance01.equal(same.image01)


def test_crop_keeps_the_shape_of_things_and_square_does_not():
    task = halves((80, 40))
    crop, square = (only(task, protocol(geometry=name)).targets.float().mean() for name in ("crop", "square"))
    assert crop < square - 0.1  # half of the third is cut away


def test_batches_come_in_order_with_any_number_of_workers():
    task = memory_task(train=5)
    order = [[3, 1], [0, 4], [2]]
    for workers in (0, 2):
        found = list(batches(task, task.train, protocol(), order, workers))
        assert [example.indices for example in found] == order
        for example in found:
            for at, index in enumerate(example.indices):
                assert example.image01[at].equal(only(task, protocol(), index).image01[0])
                assert example.targets[at].equal(only(task, protocol(), index).targets[0])
    assert list(batches(task, task.train, protocol(), [])) == []


def test_mirroring_turns_image_guidance_and_labels():
    example = only(memory_task(), protocol(guidance_size=16))
    turned = example.mirrored()
    assert turned.indices == example.indices
    for before, after in zip(example[1:], turned[1:], strict=True):
        assert after.equal(before.flip(-1))
        assert not after.equal(before)


def test_an_epoch_has_every_image_once_and_the_last_batch_is_kept():
    order = training_order(7, 2, seed=1, epoch=0)
    assert [len(part) for part in order] == [2, 2, 2, 1]
    assert sorted(index for part in order for index in part) == list(range(7))
    assert order == training_order(7, 2, seed=1, epoch=0)
    others = [training_order(7, 2, seed, epoch) for seed, epoch in ((1, 1), (2, 0), (2, 1))]
    assert all(other != order for other in others)


def test_batches_are_mirrored_with_a_probability():
    drawn = Counter(flag for epoch in range(100) for flag in mirrored(20, 0.5, seed=0, epoch=epoch))
    assert 900 < drawn[True] < 1100
    assert mirrored(20, 0.5, 0, 3) == mirrored(20, 0.5, 0, 3) != mirrored(20, 0.5, 1, 3)
    assert not any(mirrored(50, 0.0, 0, 0))
    assert all(mirrored(50, 1.0, 0, 0))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_wrong_with_a_file_is_said_in_its_own_words(workers):
    whole = memory_task().train.whole
    task = SegmentationTask(*[Subset(Damaged(whole.images, whole.labels, 4))] * 2)
    with pytest.raises(LabelError) as caught:
        list(batches(task, task.train, protocol(), [[0], [2, 1]], workers))
    assert str(caught.value) == "1.png: damaged"  # without the traceback of a worker


def test_processes_that_read_change_nothing():
    task, order = memory_task(), [[3, 1], [4, 0], [2]]
    alone, together = (list(batches(task, task.train, protocol(), order, workers)) for workers in (0, 2))
    assert [example.indices for example in together] == order
    for one, other in zip(alone, together, strict=True):
        assert all(a.equal(b) for a, b in zip(one[1:], other[1:], strict=True))
