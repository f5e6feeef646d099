"""Segmentation probes, filters and the ratio study as configured: data, runs and records."""

import io
import re
import shutil
from dataclasses import asdict, replace

import pytest
import torch
from PIL import Image
from rich.console import Console

import naf
from naf.data import feature_cache
from naf.data.labelled import LabelledSet
from naf.evaluation import config, pixels, probe, run_probe
from naf.evaluation.record import read_record
from naf.evaluation.run import run as run_values
from tests.evaluation.tiny_set import SIDE, TINY, evaluate, write_camvid, write_folder
from tests.helpers import CHANNELS, SMALL, Tiny

QUIET = Console(file=io.StringIO(), width=400)
NAF = "{name: naf, weights: none, " + ", ".join(f"{key}: {value}" for key, value in SMALL["naf"].items()) + "}"
SAMPLED = ["protocol=sampled", "protocol.pixels=32"]
PLAIN = {"image_size": SIDE, "target_size": SIDE, "epochs": 1}  # what a tiny run changes


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    return write_camvid(tmp_path_factory.mktemp("camvid"))


@pytest.fixture
def root(camvid, tmp_path):
    """A set of its own for each test: results and cache lie beside it."""
    shutil.copytree(camvid / "CamVid", tmp_path / "CamVid")
    return tmp_path


@pytest.fixture
def looks(monkeypatch):
    """Images that the backbone saw."""
    seen = []
    original = Tiny._features

    def look(self, image01):
        seen.append(len(image01))
        return original(self, image01)

    monkeypatch.setattr(Tiny, "_features", look)
    return seen


def stopped(*given, **more):
    raise KeyboardInterrupt


def numbers(record):
    """What a record says but for when and how fast."""
    return replace(record, seconds=0.0, peak_mib=None, finished="", command="")


def test_a_record_says_everything(root):
    (record,), failures, said = evaluate("segmentation", root, f"upsampler=[{NAF}]", "note=a trial", "seeds=3")
    assert failures == 0
    about = {key: value for key, value in asdict(record).items() if key not in ("settings", "details", "metrics")}
    assert about.pop("seconds") >= 0
    assert about.pop("peak_mib") > 0
    assert len(about.pop("checkpoint")) == 64
    assert about.pop("source") == naf.create("naf", None, **SMALL["naf"]).weights_source
    for key in ("machine", "versions", "commit", "command", "finished"):  # see test_record
        about.pop(key)
    assert about == {
        "task": "segmentation",
        "protocol": "paper",
        "deviations": PLAIN,
        "dataset": "camvid",
        "images": {"train": 4, "val": 2},
        "backbone": "Tiny",
        "stride": 4,
        "channels": CHANNELS,
        "upsampler": "naf=none",
        "seed": 3,
        "variant": "",
        "note": "a trial; 4 of 367 images; 2 of 233 images",
    }
    assert record.settings == {
        **PLAIN,
        "guidance_size": None,
        "geometry": "square",
        "upsample": "full",
        "batch_size": 2,
        "lr": 5e-4,
        "weight_decay": 1e-5,
        "schedule": "per_iteration",
        "flip": 0.5,
        "shared_order": False,
        "standardize": False,
        "pixels": None,
        "head": "linear",
        "features": "float32",
    }
    assert record.metrics.keys() == {"miou", "accuracy"}
    assert 0 < record.metrics["miou"] < 100
    assert record.details["ratio"] == 4
    assert list(record.details["class_iou"])[:2] == ["Sky", "Building"]
    assert len(record.details["class_iou"]) == len(record.details["class_pixels"]) == 11
    assert 0 < sum(record.details["class_pixels"].values()) < 2 * SIDE * SIDE  # void does not count
    (path,) = (root / "results").rglob("*.json")
    assert read_record(path) == record
    assert path.parent == root / "results/camvid/Tiny"
    assert "Tiny, naf=none, seed 3: miou " in said


@pytest.mark.parametrize("words", [[], SAMPLED, ["head=dense"]])
def test_what_is_there_is_not_computed_again(root, looks, words):
    first, failures, _ = evaluate("segmentation", root, "upsampler=nearest,bilinear", "seeds=0,1", *words)
    assert (len(first), failures) == (4, 0)
    assert looks
    looks.clear()
    again, failures, said = evaluate(
        "segmentation", root, "upsampler=nearest,bilinear", "seeds=0,1", "cache=null", *words
    )
    assert (again, failures) == (first, 0)
    assert looks == []
    assert said.count("there already") == 4
    assert not list((root / "results").rglob("*.ckpt"))
    assert not list((root / "results").rglob("pixels-*"))
    assert len({record.metrics["accuracy"] for record in first}) > 1


def test_a_lost_record_alone_is_computed_again(root):
    first, *_ = evaluate("segmentation", root, "upsampler=nearest,bilinear", "seeds=0,1")
    lost = next((root / "results").rglob("bilinear-seed1-*.json"))
    lost.unlink()
    again, _, said = evaluate("segmentation", root, "upsampler=nearest,bilinear", "seeds=0,1")
    assert said.count("there already") == 3
    assert sorted(map(str, map(numbers, again))) == sorted(map(str, map(numbers, first)))


@pytest.mark.parametrize(
    "change",
    [
        "protocol.lr=1e-3",
        "protocol.schedule=jafar_bug",
        "protocol=released",
        "head=dense",
        "limit.train=3",
        "limit.val=1",
        "cache_dtype=float16",
        "dataset.val=train",
        "backbone={_target_:tests.evaluation.tiny_set.Linear}",
    ],
)
def test_what_decides_the_figures_makes_another_run(root, change):
    evaluate("segmentation", root)
    _, failures, said = evaluate("segmentation", root, change)
    assert failures == 0
    assert "there already" not in said
    assert len(list((root / "results").rglob("*.json"))) == 2


def test_what_label_values_mean_decides_too(tmp_path):
    write_folder(tmp_path)
    words = [
        "dataset=folder",
        f"dataset.root={tmp_path}",
        "dataset.options.images='{split}/*.png'",
        f"folder={tmp_path / 'results'}",
        "cache=null",
        *TINY,
    ]
    found = []
    for options in (["classes=3"], ["classes=4"], ["classes=[a,b,c]"], ["classes=3", "ignore=[2]"]):
        changes = [f"dataset.options.{option}" for option in options]
        (record,), failures = run_values(config.load("segmentation", [*words, *changes]), QUIET)
        assert failures == 0
        found.append((record.settings["options"]["classes"], list(record.details["class_iou"])))
        pixels_of_2 = list(record.details["class_pixels"].values())[2]
        assert (pixels_of_2 == 0) == (len(options) == 2)
    three = [f"class {index}" for index in range(3)]
    assert found == [(3, three), (4, [*three, "class 3"]), (["a", "b", "c"], ["a", "b", "c"]), (3, three)]


def test_a_second_upsampler_pays_no_backbone(root, looks):
    (first,), *_ = evaluate("segmentation", root, "upsampler=nearest", "protocol.epochs=2")
    assert sum(looks) <= 2 * 4 + 2  # images and mirrored images for training, the others once
    looks.clear()
    (second,), *_ = evaluate("segmentation", root, "upsampler=bilinear", "protocol.epochs=2")
    assert looks == []
    (plain,), *_ = evaluate(
        "segmentation", root, "upsampler=bilinear", "protocol.epochs=2", "cache=null", folder=root / "uncached"
    )
    assert sum(looks) == 2 * 4 + 2
    assert numbers(plain) == numbers(second)
    assert first.metrics != second.metrics


def test_plain_protocols_have_no_deviations(root):
    """At a tiny size that a protocol of one's own sets."""
    (root / "configs/protocol").mkdir(parents=True)
    for base in ("paper", "released"):
        name = f"small_{base}"
        lines = [f"defaults: [{base}]", f"image_size: {SIDE}", f"target_size: {SIDE}", "epochs: 1"]
        (root / f"configs/protocol/{name}.yaml").write_text("\n".join(lines), encoding="utf-8")
        words = [
            "dataset=camvid",
            f"dataset.root={root}",
            f"folder={root / name}",
            "cache=null",
            *[word for word in TINY if not word.startswith("protocol.")],
            f"protocol={name}",
        ]
        (record,), _ = run_values(config.load("segmentation", words, root / "configs"), QUIET)
        assert (record.protocol, record.deviations) == (base, {})
        (record,), _ = run_values(config.load("segmentation", [*words, "protocol.flip=0"], root / "configs"), QUIET)
        assert record.deviations == {"flip": 0.0}


def test_ratio_makes_a_column_of_each_size(root):
    words = ["sizes=16,64", f"upsampler=[nearest,{NAF}]"]
    records, failures, _ = evaluate("ratio", root, *words)
    assert failures == 0
    assert [(r.variant, r.details["ratio"], r.upsampler) for r in records] == [
        ("grid 4", 8, "nearest"),
        ("grid 4", 8, "naf=none"),
        ("grid 16", 2, "nearest"),
        ("grid 16", 2, "naf=none"),
    ]
    for record in records:
        assert record.settings["image_size"] == {"grid 4": 16, "grid 16": 64}[record.variant]
        assert record.settings["target_size"] == SIDE
        assert record.deviations == {"target_size": SIDE, "epochs": 1}
        assert record.task == "ratio"
    again, _, said = evaluate("ratio", root, *words)
    assert again == records
    assert said.count("there already") == 4


@pytest.mark.parametrize("sizes", ["[]", "0", "large"])
def test_sizes_of_the_ratio_study_are_pixels(root, sizes):
    with pytest.raises(ValueError, match="expected sides of images in pixels"):
        evaluate("ratio", root, f"sizes={sizes}")


def test_filters_are_followed_by_bilinear(root):
    filtered, *_ = evaluate("filter", root, "upsampler=nearest,bilinear")
    whole, *_ = evaluate("segmentation", root, "upsampler=bilinear", folder=root / "whole")
    assert [record.task for record in filtered] == ["filter", "filter"]
    assert filtered[0].metrics == filtered[1].metrics == whole[0].metrics
    assert filtered[0].settings["upsample"] == "filter"
    assert filtered[0].deviations == PLAIN


def test_seeds_share_the_scoring_and_differ(root):
    records, *_ = evaluate("segmentation", root, "seeds=0,1,2")
    assert [record.seed for record in records] == [0, 1, 2]
    assert len({record.metrics["accuracy"] for record in records}) == 3
    alone, *_ = evaluate("segmentation", root, "seeds=2", folder=root / "alone")
    assert alone[0].metrics == records[2].metrics


def test_seeds_and_backbones_of_sampled_pixels_do_not_change_each_other(root):
    backbones = "backbone={a:{_target_:tests.helpers.Tiny},b:{_target_:tests.evaluation.tiny_set.Linear}}"
    together, failures, _ = evaluate("segmentation", root, *SAMPLED, backbones, "seeds=0,1", f"upsampler={NAF}")
    assert (len(together), failures) == (4, 0)
    for record in together:
        target = "tests.helpers.Tiny" if record.backbone == "a" else "tests.evaluation.tiny_set.Linear"
        one = f"backbone={{{record.backbone}:{{_target_:{target}}}}}"
        (alone,), *_ = evaluate(
            "segmentation", root, *SAMPLED, one, f"seeds={record.seed}", f"upsampler={NAF}", folder=root / "alone"
        )
        assert alone.metrics == pytest.approx(record.metrics, abs=0.2)  # ties that rounding breaks


def test_backbones_of_sampled_pixels_share_a_network_that_is_the_same(root, monkeypatch):
    original, made = pixels.encode, []
    monkeypatch.setattr(pixels, "encode", lambda *given: made.append(1) or original(*given))
    backbones = "backbone={a:{_target_:tests.helpers.Tiny},b:{_target_:tests.evaluation.tiny_set.Linear}}"
    records, *_ = evaluate("segmentation", root, *SAMPLED, backbones, f"upsampler={NAF}")
    assert len(records) == 2
    assert len(made) == 4 + 2  # each image once


@pytest.mark.parametrize("words", [[], SAMPLED], ids=["paper", "sampled"])
def test_weights_of_each_backbone_serve_their_backbone(root, words):
    for seed, label in enumerate("ab"):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = naf.create("naf", None, **SMALL["naf"])
        for parameter in made.parameters():
            parameter.data *= 1 + 2 * seed
        made.save_pretrained(root / "weights" / label)
    upsampler = NAF.replace("none", f"'{root}/weights/{{backbone}}'").replace("name: naf", "name: naf, label: own")
    backbones = "backbone={a:{_target_:tests.helpers.Tiny},b:{_target_:tests.helpers.Tiny}}"
    together, failures, said = evaluate("segmentation", root, *words, backbones, f"upsampler={upsampler}")
    assert failures == 0, said
    assert len({record.checkpoint for record in together}) == 2
    for record in together:
        one = f"backbone={{{record.backbone}:{{_target_:tests.helpers.Tiny}}}}"
        (alone,), *_ = evaluate(
            "segmentation", root, *words, one, f"upsampler={upsampler}", folder=root / record.backbone
        )
        assert alone.checkpoint == record.checkpoint
        assert alone.metrics == record.metrics
    assert together[0].metrics != together[1].metrics


def test_standardized_features_have_mean_0_and_deviation_1(root, monkeypatch):
    seen = {}
    original = run_probe._standardize

    def keep(setup, backbones):
        original(setup, backbones)
        (features,) = backbones.values()
        images = run_probe.batches(setup.learned, setup.learned.train, setup.protocol, [[k] for k in range(4)])
        seen["maps"] = torch.cat([features.of(example.image01) for example in images])

    monkeypatch.setattr(run_probe, "_standardize", keep)
    evaluate("segmentation", root, "protocol.standardize=true", "upsampler=nearest,bilinear")
    channels = seen["maps"].transpose(0, 1).flatten(1)
    assert channels.mean(1).abs().max() < 1e-4
    assert (channels.std(1, correction=0) - 1).abs().max() < 1e-4


@pytest.mark.parametrize("words", [[], SAMPLED], ids=["paper", "sampled"])
def test_a_failing_upsampler_does_not_stop_the_others(root, words):
    bad = "'gone=naf=/no/such/file.safetensors',{name: naf, label: odd, dim: 7},{name: naf, label: typed, dim: wide}"
    records, failures, said = evaluate("segmentation", root, f"upsampler=[nearest,{bad},bilinear]", "seeds=0,1", *words)
    assert [record.upsampler for record in records] == ["nearest", "nearest", "bilinear", "bilinear"]
    assert failures == 6
    lines = [line for line in said.splitlines() if line.startswith("failed: Tiny, ")]
    assert len(lines) == 3
    for line, word in zip(lines, ("/no/such/file.safetensors", "dim", "dim"), strict=True):
        assert word in line


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("words", [[], SAMPLED], ids=["paper", "sampled"])
def test_a_wrong_label_is_told_in_one_line(root, words, workers):
    Image.new("L", (48, 36), 77).save(root / "CamVid/trainannot/train_0002.png")
    records, failures, said = evaluate("segmentation", root, *words, f"workers={workers}")
    assert (len(records), failures) == (0, 1)
    (line,) = (line for line in said.splitlines() if "failed" in line)
    assert line.startswith("failed: Tiny, nearest: /")
    assert line.endswith("train_0002.png: value 77 is no label of camvid, expected 0 to 11")


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), OSError("disk full")])
@pytest.mark.parametrize(("words", "module", "name"), [([], probe, "encode"), (SAMPLED, pixels, "encode")])
def test_what_fails_on_the_way_is_counted_and_told(root, monkeypatch, words, module, name, error):
    original = getattr(module, name)

    def fail(upsampler, *given):
        if upsampler.name == "nearest":
            raise error
        return original(upsampler, *given)

    monkeypatch.setattr(module, name, fail)
    records, failures, said = evaluate("segmentation", root, "upsampler=nearest,bilinear", "seeds=0,1", *words)
    assert (len(records), failures) == (2, 2)
    assert f"failed: Tiny, nearest: {error}" in said


def test_a_killed_run_goes_on(root, monkeypatch):
    words = ["protocol.epochs=3", "seeds=0,1", "cache=null"]
    whole, *_ = evaluate("segmentation", root, *words, folder=root / "whole")
    monkeypatch.setattr(probe, "_SAVED_EVERY", -1.0)
    original, steps = probe.predict, []

    def stop(*given, **more):
        steps.append(1)
        if len(steps) == 9:  # six steps of the first seed, two of the second
            raise KeyboardInterrupt
        return original(*given, **more)

    monkeypatch.setattr(probe, "predict", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate("segmentation", root, *words)
    assert len(list((root / "results").rglob("*.ckpt"))) == 2
    again, *_ = evaluate("segmentation", root, *words)
    assert len(steps) == 9 + 4 + 2  # the rest of the second, and both seeds at once on two images
    assert list(map(numbers, again)) == list(map(numbers, whole))
    assert not list((root / "results").rglob("*.ckpt"))


def test_seconds_are_those_before_a_stop_too(root, monkeypatch):
    original = run_probe.score
    monkeypatch.setattr(run_probe, "score", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate("segmentation", root)
    (path,) = (root / "results").rglob("*.ckpt")
    state = torch.load(path)
    assert 0 < state["seconds"] < 100
    torch.save({**state, "seconds": 5000.0}, path)
    monkeypatch.setattr(run_probe, "score", original)
    (record,), *_ = evaluate("segmentation", root)
    assert 5000 <= record.seconds < 5100


def test_what_was_drawn_for_a_backbone_is_no_other_ones_of_its_label(root, monkeypatch):
    both = ("{_target_:tests.helpers.Tiny}", "{_target_:tests.evaluation.tiny_set.Linear}")
    first, second = ("backbone={a:" + both[0] + ",b:" + both[1] + "}", "backbone={b:" + both[0] + ",a:" + both[1] + "}")
    whole, *_ = evaluate("segmentation", root, *SAMPLED, second, folder=root / "whole")
    original = run_probe.score_many
    monkeypatch.setattr(run_probe, "score_many", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate("segmentation", root, *SAMPLED, first)
    monkeypatch.setattr(run_probe, "score_many", original)
    found, *_ = evaluate("segmentation", root, *SAMPLED, second)
    assert list(map(numbers, found)) == list(map(numbers, whole))
    assert found[0].metrics != found[1].metrics


def test_files_are_looked_at_once_for_all_runs(root, monkeypatch):
    looks, original = [], LabelledSet.files

    def look(self, index):
        looks.append(index)
        return original(self, index)

    monkeypatch.setattr(LabelledSet, "files", look)
    evaluate("segmentation", root, "upsampler=nearest,bilinear", "seeds=0,1")
    assert len(looks) == 4 + 2


def test_a_killed_gathering_goes_on(root, monkeypatch):
    monkeypatch.setattr(feature_cache, "_SHARD_BYTES", 1)
    whole, *_ = evaluate("segmentation", root, *SAMPLED, folder=root / "whole")
    original, calls = pixels.encode, []

    def stop(*given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(pixels, "encode", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate("segmentation", root, *SAMPLED)
    assert len(list((root / "results").rglob("pixels-*"))) == 1
    again, *_ = evaluate("segmentation", root, *SAMPLED)
    assert len(calls) == 3 + 2 + 2  # two training images were left, two are scored
    assert list(map(numbers, again)) == list(map(numbers, whole))
    assert not list((root / "results").rglob("pixels-*"))


def test_sanity_is_small_and_apart(root):
    write_camvid(root, train=7, test=5)
    (record,), *_ = evaluate("segmentation", root, "sanity=true", "protocol.epochs=9", "seeds=4,5")
    assert record.images == {"train": 4, "val": 2}
    assert record.settings["epochs"] == 1
    assert record.seed == 4
    assert "4 images taken of 7" in record.note
    (path,) = (root / "results").rglob("*.json")
    assert path.is_relative_to(root / "results/sanity")
    (record,), *_ = evaluate("segmentation", root, "sanity=true", "limit.val=1")
    assert record.images == {"train": 4, "val": 1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["upsampler=naff"], "upsampler 'naff' is unknown, did you mean"),
        (["backbone={_target_:tests.helpers.Tinny}"], "Tinny"),
        (["device=foo"], "device is 'foo', expected auto or a device of this machine"),
        (["cache_dtype=int8"], "cache_dtype is 'int8', expected one of float16, bfloat16, float32"),
        (["+protocol.foo=1"], "protocol.foo is unknown, expected one of"),
        (["protocol.epochs=2.5"], "protocol.epochs is 2.5, expected a whole number"),
        (["dataset.val=tset"], "tset"),
        (["dataset.root=/no/such/folder"], "/no/such/folder"),
        (["dataset.key=camvit"], "dataset is 'camvit', expected one of"),
        (["+dataset.options.curated=true"], "camvid has no option 'curated'"),
    ],
)
def test_errors_come_before_any_work_in_one_line(root, looks, words, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        evaluate("segmentation", root, *words)
    assert "\n" not in str(caught.value)
    assert looks == []
    assert not (root / "results").exists()


def test_a_folder_that_cannot_hold_results_is_refused_before_any_work(root, looks):
    (root / "file").touch()
    with pytest.raises(ValueError, match=re.escape(f"expected one that can be written: {root / 'file'} cannot")):
        evaluate("segmentation", root, f"folder={root / 'file' / 'results'}")
    assert looks == []


def test_a_damaged_record_is_named_with_what_to_do(root):
    evaluate("segmentation", root)
    path = next((root / "results").rglob("*.json"))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"no evaluation record: .*; mend it, or remove it") as caught:
        evaluate("segmentation", root)
    assert str(path) in str(caught.value)
    path.unlink()
    evaluate("segmentation", root)
    assert path.exists()
