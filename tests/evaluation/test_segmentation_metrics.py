"""Mean intersection over union and accuracy."""

import pytest
import torch

from naf.evaluation.segmentation import SegmentationScore
from naf.evaluation.segmentation_metrics import ConfusionMatrix

# Rows the true class; class 2 is predicted and never there, class 3 neither.
GOLDEN = [[50, 2, 0, 0], [3, 40, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
IOU = [0.909091, 0.869565, 0.0]
MIOU, ACCURACY = 0.592885, 0.9375
CLASSES = ("a", "b", "c", "d")


def pixels(counts):
    """Predictions and labels with these counts."""
    cells = [(guess, true) for true, row in enumerate(counts) for guess, many in enumerate(row) for _ in range(many)]
    predicted, labels = torch.tensor(cells).T
    return predicted, labels


def drawn(seed, classes, absent, ignored=255, shape=(3, 20, 24)):
    """Predictions and labels; some classes are never there, some pixels are ignored."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes - absent, shape, generator=generator)
    guess = torch.randint(min(classes, classes - absent + 1), shape, generator=generator)  # one that is never there
    predicted = torch.where(torch.rand(shape, generator=generator) < 0.6, labels, guess)
    labels[torch.rand(shape, generator=generator) < 0.2] = ignored
    return predicted, labels


def test_golden_values():
    matrix = ConfusionMatrix(CLASSES)
    matrix.add(*pixels(GOLDEN))
    assert matrix.counts.tolist() == GOLDEN
    iou = matrix.intersection_over_union()
    assert iou[:3].tolist() == pytest.approx(IOU, abs=1e-6)
    assert iou[3].isnan()
    assert matrix.metrics() == pytest.approx({"miou": 100 * MIOU, "accuracy": 100 * ACCURACY}, abs=1e-4)
    assert matrix.by_class()["c"] == 0
    assert matrix.by_class()["d"] is None


@pytest.mark.parametrize(("seed", "classes", "absent"), [(0, 2, 0), (1, 11, 0), (2, 21, 4), (3, 151, 100)])
def test_torchmetrics_gives_the_same(seed, classes, absent):
    pytest.importorskip("torchmetrics")
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    predicted, labels = drawn(seed, classes, absent)
    jaccard = MulticlassJaccardIndex(classes, average="macro", ignore_index=255)
    accuracy = MulticlassAccuracy(classes, average="micro", ignore_index=255)
    matrix = ConfusionMatrix(range(classes))
    for guess, label in zip(predicted, labels, strict=True):  # an image at a time: one matrix over the whole set
        jaccard.update(guess[None], label[None])
        accuracy.update(guess[None], label[None])
        matrix.add(guess, label)
    assert matrix.metrics()["miou"] == pytest.approx(100 * jaccard.compute().item(), rel=1e-5)
    assert matrix.metrics()["accuracy"] == pytest.approx(100 * accuracy.compute().item(), rel=1e-5)


def test_images_are_pooled_before_the_mean():
    matrix = ConfusionMatrix(("a", "b"))
    matrix.add(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 0]))
    matrix.add(torch.tensor([1]), torch.tensor([1]))
    assert matrix.metrics()["miou"] == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)  # by image it would be 3 / 8 and 1


def test_what_an_ignored_pixel_is_predicted_to_be_does_not_matter():
    labels = torch.tensor([0, 1, 255, 255])
    matrices = [ConfusionMatrix(("a", "b")) for _ in range(2)]
    matrices[0].add(torch.tensor([0, 1, 0, 0]), labels)
    matrices[1].add(torch.tensor([0, 1, 1, 0]), labels)
    assert matrices[0].counts.equal(matrices[1].counts)
    assert matrices[0].counts.sum() == 2


def test_the_likeliest_class_is_scored():
    score = SegmentationScore(ConfusionMatrix(("a", "b", "c")))
    labels = torch.tensor([[[0, 1], [2, 255]]])
    logits = torch.nn.functional.one_hot(labels.clamp(max=2), 3).permute(0, 3, 1, 2).float()
    logits[0, :, 0, 1] = torch.tensor([0.3, 0.2, 0.1])  # class 1 taken for class 0
    score.add(logits, labels)
    assert score.metrics() == pytest.approx({"miou": 100 * (0.5 + 0 + 1) / 3, "accuracy": 200 / 3})
    assert score.details() == {
        "class_iou": {"a": 50.0, "b": 0.0, "c": 100.0},
        "class_pixels": {"a": 1, "b": 1, "c": 1},
    }


def test_errors_say_what_came():
    matrix = ConfusionMatrix(("a", "b"))
    with pytest.raises(ValueError, match="no pixel has a label"):
        matrix.metrics()
    with pytest.raises(ValueError, match=r"predicted has shape \(2,\), labels \(3,\)"):
        matrix.add(torch.zeros(2).long(), torch.zeros(3).long())
    with pytest.raises(ValueError, match="labels hold 0 to 2, expected 0 to 1 or 255"):
        matrix.add(torch.tensor([0, 1]), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="predicted hold -1 to 0, expected 0 to 1"):
        matrix.add(torch.tensor([0, -1]), torch.tensor([0, 1]))
