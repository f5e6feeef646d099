import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import disk

from naf.evaluation import davis_boundary, davis_boundary_repository, davis_metrics
from naf.evaluation.davis_metrics import score_sequence, statistics, summarize

ROWS, COLUMNS = np.mgrid[:480, :854]


def disc(row, column, radius):
    return (ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= radius**2


TRUTH, EMPTY = disc(240, 427, 100), np.zeros((480, 854), bool)
# name: truth, prediction, J, F of the toolkit, F of NAF's repository, boundary pixels of the prediction in both
GOLDEN = {
    "A": (TRUTH, disc(246, 430, 104), 0.905936552, 0.726285131, 0.779108244, 836, 1668),
    "B": (TRUTH, disc(240, 440, 100), 0.847732753, 0.452736318, 0.504987531, 804, 1604),
    "same": (TRUTH, TRUTH, 1, 1, 1, 804, 1604),
    "empty prediction": (TRUTH, EMPTY, 0, 0, 0, 0, 0),
    "both empty": (EMPTY, EMPTY, 1, 1, 0, 0, 0),
}


def noise(height, width, seed=0, share=0.3):
    """Blobs of a few pixels, up to the borders."""
    rough = np.random.default_rng(seed).random((height, width))
    return ndimage.uniform_filter(rough, 3) > np.quantile(rough, 1 - share) * 0.7


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_values(case):
    truth, prediction, region, toolkit, repository, pixels, pixels_repository = GOLDEN[case]
    assert davis_metrics.region_similarity(truth, prediction) == pytest.approx(region, abs=1e-9)
    assert davis_boundary.contour_accuracy(truth, prediction) == pytest.approx(toolkit, abs=1e-9)
    assert davis_boundary_repository.contour_accuracy(truth, prediction) == pytest.approx(repository, abs=1e-9)
    assert davis_boundary.boundary_map(prediction).sum() == pixels
    assert davis_boundary_repository.boundary_map(prediction).sum() == pixels_repository


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (30, 41), (7, 200)])
@pytest.mark.parametrize("radius", [0, 1, 2, 5, 8, 12])
def test_dilation_is_that_with_a_disc(height, width, radius):
    for seed in range(3):
        mask = np.random.default_rng(seed).random((height, width)) < 0.05
        assert np.array_equal(davis_boundary.dilate(mask, radius), ndimage.binary_dilation(mask, disk(radius)))
        mask[-1, 0] = True
        near = ndimage.distance_transform_edt(~mask) <= radius
        assert np.array_equal(davis_boundary.dilate(mask, radius), near)


def test_boundaries_follow_their_definitions():
    mask = noise(40, 57)
    assert mask[-1].any()
    assert mask[:, -1].any()
    expected = np.zeros_like(mask)
    for row in range(40):
        for column in range(57):
            expected[row, column] = (mask[row : row + 2, column : column + 2] != mask[row, column]).any()
    assert np.array_equal(davis_boundary.boundary_map(mask), expected)
    slopes = [ndimage.sobel(mask.astype(float), axis, mode="mirror") for axis in (0, 1)]
    assert np.array_equal(davis_boundary_repository.boundary_map(mask), np.hypot(*slopes) > 0.1)


def test_precision_and_recall_are_both_in_f():
    truth, prediction = noise(60, 80, 1), noise(60, 80, 2, 0.1)
    scores = [davis_boundary.contour_accuracy(*pair) for pair in ((truth, prediction), (prediction, truth))]
    assert scores[0] == scores[1]  # the harmonic mean
    true, predicted = davis_boundary.boundary_map(truth), davis_boundary.boundary_map(prediction)
    radius = math.ceil(0.008 * math.hypot(60, 80))
    shares = [
        (one & ndimage.binary_dilation(other, disk(radius))).sum() / one.sum()
        for one, other in ((predicted, true), (true, predicted))
    ]
    assert shares[0] != shares[1]
    assert scores[0] == pytest.approx(2 / (1 / shares[0] + 1 / shares[1]), abs=1e-12)


def test_masks_far_apart_score_nothing():
    assert davis_boundary.contour_accuracy(disc(50, 50, 20), disc(400, 700, 20)) == 0


def test_golden_statistics():
    found = statistics([0.9 - 0.03 * index for index in range(20)])
    assert found == pytest.approx((0.615, 0.7, 0.42), abs=1e-12)


def test_statistics_of_few_frames():
    assert statistics([0.25]) == (0.25, 0, 0)
    assert statistics([1, 0]) == (0.5, 0.5, 1)
    assert statistics([1, 0.5, 0]) == (0.5, 1 / 3, 0.75)  # halves are rounded up: quarters (1, 0.5) and (0)


def video(frames, objects=2):
    """Objects that are disjoint squares which move."""
    masks = np.zeros((frames, 40, 60), np.uint8)
    for index in range(frames):
        for k in range(objects):
            masks[index, 3 + 12 * k : 12 + 12 * k, 2 + index : 20 + index] = k + 1
    return masks


def test_the_truth_scores_one_whatever_its_first_and_last_frame_are():
    truth = video(6)
    prediction = truth.copy()
    prediction[[0, -1]] = 9
    scores = score_sequence("walk", truth, prediction, 2)
    assert [(score.sequence, score.index) for score in scores] == [("walk", 1), ("walk", 2)]
    for score in scores:
        assert score.region == score.contour == score.contour_repository == (1, 1, 0)


def test_a_missing_object_is_scored_as_empty():
    truth = video(8)
    prediction = np.where(truth == 2, 0, truth)
    first, second = score_sequence("walk", truth, prediction, 2)
    assert first.region.mean == first.contour.mean == 1
    assert second.region == second.contour == (0, 0, 0)
    assert summarize([first, second])["JF"] == 50


def test_frames_without_an_object_count_as_the_toolkit_and_the_repository_have_it():
    truth = video(6, 1)
    truth[2:4] = 0
    score = score_sequence("walk", truth, truth, 1)[0]
    assert (score.region.mean, score.contour.mean, score.contour_repository.mean) == (1, 1, 0.5)


def test_void_pixels_are_left_out():
    truth, prediction = video(5, 1), video(5, 1)
    prediction[:, 20:30, 30:50] = 1
    assert score_sequence("walk", truth, prediction, 1)[0].region.mean < 0.6
    truth[:, 20:30, 30:50] = 255
    score = score_sequence("walk", truth, prediction, 1)[0]
    assert score.region.mean == score.contour.mean == 1


def test_means_are_over_objects_and_not_over_sequences():
    good, bad = video(5, 1), np.zeros((5, 40, 60), np.uint8)
    scores = score_sequence("a", good, good, 1) + score_sequence("b", video(5, 3), bad, 3)
    found = summarize(scores)
    assert (found["J"], found["F"], found["JF"], found["J_recall"], found["F_decay"]) == (25, 25, 25, 25, 0)
    assert set(found) == {"J", "F", "JF", "F_repository", "JF_repository", "J_recall", "J_decay", "F_recall", "F_decay"}


def test_summary_takes_each_figure_from_its_place():
    values = [statistics([0.1 * k + 0.04 * index for index in range(9)]) for k in (1, 2, 4)]
    found = summarize([davis_metrics.ObjectScore("a", 1, *values)])
    j, f, own = values
    assert found == pytest.approx(
        {
            "J": 100 * j.mean,
            "F": 100 * f.mean,
            "JF": 50 * (j.mean + f.mean),
            "F_repository": 100 * own.mean,
            "JF_repository": 50 * (j.mean + own.mean),
            "J_recall": 100 * j.recall,
            "J_decay": 100 * j.decay,
            "F_recall": 100 * f.recall,
            "F_decay": 100 * f.decay,
        }
    )


def test_predictions_that_cannot_be_scored_are_refused():
    truth = video(5, 1)
    with pytest.raises(ValueError, match="prediction of walk has object 2, expected at most 1"):
        score_sequence("walk", truth, video(5, 2), 1)
    with pytest.raises(ValueError, match=r"prediction of walk has shape \(4, 40, 60\), expected \(5, 40, 60\)"):
        score_sequence("walk", truth, truth[:4], 1)
    with pytest.raises(ValueError, match="walk has 2 frames, expected at least 3"):
        score_sequence("walk", truth[:2], truth[:2], 1)
    with pytest.raises(ValueError, match="scores is empty"):
        summarize([])
