"""`naf eval video` on a small DAVIS, as configured."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from naf.data import davis
from naf.evaluation import run_video
from naf.evaluation.config import load
from naf.evaluation.davis_metrics import summarize
from naf.evaluation.davis_results import score_folder
from naf.evaluation.features import Features
from naf.evaluation.record import read_record
from naf.evaluation.report_tables import groups
from naf.evaluation.run import run
from tests.data.test_davis import make_list, save_mask

FRAMES = 4
NAMES = ("rise", "ride")
METRICS = {"J", "F", "JF", "F_repository", "JF_repository", "J_recall", "J_decay", "F_recall", "F_decay"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two videos of two coloured boxes that move over noise."""
    root = tmp_path_factory.mktemp("davis")
    generator = np.random.default_rng(0)
    for name in NAMES:
        ground = generator.integers(80, 120, (64, 96, 3))
        for index in range(FRAMES):
            step = 3 * index if name == "ride" else 0
            mask = np.zeros((64, 96), np.uint8)
            mask[8:32, 8 + step : 40 + step], mask[40 - index : 60 - index, 50:82] = 1, 2
            save_mask(root / f"Annotations/480p/{name}/{index:05d}.png", mask)
            image = ground + np.array([[0, 0, 0], [120, -40, -60], [-60, -20, 120]])[mask]
            path = root / f"JPEGImages/480p/{name}/{index:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.astype(np.uint8)).save(path, quality=95)
    for year in (2016, 2017):
        make_list(root / f"ImageSets/{year}/val.txt", NAMES)
    return root


@pytest.fixture
def evaluate(root, tmp_path):
    """What runs the command in a folder of its own, and gives records, failures and what was said."""

    def evaluate(*overrides, dataset="davis2017"):
        said = io.StringIO()
        usual = ["backbone=hog", "upsampler=bilinear", "protocol.image_size=64", f"cache={tmp_path / 'cache'}"]
        given = [f"dataset={dataset}", f"dataset.root={root}", *usual, f"folder={tmp_path / 'out'}", *overrides]
        found, failures = run(load("video", given), Console(file=said, width=400))
        return found, failures, said.getvalue()

    return evaluate


def masks_of(tmp_path, record, dataset="davis2017"):
    """The folder of a record's masks."""
    (path,) = (path for path in (tmp_path / "out" / dataset).glob("*/*.json") if read_record(path) == record)
    return path.with_suffix("")


def test_records_tell_everything(evaluate, tmp_path, root):
    (record,), failures, said = evaluate("note=for a test")
    assert failures == 0
    assert (record.task, record.protocol, record.dataset) == ("video", "paper", "davis2017")
    assert record.deviations == {"image_size": 64}
    assert record.images == {"sequences": 2, "frames": 8}
    assert (record.backbone, record.stride, record.channels, record.upsampler) == ("hog", 16, 16, "bilinear")
    assert (record.seed, record.source, record.checkpoint) == (None, "", "")
    assert record.settings == {
        "image_size": 64,
        "upsampling": 2,
        "topk": 20,
        "radius": 24,
        "context": 7,
        "temperature": 0.1,
        "split": "val",
        "resolution": "480p",
        "sequences": None,
        "features": "float32",
    }
    assert record.metrics.keys() == METRICS
    assert 20 < record.metrics["J"] < 100
    objects = record.details["objects"]
    assert {name: sorted(each) for name, each in objects.items()} == {"rise": ["1", "2"], "ride": ["1", "2"]}
    for key in ("J", "F", "F_repository"):
        mean = np.mean([one[key] for each in objects.values() for one in each.values()])
        assert mean == pytest.approx(record.metrics[key], abs=1e-3)
    assert sorted(record.details["seconds"]) == sorted(NAMES)
    assert record.seconds >= 0
    assert record.peak_mib > 0
    assert record.note == "for a test; not the whole split: 2 of 30 sequences, 8 of 1999 frames, 4 of 61 objects"
    assert f"hog, bilinear: JF {record.metrics['JF']:.2f}" in said


def test_masks_are_palette_files_in_the_official_layout(evaluate, tmp_path, root):
    (record,), *_ = evaluate()
    folder = masks_of(tmp_path, record)
    for name in NAMES:
        assert [path.name for path in sorted((folder / name).iterdir())] == [f"0000{k}.png" for k in range(FRAMES)]
        with Image.open(folder / name / "00002.png") as image:
            assert (image.mode, image.size) == ("P", (96, 64))
            assert image.getpalette()[:9] == davis.pascal_palette()[:9]
            assert set(np.unique(np.array(image))) <= {0, 1, 2}
        with (
            Image.open(folder / name / "00000.png") as first,
            Image.open(root / f"Annotations/480p/{name}/00000.png") as true,
        ):
            assert np.array_equal(np.array(first), np.array(true))
    scores = summarize(score_folder(davis.create("davis2017", root), folder))
    assert record.metrics == {key: pytest.approx(value, abs=1e-4) for key, value in scores.items()}


def test_released_has_native_frames_and_no_upsampling(evaluate, tmp_path, monkeypatch):
    grids = []
    propagate = run_video.propagate_sequence

    def spy(sequence, features_of, protocol, patch):
        grids.append(tuple(features_of(0).shape[1:]))
        return propagate(sequence, features_of, protocol, patch)

    monkeypatch.setattr(run_video, "propagate_sequence", spy)
    (released,), failures, _ = evaluate("protocol=released", "protocol.image_size=null", "dataset.sequences=[rise]")
    evaluate("dataset.sequences=[rise]", "protocol.image_size=96")
    assert grids == [(4, 6), (12, 12)]
    assert (released.protocol, released.deviations, failures) == ("released", {}, 0)
    assert [released.settings[key] for key in ("image_size", "upsampling", "topk", "radius")] == [None, 1, 5, 12]
    assert released.settings["sequences"] == ["rise"]


def test_guidance_has_the_size_of_the_labels_and_upsamplers_meet_the_grid(evaluate, monkeypatch):
    seen = []

    class Spy:
        def __init__(self, upsampler):
            self.upsampler = upsampler

        def __getattr__(self, name):
            return getattr(self.upsampler, name)

        def encode(self, image, size, grid):
            seen.append((tuple(image.shape), tuple(size), tuple(grid)))
            assert not torch.is_grad_enabled()
            return self.upsampler.encode(image, size, grid)

    upsampled = run_video._upsampled
    monkeypatch.setattr(
        run_video, "_upsampled", lambda one, features, up, *rest: upsampled(one, features, Spy(up), *rest)
    )
    (record,), failures, _ = evaluate("upsampler=naf=none", "dataset.sequences=ride")
    assert failures == 0
    assert seen == [((1, 3, 8, 8), (8, 8), (4, 4))] * FRAMES
    assert len(record.checkpoint) == 64
    assert record.upsampler == "naf=none"


def test_a_stopped_run_goes_on_with_the_next_video(evaluate, tmp_path, monkeypatch):
    whole = evaluate(f"folder={tmp_path / 'whole'}")[0][0]
    asked = []
    propagate = run_video.propagate_sequence

    def stopped(sequence, *rest):
        asked.append(sequence.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return propagate(sequence, *rest)

    monkeypatch.setattr(run_video, "propagate_sequence", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("rise/*.png")}
    assert len(done) == FRAMES
    assert not list((tmp_path / "out").rglob("ride/*.png"))
    (record,), failures, _ = evaluate()
    assert (asked, failures) == (["rise", "ride", "ride"], 0)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert record.metrics == whole.metrics
    assert sorted(record.details["seconds"]) == sorted(NAMES)

    monkeypatch.setattr(run_video, "score_results", None)  # nothing is scored again either
    again, failures, said = evaluate()
    assert (again, failures) == ([record], 0)
    assert "hog, bilinear: there already" in said
    assert len(asked) == 3


def test_a_lost_mask_or_time_has_its_video_computed_again(evaluate, tmp_path):
    (record,), *_ = evaluate()
    folder = masks_of(tmp_path, record)
    for damage in (
        (folder / "ride/00003.png").unlink,
        lambda: (folder / "seconds.json").write_text("{"),
        lambda: (folder / "seconds.json").write_text(json.dumps({"rise": 1})),
    ):
        damage()
        folder.with_suffix(".json").unlink()
        (again,), failures, _ = evaluate()
        assert (again.metrics, failures) == (record.metrics, 0)
        assert (folder / "ride/00003.png").is_file()


def test_features_of_a_frame_are_computed_once_for_all_upsamplers(evaluate, monkeypatch):
    calls = []
    of = Features.of

    def counting(self, image01):
        calls.append(len(self._cache))
        return of(self, image01)

    monkeypatch.setattr(Features, "of", counting)
    records, failures, _ = evaluate("upsampler=bilinear,nearest")
    assert [record.upsampler for record in records] == ["bilinear", "nearest"]
    assert failures == 0
    assert calls[:8] == list(range(8))
    assert calls[8:] == [8] * 8


def test_sanity_is_three_frames_of_one_video_elsewhere(evaluate, tmp_path):
    (record,), *_ = evaluate("sanity=true")
    assert record.images == {"sequences": 1, "frames": 3}
    assert record.note == "sanity: 3 frames of rise"
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3
    assert len(list((tmp_path / "out/sanity/davis2017/hog").glob("*.json"))) == 1
    (whole,), *_ = evaluate()
    assert whole.images["frames"] == 8


def test_objects_of_2016_are_one(evaluate):
    (record,), *_ = evaluate("dataset.sequences=[ride]", dataset="davis2016")
    assert record.dataset == "davis2016"
    assert list(record.details["objects"]["ride"]) == ["1"]


def test_the_embedded_backbone_follows_the_boxes(evaluate):
    (record,), failures, _ = evaluate("backbone=embedded", "upsampler=nearest", "protocol.image_size=128")
    assert failures == 0
    assert record.metrics["J"] > 50


def test_failures_are_told_and_stop_nothing(evaluate):
    records, failures, said = evaluate(
        "backbone=[{label: small, name: hog, max_side: 32}, {label: wide, name: hog, stride: 12}, hog]",
        "upsampler=large-image,naf=nowhere.safetensors,bilinear",
    )
    assert [(record.backbone, record.upsampler) for record in records] == [("hog", "bilinear")]
    assert failures == 8
    lines = [line for line in said.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 8
    assert "failed: hog, large-image: large-image runs its backbone on the image that guides" in said
    assert "failed: small, bilinear: the backbone brings images of (64, 64) to (32, 32)" in said
    assert "failed: wide, bilinear: image_size is 64, expected a multiple of the patch, 12" in said
    assert "failed: hog, naf=nowhere.safetensors: " in said


def test_wrong_masks_in_the_folder_are_told(evaluate, tmp_path):
    (record,), *_ = evaluate()
    folder = masks_of(tmp_path, record)
    folder.with_suffix(".json").unlink()
    save_mask(folder / "ride/00001.png", np.full((64, 96), 7, np.uint8))
    records, failures, said = evaluate()
    assert (records, failures) == ([], 1)
    assert "00001.png: has object 7, expected at most 2" in said


def test_other_videos_are_in_another_table(evaluate):
    made = [
        *evaluate("upsampler=bilinear,nearest")[0],
        *evaluate("dataset.sequences=rise")[0],
        *evaluate("dataset.sequences=ride")[0],
    ]
    assert sorted(group.rows for group in groups(made)) == [["bilinear"], ["bilinear"], ["nearest", "bilinear"]]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.sequences=[rise,nobody]", r"val\.txt: does not list nobody, expected some of rise, ride"),
        ("dataset.sequences=[1]", r"dataset\.sequences is \[1\], expected names, \[dog,judo\], or null for all"),
        ("dataset.sequences=[]", "sequences is empty"),
        ("dataset.split=test", r"test\.txt is not there"),
        ("seeds=0,1", r"seeds is \[0, 1\], expected none: nothing in label propagation is random"),
        ("protocol.topk=0", r"protocol\.topk is 0, expected at least 1"),
        ("protocol.temperature=warm", r"protocol\.temperature is 'warm', expected a number"),
        ("+protocol.lr=1", r"protocol\.lr is unknown"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(evaluate, override, message):
    with pytest.raises(ValueError, match=message):
        evaluate(override)


def test_videos_too_short_to_be_scored_are_named(evaluate, tmp_path):
    for index in range(2):
        save_mask(tmp_path / f"short/Annotations/480p/rise/{index:05d}.png", np.ones((64, 96), np.uint8))
        path = tmp_path / f"short/JPEGImages/480p/rise/{index:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(path)
    make_list(tmp_path / "short/ImageSets/2017/val.txt", ["rise"])
    with pytest.raises(ValueError, match=r"rise: holds 2 frames, expected at least 3"):
        evaluate(f"dataset.root={tmp_path / 'short'}")
