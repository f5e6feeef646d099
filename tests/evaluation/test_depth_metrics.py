"""Depth metrics: values of the official functions, alignment, crops and masks, bad input."""

import math

import pytest
import torch

from naf.evaluation.depth_metrics import DepthMetrics, align, depth_metrics, eigen_box
from tests.evaluation.depth_golden import golden_depths
from tests.helpers import randn

NAMES = {"delta1", "delta2", "delta3", "rmse", "abs_rel", "sq_rel", "rmse_log", "log10", "silog"}
GOLDEN = {
    "delta1": [45.9854, 37.0909],
    "delta2": [67.8832, 61.8182],
    "delta3": [82.1168, 77.8182],
    "rmse": [0.8626927574880545, 0.9415142833787489],
    "aligned_delta1": [53.2847, 39.6364],
    "aligned_delta2": [83.9416, 80.0000],
    "aligned_delta3": [94.5255, 90.1818],
    "aligned_rmse": [0.6095057751, 0.6751394326],
}
GOLDEN_FIRST = {
    "abs_rel": 0.29482753713257875,
    "sq_rel": 0.2995208482964807,
    "rmse_log": 0.46159770125699034,
    "log10": 0.15413447898364196,
    "silog": 41.34544266513442,
}


def measured(prediction, target, **options):
    metrics = DepthMetrics(**options)
    metrics.add(prediction, target)
    return metrics.compute()


def test_golden_values_of_each_image():
    metrics = DepthMetrics()
    metrics.add(*golden_depths())
    for name, expected in GOLDEN.items():
        assert metrics.values[name] == pytest.approx(expected, rel=2e-6 if "delta" in name else 1e-6), name
    for name, expected in GOLDEN_FIRST.items():
        assert metrics.values[name][0] == pytest.approx(expected, rel=1e-6), name


def test_the_result_is_the_mean_over_images_however_they_are_batched():
    prediction, target = golden_depths()
    single = DepthMetrics()
    for index in range(2):
        single.add(prediction[index : index + 1], target[index : index + 1])
    whole = measured(prediction, target)
    assert single.compute() == whole
    assert set(whole) == NAMES | {f"aligned_{name}" for name in NAMES}
    assert whole["rmse"] == pytest.approx((GOLDEN["rmse"][0] + GOLDEN["rmse"][1]) / 2, rel=1e-6)


def test_a_perfect_prediction():
    _, target = golden_depths()
    result = measured(target, target)
    for name, value in result.items():
        assert value == pytest.approx(100 if "delta" in name else 0, abs=1e-5), name


def test_alignment_takes_scale_and_shift_away():
    _, target = golden_depths()
    result = measured(0.25 * target - 0.1, target)
    assert result["delta1"] < 1
    assert result["aligned_rmse"] == pytest.approx(0, abs=1e-9)
    assert result["aligned_delta1"] == 100


def test_alignment_is_the_least_squares_solution():
    prediction, target = randn(50, dtype=torch.float64), randn(50, seed=1, dtype=torch.float64)
    basis = torch.stack([prediction, torch.ones_like(prediction)], dim=1)
    expected = basis @ torch.linalg.lstsq(basis, target[:, None]).solution
    torch.testing.assert_close(align(prediction, target), expected[:, 0])


def test_a_constant_prediction_is_aligned_to_the_mean():
    target = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    assert align(torch.full_like(target, 4), target).tolist() == pytest.approx([3, 3, 3])


def test_a_ratio_on_the_threshold_is_outside():
    target = torch.ones(1, dtype=torch.float64)
    assert depth_metrics(1.25 * target, target)["delta1"] == 0
    assert depth_metrics(1.249 * target, target)["delta1"] == 100


def test_predictions_of_zero_and_below_are_measured():
    result = measured(torch.tensor([[[[0.0, -1.0]]]]), torch.ones(1, 1, 1, 2))
    assert result["delta3"] == 0
    assert result["rmse"] == pytest.approx(2.5**0.5)
    assert all(math.isfinite(value) for value in result.values())


def test_nan_is_not_hidden():
    result = measured(torch.full((1, 1, 2, 2), torch.nan), torch.ones(1, 1, 2, 2))
    assert math.isnan(result["rmse"])
    assert result["delta1"] == 0


def test_images_without_depth_are_in_no_mean():
    prediction, target = golden_depths()
    metrics = DepthMetrics()
    metrics.add(torch.cat([prediction, prediction[:1]]), torch.cat([target, 0 * target[:1]]))
    assert metrics.skipped == 1
    assert metrics.compute() == measured(prediction, target)


def test_without_any_depth_there_is_no_mean():
    metrics = DepthMetrics()
    metrics.add(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="1 images came, none with a valid pixel"):
        metrics.compute()


def test_jafars_mask_leaves_out_the_ends():
    prediction = torch.ones(1, 1, 1, 3)
    target = torch.tensor([[[[1.0, 10.0, 1e-3]]]], dtype=torch.float64)
    assert measured(prediction, target, jafar_mask=True)["delta1"] == 100
    assert measured(prediction, target)["delta1"] == pytest.approx(100 / 3)


def test_the_eigen_crop():
    assert eigen_box(480, 640) == (slice(45, 471), slice(41, 601))
    assert eigen_box(448, 448, square_resize=True) == (slice(42, 440), slice(29, 421))
    # The middle of the frame: its sides are cut off already.
    assert eigen_box(480, 480) == (slice(45, 471), slice(0, 480))
    assert eigen_box(448, 448) == (slice(42, 440), slice(0, 448))


def test_outside_the_eigen_crop_nothing_counts():
    target = torch.ones(1, 1, 480, 640)
    prediction = torch.full_like(target, 5)
    prediction[..., 45:471, 41:601] = 1
    assert measured(prediction, target, eigen_crop=True)["delta1"] == 100
    assert measured(prediction, target)["delta1"] < 80


def test_square_resize_is_of_the_crop():
    with pytest.raises(ValueError, match="expected eigen_crop with it"):
        DepthMetrics(square_resize=True)


@pytest.mark.parametrize(("prediction", "target"), [((1, 1, 4, 4), (2, 1, 4, 4)), ((4, 4), (4, 4))])
def test_other_shapes_are_refused(prediction, target):
    with pytest.raises(ValueError, match=r"prediction is \(.*target \(.*expected \(B, 1, H, W\)"):
        DepthMetrics().add(torch.ones(prediction), torch.ones(target))
