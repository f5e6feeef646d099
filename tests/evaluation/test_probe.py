"""Training and scoring a linear layer on upsampled features."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from naf.data.labelled import resize_image, resize_label
from naf.evaluation import probe
from naf.evaluation.features import Features
from naf.evaluation.head import encode, make_head, predict
from naf.evaluation.images import batches, mirrored, training_order
from naf.evaluation.probe import fit, score
from naf.evaluation.segmentation import SegmentationTask
from naf.evaluation.subset import Subset
from naf.normalization import normalize
from naf.registry import entry
from tests.evaluation.tiny_set import SIDE, Counted, Memory, features, memory_task, protocol
from tests.helpers import CHANNELS, NAMES, Tiny, randn, relative_error, small

LINEAR = [name for name in NAMES if not entry(name).needs_backbone and small(name).is_linear]


def same(first, second):
    return first.weight.equal(second.weight) and first.bias.equal(second.bias)


def trained(upsampler="nearest", seed=0, task=None, settings=None, **more):
    return fit(task or memory_task(), features(), small(upsampler), settings or protocol(), seed, **more)


def test_the_linear_methods_are_there():
    assert {"nearest", "bilinear", "bicubic", "naf", "jbf", "jbu", "guided"} <= set(LINEAR)


def test_the_loss_is_the_mean_over_the_labelled_pixels_of_the_batch():
    logits, targets = randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4), generator=torch.Generator().manual_seed(0))
    targets[0, :, :3] = 255  # 4 pixels of the first image count, 16 of the second
    chosen = torch.cat([logits.permute(0, 2, 3, 1)[targets != 255]])
    expected = F.cross_entropy(chosen, targets[targets != 255])
    loss = memory_task().loss(logits, targets, 0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    by_image = [F.cross_entropy(logits[k][None], targets[k][None], ignore_index=255) for k in range(2)]
    assert abs(loss - sum(by_image) / 2) > 0.01


def test_a_batch_without_labels_teaches_nothing():
    logits = randn(1, 3, 4, 4).requires_grad_()
    loss = memory_task().loss(logits, torch.full((1, 4, 4), 255), 0)
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def classical(task, upsampler, settings, seed):
    """The official pipeline, written out: upsample, 1x1 layer, AdamW, cosine over all iterations."""
    head, backbone = make_head(CHANNELS, task.outputs, seed), Tiny()
    optimizer = torch.optim.AdamW(
        head.parameters(), lr=settings.lr, betas=(0.9, 0.999), weight_decay=settings.weight_decay
    )
    total = settings.epochs * math.ceil(len(task.train) / settings.batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    for epoch in range(settings.epochs):
        order = training_order(len(task.train), settings.batch_size, seed, epoch)
        for chosen, flip in zip(order, mirrored(len(order), settings.flip, seed, epoch), strict=True):
            images = torch.stack([resize_image(task.train.read_image(i), SIDE, "square") for i in chosen])
            labels = torch.stack([resize_label(task.train.whole.read_label(i), SIDE, "square") for i in chosen])
            if flip:
                images, labels = images.flip(-1), labels.flip(-1)
            with torch.no_grad():
                dense = upsampler(normalize(images), backbone(images), (SIDE, SIDE))
            pixels, valid = head(dense).permute(0, 2, 3, 1), labels != 255
            optimizer.zero_grad()
            F.cross_entropy(pixels[valid], labels[valid]).backward()
            optimizer.step()
            scheduler.step()
    return head


@pytest.mark.parametrize("batch_size", [2, 3])
def test_the_training_is_the_official_one(batch_size):
    task, settings = memory_task(train=5), protocol(batch_size=batch_size, epochs=3)
    found, expected = trained("naf", 1, task, settings), classical(task, small("naf"), settings, 1)
    assert relative_error(found.weight, expected.weight) < 1e-5
    assert relative_error(found.bias, expected.bias) < 1e-5
    assert relative_error(found.weight, make_head(CHANNELS, task.outputs, 1).weight) > 0.01


@pytest.mark.parametrize("way", ["full", "filter"])
@pytest.mark.parametrize("name", [*LINEAR, "featup"])
def test_the_layer_learns_the_same_before_and_behind_the_upsampling(name, way):
    task, settings = memory_task(train=4), protocol(upsample=way)
    linear, dense = (trained(name, 0, task, settings, is_dense=is_dense) for is_dense in (False, True))
    assert relative_error(linear.weight, dense.weight) < 1e-4
    assert relative_error(linear.bias, dense.bias) < 1e-4
    assert relative_error(linear.weight, make_head(CHANNELS, task.outputs, 0).weight) > 0.01


def test_a_known_linear_map_of_nearest_features_is_found_in_200_steps():
    images = [Image.fromarray((255 * torch.sigmoid(2 * randn(8, 8, 3, seed=seed))).byte().numpy()) for seed in range(8)]
    images = [image.resize((SIDE, SIDE), Image.Resampling.NEAREST) for image in images]
    maps = torch.cat([Tiny()(resize_image(image, SIDE, "square")[None]) for image in images])
    mean, deviation = maps.mean((0, 2, 3))[:, None, None], maps.std((0, 2, 3))[:, None, None]
    scores = torch.einsum("kc,bchw->bkhw", randn(4, CHANNELS, seed=9), (maps - mean) / deviation)
    best = scores.topk(2, dim=1).values
    classes = scores.argmax(1)
    classes[best[:, 0] - best[:, 1] < 0.3] = 255  # no layer can tell where two classes are as likely
    labels = [np.kron(one.numpy(), np.ones((4, 4))).astype(np.uint8) for one in classes]
    task = SegmentationTask(Subset(Memory(images, labels, 4)), Subset(Memory(images, labels, 4)))
    assert len({int(value) for one in labels for value in np.unique(one)} - {255}) == 4

    seen = features()
    seen.standardize(mean, deviation)
    settings, steps = protocol(epochs=50, flip=0.0, lr=0.1), []
    head = fit(task, seen, small("nearest"), settings, 0, on_step=lambda: steps.append(1))
    assert len(steps) == 200
    (found,) = score(task, seen, small("nearest"), settings, [head])
    assert found.metrics()["accuracy"] > 99
    assert found.metrics()["miou"] > 95


class StoppedError(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("at", [1, 3, 4, 6])  # epochs have three steps
@pytest.mark.parametrize("is_dense", [False, True])
def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(tmp_path, monkeypatch, at, is_dense):
    task, settings, path = memory_task(), protocol(epochs=3), tmp_path / "a/run.ckpt"
    whole = trained("naf", 3, task, settings, is_dense=is_dense)
    monkeypatch.setattr(probe, "_SAVED_EVERY", -1.0)
    steps = []

    def stop():
        steps.append(1)
        if len(steps) == at + 1:
            raise StoppedError

    with pytest.raises(StoppedError):  # the checkpoint holds `at` steps: the last one was not written
        trained("naf", 3, task, settings, checkpoint=path, is_dense=is_dense, on_step=stop)
    seen, told = Counted(), []
    again = fit(
        task,
        Features(seen),
        small("naf"),
        settings,
        3,
        checkpoint=path,
        is_dense=is_dense,
        on_step=lambda: told.append(1),
    )
    assert same(again, whole)
    assert len(told) == 9
    sizes = [len(part) for epoch in range(3) for part in training_order(5, 2, 3, epoch)]
    assert seen.images == sum(sizes[at:])


def test_a_finished_checkpoint_needs_no_step(tmp_path):
    path = tmp_path / "run.ckpt"
    first, seen = trained(checkpoint=path), Counted()
    assert same(first, fit(memory_task(), Features(seen), small("nearest"), protocol(), 0, checkpoint=path))
    assert seen.images == 0


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "run.ckpt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"run\.ckpt is damaged, or of another run: remove it to begin anew$"):
        trained(checkpoint=path)


def test_the_seed_decides_the_run():
    torch.manual_seed(4)
    first = trained(seed=1)
    torch.manual_seed(5)  # the global generator does not matter
    assert same(first, trained(seed=1))
    assert not same(trained(seed=1), trained(seed=2))


def test_the_released_code_has_one_order_for_all_seeds(monkeypatch):
    def orders(**changes):
        found = []
        for seed in (0, 1):
            seen = []
            monkeypatch.setattr(
                probe, "batches", lambda *given, seen=seen: seen.extend(given[3]) or batches(*given[:4], 0)
            )
            trained(seed=seed, settings=protocol(**changes))
            found.append(seen)
        return found

    first, second = orders(shared_order=True)
    assert first == second
    own_first, own_second = orders(shared_order=False)
    assert own_first == first
    assert own_second != first


def test_a_loss_that_is_not_finite_names_step_and_images(monkeypatch):
    task = memory_task()
    monkeypatch.setattr(task, "loss", lambda logits, *_: logits.sum() * float("nan"))
    with pytest.raises(ValueError, match=r"the loss is nan at step 0 \(image \d, image \d\), expected a finite number"):
        trained(task=task)


@pytest.mark.parametrize("way", ["full", "filter"])
def test_scores_are_those_of_the_classical_way(way):
    task, settings = memory_task(), protocol(upsample=way)
    heads = [make_head(CHANNELS, task.outputs, seed) for seed in (0, 1)]
    steps = []
    found = score(task, features(), small("naf"), settings, heads, on_step=lambda: steps.append(1))
    assert len(steps) == len(task.val)
    for head, one in zip(heads, found, strict=True):
        right = count = 0
        for example in batches(task, task.val, settings, [[index] for index in range(3)]):
            coarse = Tiny()(example.image01)
            size = (SIDE, SIDE) if way == "full" else tuple(coarse.shape[2:])
            dense = small("naf")(normalize(example.image01), coarse, size)
            dense = F.interpolate(dense, (SIDE, SIDE), mode="bilinear", align_corners=False)
            valid = example.targets != 255
            right += (head(dense).argmax(1) == example.targets)[valid].sum().item()
            count += valid.sum().item()
        assert one.metrics()["accuracy"] == pytest.approx(100 * right / count, abs=100 / count)


@pytest.mark.parametrize("name", ["naf", "jbf", "guided", "bilinear"])
def test_filters_leave_constant_features_as_they_are(name):
    task, settings = memory_task(), protocol(upsample="filter")
    (example,) = batches(task, task.train, settings, [[0]])
    constant = torch.arange(1.0, CHANNELS + 1)[None, :, None, None].expand(1, CHANNELS, 8, 8)
    guidance = encode(small(name), example, (8, 8), settings)
    assert guidance.output_size == guidance.grid == (8, 8)  # ratio 1
    torch.testing.assert_close(guidance.upsample(constant), constant, rtol=1e-4, atol=1e-4)
    head = make_head(CHANNELS, 3, 0)
    expected = head(constant)[:, :, :1, :1].expand(1, 3, SIDE, SIDE)
    torch.testing.assert_close(predict(guidance, constant, head, settings), expected, rtol=1e-4, atol=1e-4)


def test_filtering_by_nothing_is_bilinear():
    task, coarse = memory_task(), randn(1, CHANNELS, 8, 8)
    head = make_head(CHANNELS, 3, 0)
    (example,) = batches(task, task.train, protocol(), [[0]])
    found = {}
    for name, way in (("nearest", "filter"), ("bilinear", "filter"), ("bilinear", "full")):
        settings = protocol(upsample=way)
        guidance = encode(small(name), example, (8, 8), settings)
        found[name, way] = predict(guidance, coarse, head, settings)
    expected = found["bilinear", "full"]
    assert relative_error(found["bilinear", "filter"], expected) < 1e-5
    assert relative_error(found["nearest", "filter"], expected) < 1e-5


def test_the_guidance_sees_its_own_size():
    task = memory_task()
    found = []
    for size in (None, 64):
        settings = protocol(guidance_size=size)
        (example,) = batches(task, task.train, settings, [[0]])
        found.append(encode(small("naf"), example, (8, 8), settings).upsample(randn(1, CHANNELS, 8, 8)))
    assert found[0].shape == found[1].shape
    assert relative_error(found[0], found[1]) > 1e-3


def test_training_and_validation_must_have_the_same_classes():
    first, second = memory_task(classes=4), memory_task(classes=3)
    with pytest.raises(ValueError, match="the training images have classes"):
        SegmentationTask(first.train, second.val)
