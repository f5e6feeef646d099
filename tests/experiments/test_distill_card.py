"""What the card of the embedded backbone takes from evaluations."""

import pytest

from experiments.distill_card import probe_table
from tests.evaluation.runs import run, write


def probed(miou, **more):
    return run("bilinear", metrics={"miou": miou, "accuracy": miou + 20}, protocol="sampled", **more)


def test_backbones_are_shown_by_mean_and_deviation_over_seeds(tmp_path):
    runs = [probed(miou, seed=seed) for seed, miou in enumerate([50.0, 51.0, 53.0])]
    write(tmp_path / "camvid", *runs, probed(21.79, backbone="hog"), run("naf", 60.0))
    assert probe_table(tmp_path) == {
        "Linear probe on camvid (images: train 130, val 70; protocol: sampled), features upsampled by bilinear, "
        "per cent": {
            "embedded": {"mIoU": 51.33, "deviation over seeds": 1.528, "pixel accuracy": 71.33, "seeds": 3},
            "hog": {"mIoU": 21.79, "deviation over seeds": None, "pixel accuracy": 41.79, "seeds": 1},
        }
    }


def test_deviations_from_the_protocol_are_stated(tmp_path):
    write(tmp_path, probed(50.0, deviations={"epochs": 5}))
    (heading,) = probe_table(tmp_path)
    assert "protocol: sampled with deviations: epochs = 5)" in heading


@pytest.mark.parametrize(
    ("runs", "kinds"),
    [
        ([run("naf")], 0),
        ([probed(50.0), probed(40.0, images={"train": 4, "val": 2})], 2),
        ([probed(50.0), probed(50.0, settings={"head": "dense"})], 2),
        ([probed(50.0, settings={"head": "linear"}), probed(50.0, settings={"head": "dense"})], 2),
    ],
)
def test_only_what_stands_in_one_table_is_shown(tmp_path, runs, kinds):
    write(tmp_path, *runs)
    with pytest.raises(ValueError, match=f"has {kinds} kinds of segmentation records"):
        probe_table(tmp_path)
