"""Which runs stand together, and what is in the cells."""

import pytest

from naf.evaluation.report_metrics import metric, tabulated
from naf.evaluation.report_tables import groups, table

from .runs import SETTINGS, run

MIOU = metric("miou")


def single(*records, of="miou"):
    """The table of records that stand together."""
    (group,) = groups(records)
    return table(group, metric(of))


def marks(it, column=0):
    return {row: it.mark(row, it.group.columns[column]) for row in it.group.rows}


def test_cells_are_mean_and_sample_deviation_over_seeds():
    it = single(*(run("naf", miou, seed=seed) for seed, miou in enumerate([50.0, 51.0, 53.0])))
    (cell,) = it.cells.values()
    assert cell.mean == pytest.approx(51.3333, abs=1e-4)
    assert cell.deviation == pytest.approx(1.5275, abs=1e-4)
    assert cell.seeds == (0, 1, 2)


def test_a_single_run_has_no_deviation():
    (cell,) = single(run(seed=None)).cells.values()
    assert (cell.mean, cell.deviation, cell.seeds) == (50.0, None, (None,))


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "released"},
        {"task": "filter"},
        {"dataset": "voc"},
        {"deviations": {"epochs": 5}},
        {"images": {"train": 10, "val": 70}},
        {"settings": SETTINGS | {"epochs": 5}},
        {"settings": {"image_size": 448}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_does_not_compare_is_never_mixed(other):
    found = groups([run("naf"), run("bilinear", **other)])
    assert sorted(group.rows for group in found) == [["bilinear"], ["naf"]]


def test_the_ratio_may_differ_between_columns():
    records = [
        run(backbone=name, settings=SETTINGS | {"ratio": ratio}, stride=ratio) for name, ratio in (("a", 16), ("b", 14))
    ]
    (group,) = groups(records)
    assert [column.label for column in group.columns] == ["a", "b"]
    assert group.varying == {"ratio": [16, 14]}
    assert group.settings == {"epochs": 20, "image_size": 448}


def test_the_image_may_differ_between_columns_of_the_ratio_study_only():
    def records(task):
        return [
            run(task=task, variant=f"grid {grid}", settings=SETTINGS | {"image_size": 16 * grid}) for grid in (112, 14)
        ]

    (group,) = groups(records("ratio"))
    assert [column.label for column in group.columns] == ["embedded grid 14", "embedded grid 112"]
    assert len(groups(records("segmentation"))) == 2


def test_backbones_of_one_label_and_other_strides_are_columns_of_their_own():
    (group,) = groups([run(stride=16), run(stride=8)])
    assert [column.label for column in group.columns] == ["embedded (stride 8)", "embedded (stride 16)"]


def test_other_weights_of_one_label_are_rows_of_their_own_where_they_meet():
    (group,) = groups([run(checkpoint="a" * 64, seed=0), run(checkpoint="b" * 64, seed=1)])
    assert group.rows == ["naf (weights aaaaaaaa)", "naf (weights bbbbbbbb)"]


def test_weights_trained_for_each_backbone_are_one_row():
    (group,) = groups([run("jafar", backbone=name, checkpoint=name * 64) for name in "ab"])
    assert group.rows == ["jafar"]


def test_the_newest_run_of_a_seed_counts():
    old, new = (run("naf", miou, finished=f"2026-01-0{day}T00:00:00Z") for day, miou in ((1, 40.0), (2, 60.0)))
    it = single(new, old)
    assert [cell.mean for cell in it.cells.values()] == [60.0]
    assert it.group.superseded == 1


def test_rows_are_in_order_with_naf_last():
    (group,) = groups([run(name) for name in ("naf", "zebra", "anyup", "bilinear", "naf untrained", "nearest", "jbf")])
    assert group.rows == ["nearest", "bilinear", "jbf", "anyup", "zebra", "naf", "naf untrained"]


def test_best_and_second_best():
    it = single(run("nearest", 40.0), run("bilinear", 41.0), run("naf", 42.0))
    assert marks(it) == {"nearest": "", "bilinear": "second", "naf": "best"}


def test_ties_as_printed_are_marked_alike():
    it = single(run("nearest", 41.0), run("bilinear", 42.001), run("jbf", 41.001), run("naf", 41.999))
    assert marks(it) == {"nearest": "second", "bilinear": "best", "jbf": "second", "naf": "best"}


def test_nothing_is_marked_where_nothing_is_better():
    assert set(marks(single(run("nearest", 41.0), run("naf", 41.0))).values()) == {""}
    assert set(marks(single(run("naf"))).values()) == {""}
    unknown = single(run("a", metrics={"odd": 1.0}), run("b", metrics={"odd": 2.0}), of="odd")
    assert set(marks(unknown).values()) == {""}


def test_lower_is_better_for_errors():
    it = single(*(run(name, metrics={"rmse": value}) for name, value in (("bilinear", 0.5), ("naf", 0.4))), of="rmse")
    assert marks(it) == {"bilinear": "second", "naf": "best"}
    assert it.gains["naf"].mean == pytest.approx(0.1)


def test_gains_are_means_over_the_columns_with_the_deviation_of_paired_seeds():
    values = {("bilinear", "a"): (40.0, 42.0), ("naf", "a"): (43.0, 45.0)}
    values |= {("bilinear", "b"): (50.0, 50.0), ("naf", "b"): (51.0, 53.0)}
    records = [
        run(name, miou, backbone=backbone, seed=seed)
        for (name, backbone), mious in values.items()
        for seed, miou in enumerate(mious)
    ]
    gain = single(*records).gains["naf"]
    assert gain.mean == pytest.approx(2.5)  # 2 with seed 0, 3 with seed 1
    assert gain.deviation == pytest.approx(0.7071, abs=1e-4)


def test_gains_over_other_seeds_have_no_deviation():
    it = single(*(run("bilinear", 40.0 + s, seed=s) for s in (0, 1)), *(run("naf", 43.0, seed=s) for s in (1, 2)))
    assert (it.gains["naf"].mean, it.gains["naf"].deviation) == (2.5, None)


def test_rows_with_missing_cells_have_no_gain():
    records = [run(name, backbone=backbone) for name in ("nearest", "naf") for backbone in "ab"]
    it = single(*records, run("anyup", backbone="a"), run("bilinear", backbone="a"))
    assert it.baseline == "nearest"
    assert it.gains.keys() == {"naf"}


def test_metrics_of_a_task():
    depth = {"silog", "rmse", "delta1", "aligned_delta1"}
    assert [it.name for it in tabulated("depth", depth)] == ["delta1", "rmse", "aligned_delta1"]
    assert [it.name for it in tabulated("other", {"b", "a"})] == ["a", "b"]
    assert (metric("aligned_rmse").better, metric("J_decay").better, metric("J").better) == ("lower", "lower", "higher")
