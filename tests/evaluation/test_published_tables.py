"""Published figures, against some that were typed in anew."""

from importlib import resources
from statistics import fmean

import pytest
import yaml

from naf.evaluation.published_tables import (
    dataset_key,
    full_images,
    published_cell,
    published_column,
    published_tables,
    short_backbone,
)

TABLES = {table.id: table for table in published_tables()}


@pytest.mark.parametrize("table", published_tables(), ids=lambda table: table.id)
def test_tables_are_well_formed(table):
    assert all(len(values) == len(table.columns) for values in table.rows.values())
    assert len(set(table.columns)) == len(table.columns)
    assert all(value in (None, "OOM") or isinstance(value, int | float) for row in table.rows.values() for value in row)
    assert set(table.delta_mean_reported) <= set(table.rows)
    assert not table.baseline or table.baseline in table.rows
    for column in table.columns:
        table.place(column)  # as many parts as axes
    assert table.source
    assert table.table
    assert table.unit


def test_every_table_of_the_paper_is_there_once():
    assert len(TABLES) == len(published_tables()) == 24
    assert {table.table for table in TABLES.values() if "2511.18452" in table.source} == {
        f"Table {number}" for number in range(1, 14)
    }


@pytest.mark.parametrize(
    ("place", "values"),
    [
        (("segmentation", "voc", "radio_b", "naf"), [86.60]),
        (("segmentation", "voc", "dinov3_b", "featup"), [84.43, 87.07]),
        (("segmentation", "voc", "dinov3_7b", "jafar"), ["OOM"]),
        (("segmentation", "cityscapes", "dinov3_b", "jbf"), [63.85]),
        (("segmentation", "ade20k", "dinov2r_l", "anyup"), [46.39]),
        (("segmentation", "ade20k", "dinov2_s", "lift"), [38.73]),
        (("segmentation", "cityscapes", "dinov3_convnext_s", "large_x4"), [69.21]),
        (("depth", "nyuv2", "dinov2r_b", "nearest"), [79.47]),
        (("depth", "nyuv2", "dinov3_7b", "naf"), [91.74]),
        (("video", "davis2017", "franca_b", "naf"), [72.82]),
        (("filter", "voc", "dinov3_b", "naf"), [86.88]),
        (("ratio", "cityscapes", "pe_core_b", "bilinear", "grid 56"), [43.81]),
        (("ratio", "cityscapes", "radio_b", "anyup", "grid 56"), ["OOM"]),
        (("ratio", "cityscapes", "radio_b", "naf"), []),
        (("segmentation", "camvid", "dinov3_b", "naf"), []),
        (("denoise", "imagenet", "", "naf", "gaussian 0.1"), [32.12, 90.9]),
        (("denoise", "imagenet", "", "ircnn", "gaussian from 0.1 to 0.5"), [25.86, 73.6]),
        (("denoise", "imagenet", "", "restormer", "salt-and-pepper 0.5"), [36.90, 97.0]),
        (("denoise", "imagenet", "", "dncnn", "salt-and-pepper from 0.1 to 0.5"), [27.72, 87.3]),
        (("denoise", "imagenet", "", "naf", "gaussian 0.3"), []),
        (("segmentation", "cityscapes", "dinov3_b", "dinov2_s"), []),  # rows of Table 10 are no upsamplers
    ],
)
def test_cells(place, values):
    assert [found.value for found in published_cell(*place)] == values


def test_video_is_published_with_the_repository_s_f_only():
    assert {found.metric for found in published_cell("video", "davis2017", "dinov3_b", "NAF")} == {"JF_repository"}


def test_other_names_of_the_same_thing():
    asked = ("segmentation", "cityscapes19", "vit_base_patch16_dinov3.lvd1689m", "naf")
    assert [found.value for found in published_cell(*asked)] == [64.98]
    assert published_column("depth", "nyuv2", "franca_vitb14").keys() == {
        "nearest", "featup", "bilinear", "anyup", "jafar", "naf",
    }  # fmt: skip
    assert dataset_key("voc2012") == "voc"
    assert short_backbone("vit_base_patch14_reg4_dinov2.lvd142m") == "dinov2r_b"
    assert short_backbone("radio_v2.5-b") == "radio_b"
    assert short_backbone("vit_large_patch16_dinov3.sat493m") == "vit_large_patch16_dinov3.sat493m"  # other weights


def test_names_are_of_backbones_that_have_figures():
    used = {table.place(column)["backbone"] for table in TABLES.values() for column in table.columns}
    file = resources.files("naf.evaluation").joinpath("published", "names.yaml")
    named = yaml.safe_load(file.read_text(encoding="utf-8"))["backbones"]
    assert named.keys() <= used
    others = [name for names in named.values() for name in names]
    assert len(set(others)) == len(others)


def test_full_splits():
    assert full_images("voc2012") == {"train": 1464, "val": 1449}
    assert full_images("camvid") == {}


def test_printed_gains_follow_from_the_cells_or_the_note_says_so():
    told = set()
    for table in TABLES.values():
        base = table.rows.get(table.baseline, ())
        for row, printed in table.delta_mean_reported.items():
            pairs = list(zip(table.rows[row], base, strict=True))
            for columns in (slice(None), slice(4)):  # means over all columns, or without the largest backbone
                cells = pairs[columns]
                if all(a != "OOM" for a, _ in cells) and abs(fmean(a - b for a, b in cells) - printed) < 0.0101:
                    break
            else:
                told.add(table.id)
                assert "do not follow" in table.note or "does not follow" in table.note, (table.id, row)
    assert told == {"naf_table2_segmentation", "naf_table2_depth", "naf_table3", "naf_table9"}


def test_gains_that_the_notes_give_are_those_of_the_cells():
    rows = TABLES["naf_table2_segmentation"].rows
    for row, gain in {"featup": 2.26, "bilinear": 2.67, "anyup": 3.61, "jafar": 4.12, "naf": 4.71}.items():
        assert fmean(a - b for a, b in zip(rows[row][:4], rows["nearest"][:4], strict=True)) == pytest.approx(
            gain, abs=0.006
        )
