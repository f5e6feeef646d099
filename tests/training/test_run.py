"""Runs from beginning to end: their folder, sources, data, dry runs, sweeps."""

import csv
import io
import json
import logging
import math

import pytest
import yaml
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from naf.training import build, config
from naf.training.photos import DataError
from naf.training.run import run
from naf.training.sanity import check_training
from naf.training.sources import PixelSource
from naf.training.sweep import plan_sweep, sweep
from naf.training.table import Row, write_table
from naf.training.trainer import make_trainer
from tests.training.tiny_run import STEPS, assert_same, load, losses, overrides, photos, quiet_console

PEERS = ("jafar", "anyup", "featup", "lift", "loftup")
EXPERIMENTS = sorted(path.stem for path in (config.PACKAGE_FOLDER / "experiment").glob("*.yaml"))


def label_maps(folder):
    """Four stripes for each of the photos."""
    folder.mkdir()
    for index in range(6):
        Image.linear_gradient("L").resize((48, 40)).point(lambda x: x // 64).save(folder / f"{index}.png")
    return folder


def test_a_run_leaves_everything_in_its_folder(tmp_path):
    folder = tmp_path / "a"
    changes = ["logger=tensorboard", "pictures=2", "pictures_every=3", "keep_checkpoints=2", "stages.first.steps=7"]
    console = quiet_console()
    assert run(load(folder, *changes), console, stop=4) == {}
    result = run(load(folder, *changes), console)
    names = ["checkpoints", "config.yaml", "metrics.csv", "result.json", "samples", "tensorboard"]
    assert sorted(path.name for path in folder.iterdir()) == names
    kept = ["last.ckpt", "step=0000006.ckpt", "step=0000007.ckpt"]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == kept
    assert json.loads((folder / "result.json").read_text()) == result
    drawn = [f"{step:07d}_{number}.png" for step in (3, 6, 7) for number in range(2)]
    assert sorted(path.name for path in (folder / "samples").iterdir()) == drawn
    with Image.open(folder / "samples" / drawn[0]) as sheet:
        assert sheet.width > sheet.height
    assert result["train_loss"] == pytest.approx(sum(losses(folder).values()) / 7)
    assert list(losses(folder, "val/main/loss")) == [4, 7]
    assert result["validation"]["val/main/loss"] == losses(folder, "val/main/loss")[7]
    log = EventAccumulator(str(folder / "tensorboard")).Reload()
    logged = {event.step: event.value for event in log.Scalars("train/loss")}
    assert_same(logged, losses(folder), rel=1e-6)
    assert len(log.Scalars("train/loss")) == 7
    assert [event.step for event in log.Scalars("val/over_bilinear")] == [4, 7]
    assert sorted(log.Tags()["images"]) == ["photo 0", "photo 1"]
    said = console.file.getvalue()
    assert "7 steps, naf with" in said
    assert "from step 4 of 7, naf with" in said
    assert "step 7/7: loss" in said
    assert "held-out error over that of bilinear: main" in said


def test_on_a_terminal_a_bar_shows_the_time_left(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    run(load(tmp_path / "a", "trainer.precision=bf16-mixed"), console)
    assert "0:00:00 left" in console.file.getvalue()
    assert f"{STEPS}/{STEPS}" in console.file.getvalue()
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "a").values())


def test_training_lowers_the_loss(tmp_path):
    """All photos at each step and no random scale, so that steps compare."""
    changes = ["stages.first.steps=15", "stages.first.batch_size=6", "upsampler.rope_rescale=1.0", "data.val=null"]
    run(load(tmp_path / "a", *changes, "checkpoint_every=15", "validate_every=15"), quiet_console())
    found = list(losses(tmp_path / "a").values())
    assert found[-1] < 0.8 * found[0]


@pytest.mark.parametrize("name", PEERS)
def test_peers_train_with_the_same_command(name, tmp_path):
    small = {"jafar": "qk_dim=16", "anyup": "qk_dim=16", "featup": "key_dim=4"}
    tiny = [line for line in overrides(tmp_path / "a") if not line.startswith(("upsampler.", "stages="))]
    changes = ["stages.first.steps=2", "validate_every=2", "stages.first.geometry.guidance_max=32"]
    changes += [f"upsampler.{small[name]}"] if name in small else []
    if name == "loftup":
        changes += [f"data.photos.segments='{label_maps(tmp_path / 'labels')}/{{stem}}.png'"]
    result = run(config.load([f"experiment={name}", *tiny, *changes]), quiet_console())
    assert result["steps"] == 2
    found = losses(tmp_path / "a")
    assert len(found) == 2
    assert losses(tmp_path / "a", "train/grad_norm")[1] > 0
    assert result["validation"]["val/main/over_bilinear"] > 0


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_a_valid_configuration(name):
    loaded = config.load([f"experiment={name}", "data.root=photos"])
    assert loaded.name == name
    assert loaded.folder == f"out/train/{name}"


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith("ablation")])
def test_every_variant_of_an_ablation_can_be_made(name):
    values = config.plain(config.load([f"experiment={name}", "data.root=photos"]))
    ((key, choices),) = values["sweep"].items()
    argument = key.removeprefix("upsampler.")
    for choice in map(yaml.safe_load, choices.split(",")):
        given = {**values, "upsampler": {**values["upsampler"], argument: choice}}
        assert build.make_upsampler(given, {"main": PixelSource()}).config[argument] == choice


class WandbLogger(DummyLogger):
    """Keeps its arguments: the package of the real one need not be there."""

    def __init__(self, **arguments):
        super().__init__()
        self.arguments = arguments


def test_a_run_that_goes_on_is_one_at_weights_and_biases(tmp_path):
    values = config.plain(load(tmp_path / "a", f"+logger.wandb={{_target_:{__name__}.WandbLogger,project:naf}}"))
    (tmp_path / "a").mkdir()
    begun, gone_on, anew = (
        make_trainer(values, quiet_console(), step, stop=5, total=5, validates=False).loggers[1].arguments
        for step in (0, 2, 0)
    )
    assert begun == gone_on
    assert begun["id"] != anew["id"]
    assert (begun["project"], begun["config"]) == ("naf", values)


def test_several_sources_take_turns_and_are_validated_each(tmp_path):
    labels = label_maps(tmp_path / "labels")
    train = tmp_path / "photos/train"
    segments = (
        "+sources.labels={_target_:naf.training.sources.SegmentSource,stride:2,channels:8,weight:1.0,"
        f"photos:{{root:'{train}',segments:'{labels}/{{stem}}.png'}},"
        f"val:{{root:'{train}',segments:'{labels}/{{stem}}.png'}},"
        "geometry:{image_size:32,reduced:[0.25,0.5],guidance_ratio:2.0,guidance_max:32}}"
    )
    pixels = "+sources.pixels={_target_:naf.training.sources.PixelSource,stride:4}"
    changes = [segments, pixels, "stages.first.steps=8", "sources.main.normalize_channels=true", "pictures=3"]
    result = run(load(tmp_path / "a", *changes, "validate_every=8", "pictures_every=8"), quiet_console())
    kinds = ("labels", "main", "pixels")
    assert sorted(key for key in result["validation"] if key.endswith("/loss")) == [f"val/{k}/loss" for k in kinds]
    relative = [result["validation"][f"val/{kind}/over_bilinear"] for kind in kinds]
    assert result["validation"]["val/over_bilinear"] == pytest.approx(sum(relative) / 3)
    assert len(list((tmp_path / "a/samples").iterdir())) == 3


def test_broken_images_are_passed_over_and_nothing_but_broken_ones_is_an_error(tmp_path, caplog):
    train = photos(tmp_path / "photos/train", 12)
    photos(tmp_path / "photos/val", 2)
    for index in (1, 4):
        (train / f"{index}.png").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        assert run(load(tmp_path / "a", "stages.first.batch_size=4"), quiet_console())["steps"] == STEPS
    assert "1.png" in caplog.text
    for path in train.iterdir():
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"^\d+ of the \d+ images tried in .* cannot be read") as caught:
        run(load(tmp_path / "b", "data.workers=1"), quiet_console())
    assert "\n" not in str(caught.value)  # no traceback of the worker
    with pytest.raises(DataError, match="expected a folder of images"):
        run(load(tmp_path / "c", f"data.root={tmp_path / 'nowhere'}"), quiet_console())


def test_weights_to_begin_with_are_taken(tmp_path):
    from naf.training.export import export

    run(load(tmp_path / "a"), quiet_console())
    export(tmp_path / "a", tmp_path / "begun.safetensors", dtype="float32")
    changes = [f"weights={tmp_path / 'begun.safetensors'}", "stages.first.steps=2", "stages.first.lr=1e-9"]
    first = run(load(tmp_path / "a"), quiet_console())["validation"]["val/main/loss"]
    again = run(load(tmp_path / "b", *changes, "validate_every=2"), quiet_console())["validation"]["val/main/loss"]
    assert again == pytest.approx(first, rel=1e-4)


def test_a_dry_run_goes_through_everything(tmp_path):
    console, folder = quiet_console(), tmp_path / "a/sanity"
    (folder / "whole").mkdir(parents=True)
    (folder / "whole/result.json").write_text("{}")  # of an earlier dry run
    changes = ["sanity=true", "resume=never", "pictures=1", "+stages.second.steps=100", "+stages.third=null"]
    check_training(load(tmp_path / "a", *changes), console)
    assert "all is well: 4 steps of 2 stages" in console.file.getvalue()
    assert (folder / "upsampler.safetensors").exists()
    assert (folder / "upsampler.md").exists()
    assert len(list((folder / "whole/samples").iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("upsampler.name=bilinear", "nothing to be trained"),
        ("upsampler.dim=17", "expected a multiple of 16"),
        ("+upsampler.depth=2", "no argument 'depth'"),
        ("optimizer.schedule=linear", "expected one of constant"),
        ("optimizer.algorithm._target_=torch.optim.Nothing", r"optimizer\.algorithm cannot be made"),
        ("+optimizer.algorithm.rho=2", r"optimizer\.algorithm cannot be made.*rho"),
        ("objective._target_=torch.nn.ReLU", "expected a naf.training.objective.Objective"),
        ("+sources.other={stride:2}", r"sources\.other has no _target_"),
        ("sources.main.backbone={_target_:tests.helpers.Nothing}", r"sources\.main cannot be made.*Nothing"),
        ("sources.main=null", "sources is empty"),
        ("+sources.main.geometry.sizes=2", r"sources\.main\.geometry\.sizes is unknown"),
        ("data.root=null", r"data\.root is missing"),
        ("+data.photos.mirror=true", r"data\.photos.*mirror"),
        ("+optimizer.momentum=1", r"optimizer\.momentum is unknown"),
        ("optimizer.clip_norm=much", r"optimizer\.clip_norm is 'much'"),
        ("validate_every=3", "a multiple of checkpoint_every = 2"),
        ("keep_checkpoints=0", "keep_checkpoints is 0"),
        ("data.val_photos=0", r"data\.val_photos is 0"),
        ("resume=no", "expected auto or never"),
        ("trainer.precision=16-mixed", "expected auto, 32-true, bf16-mixed"),
        ("+trainer.max_steps=3", "trainer.max_steps cannot be given"),
        ("+trainer.gradient_clip_val=1", "trainer.gradient_clip_val cannot be given.*see optimizer.clip_norm"),
        ("+trainer.speed=3", "trainer: .*speed"),
        ("trainer.accelerator=abacus", "trainer: .*abacus"),
        ("data.cache_dtype=int8", "expected one of float16"),
        ("+logger.other={_target_:naf.nothing}", r"^logger\.other cannot be made"),
    ],
)
def test_what_does_not_hold_together_is_said_in_one_line(change, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        run(load(tmp_path / "a", f"data.cache={tmp_path / 'cache'}", change), quiet_console())
    assert "\n" not in str(caught.value)


def test_a_sweep_runs_all_combinations_once_and_makes_one_table(tmp_path):
    given = overrides(tmp_path / "s", "upsampler.dim=16,32", "seed=range(0,2)", "stages.first.steps=1", "data.val=null")
    given = [line for line in given if line != "upsampler.dim=16"]
    rows = sweep(given, quiet_console())
    assert [row.varied for row in rows] == [{"upsampler.dim": d, "seed": s} for d in ("16", "32") for s in ("0", "1")]
    assert not any(row.failure for row in rows)
    assert rows[0].result["parameters"] == rows[1].result["parameters"] < rows[2].result["parameters"]
    with (tmp_path / "s/table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(line["upsampler.dim"], line["seed"]) for line in table] == [
        ("16", "0"),
        ("16", "1"),
        ("32", "0"),
        ("32", "1"),
    ]
    for line, row in zip(table, rows, strict=True):
        assert float(line["train loss"]) == pytest.approx(row.result["train_loss"], rel=1e-4)
        assert int(line["parameters"]) == row.result["parameters"]
    markdown = (tmp_path / "s/table.md").read_text().splitlines()
    assert len(markdown) == 2 + 4
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "s").glob("*/result.json"))]
    assert sweep(given, quiet_console()) == rows
    assert times == [path.stat().st_mtime_ns for path in sorted((tmp_path / "s").glob("*/result.json"))]


def test_a_failed_run_does_not_stop_a_sweep(tmp_path):
    given = overrides(tmp_path / "s", "upsampler.heads_attn=3,1", "stages.first.steps=2")
    given = [line for line in given if line != "upsampler.heads_attn=1"]
    rows = sweep(given, quiet_console())
    assert [bool(row.failure) for row in rows] == [True, False]
    assert "expected a multiple of heads_attn" in (tmp_path / "s/table.md").read_text()


def test_an_experiment_says_what_varies_unless_the_command_does():
    jobs = plan_sweep(["experiment=ablation_encoder", "data.root=photos"])
    assert [job.config.upsampler.encoder for job in jobs] == ["dual", "pixel", "inception", "resnet"]
    assert jobs[1].config.folder == "out/train/ablation_encoder/upsampler.encoder=pixel"
    jobs = plan_sweep(["experiment=ablation_encoder", "data.root=photos", "upsampler.encoder=pixel", "seed=0,1"])
    assert [job.varied for job in jobs] == [{"seed": "0"}, {"seed": "1"}]
    jobs = plan_sweep(["data.root=a b", 'name="it\'s"', "backbone={_target_:a.B,x:'1'},{_target_:a.B,x:'2'}"])
    assert [job.config.backbone.x for job in jobs] == ["1", "2"]
    assert config.load(jobs[0].overrides).folder == jobs[0].config.folder
    with pytest.raises(ValueError, match="nothing varies"):
        plan_sweep(["data.root=photos"])


def test_tables_show_each_source_and_failures(tmp_path):
    validation = {"val/a/over_bilinear": 0.5, "val/b/over_bilinear": 0.7, "val/over_bilinear": 0.6}
    rows = [Row({"x": "1"}, {"train_loss": 0.25, "validation": validation}), Row({"x": "2"}, {}, "a | b")]
    write_table(rows, tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2].startswith("| 1 | 0.25 | 0.6 | 0.5 | 0.7 |")
    assert lines[3].endswith(r"a \| b |")
