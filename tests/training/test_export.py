"""Exported weights: they say what they are, equal what was trained, and are written whole or not at all."""

import contextlib
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from skimage import data

import naf
from naf import weights
from naf.registry import entry
from naf.training import parity as parity_module
from naf.training.export import PARITY, export, export_upsampler
from naf.training.parity import parity, reduced
from naf.weight_record import WeightRecord
from naf.weight_writer import write_weights
from naf.weights import WeightsError
from tests.helpers import NAMES, Tiny, config_of, randn, relative_error, small

ROOT = Path(__file__).parents[2]
LEARNED = [name for name in NAMES if entry(name).needs_weights]
ABOUT = {"data": "ten photos", "backbones": "tiny", "licence": "apache-2.0"}


@pytest.fixture(autouse=True)
def _small_photo(monkeypatch):
    """Parity on a quarter of the pixels: it is the machinery that is tested."""
    monkeypatch.setattr(parity_module, "SIDE", 112)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def backbone_of(name):
    return {"backbone": Tiny()} if entry(name).needs_backbone else {}


# Round trip ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEARNED)
def test_a_file_gives_the_upsampler_back_without_its_configuration(tmp_path, name):
    trained, path = small(name), tmp_path / "own.safetensors"
    done = export_upsampler(trained, path, about=ABOUT, dtype="float32")
    assert (done.dtype, done.parity) == (torch.float32, 0.0)
    restored = naf.create(name, weights=path, **backbone_of(name))
    assert same(restored.state_dict(), trained.state_dict())
    assert restored.config == trained.config
    assert restored.record.about["data"] == "ten photos"
    assert restored.weights_source == str(path)
    assert files_in(tmp_path) == ["own.md", "own.safetensors"]


@pytest.mark.parametrize("name", ["naf", "naf++", "jafar", "lift", "featup"])
def test_a_half_precision_file_fills_a_float32_upsampler_as_far_as_parity_says(tmp_path, name):
    trained, path = small(name), tmp_path / "half.safetensors"
    done = export_upsampler(trained, path, about=ABOUT, dtype="float16")
    restored = naf.create(name, weights=path, **backbone_of(name))
    for key, value in restored.state_dict().items():
        assert value.dtype == trained.state_dict()[key].dtype
    stored = load_file(path)
    large = {key for key, value in trained.named_parameters() if value.numel() >= 1024}
    assert {key for key, value in stored.items() if value.dtype == torch.float16} == large
    image, features, size = randn(1, 3, 32, 32), randn(1, 8, 4, 4), (32, 32)
    with torch.no_grad():
        difference = relative_error(restored(image, features, size), trained(image, features, size))
    assert difference <= 20 * done.parity + 1e-6  # another image, but of the same order
    assert metadata_of(path)["dtype"].startswith("float16")


def test_the_periods_of_rope_stay_exact(tmp_path):
    trained, path = small("naf", rope_base=37.0), tmp_path / "half.safetensors"
    export_upsampler(trained, path, about={}, dtype="bfloat16")
    periods = "image_encoder.rope.periods"
    assert torch.equal(load_file(path)[periods], trained.state_dict()[periods])
    assert torch.equal(naf.create("naf", weights=path).state_dict()[periods], trained.state_dict()[periods])


def test_the_file_says_what_it_is(tmp_path):
    export_upsampler(small("naf"), tmp_path / "a.safetensors", about=ABOUT)
    metadata = metadata_of(tmp_path / "a.safetensors")
    assert (metadata["upsampler"], metadata["format_version"], metadata["data"]) == ("naf", "1", "ten photos")
    config = json.loads(metadata["config"])
    assert (config["dim"], config["img_layers"], config["heads_attn"]) == (32, 1, 4)
    assert "backbone" not in config


# dtype --------------------------------------------------------------------------------------------------------------


def wide(scale):
    """A small NAF whose context branch ends in a large convolution before a norm, which undoes the scale."""
    upsampler = naf.create("naf", weights=None, dim=32, img_layers=1)
    with torch.no_grad():
        first = upsampler.image_encoder.sem_encoder[1].conv1
        first.weight *= scale
        first.bias *= scale
    return upsampler


def test_auto_takes_float16_where_outputs_stay(tmp_path):
    upsampler = wide(1.0)
    done = export_upsampler(upsampler, tmp_path / "a.safetensors", about={})
    assert done.dtype == torch.float16
    assert 0 < done.parity <= PARITY
    assert done.parity == parity(upsampler, reduced(upsampler, torch.float16))


def test_auto_never_takes_what_float16_cannot_hold(tmp_path):
    upsampler = wide(1e7)
    assert parity(upsampler, reduced(upsampler, torch.float16)) == torch.inf
    done = export_upsampler(upsampler, tmp_path / "a.safetensors", about={})
    assert done.dtype in (torch.bfloat16, torch.float32)
    assert done.parity <= PARITY
    with pytest.raises(ValueError, match="float16 cannot hold"):
        export_upsampler(upsampler, tmp_path / "b.safetensors", about={}, dtype="float16")
    assert files_in(tmp_path) == ["a.md", "a.safetensors"]


def test_auto_takes_bfloat16_where_only_float16_fails(tmp_path):
    upsampler = wide(1e7)
    with torch.no_grad():
        for parameter in upsampler.parameters():
            parameter.copy_(parameter.bfloat16())
    done = export_upsampler(upsampler, tmp_path / "a.safetensors", about={})
    assert (done.dtype, done.parity) == (torch.bfloat16, 0.0)


def test_auto_takes_float32_where_nothing_less_will_do(tmp_path, monkeypatch):
    monkeypatch.setattr("naf.training.export.PARITY", 1e-12)
    done = export_upsampler(wide(1.0), tmp_path / "a.safetensors", about={})
    assert (done.dtype, done.parity) == (torch.float32, 0.0)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    upsampler = wide(1.0)
    with torch.no_grad():
        upsampler.image_encoder.encoder[0].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        export_upsampler(upsampler, tmp_path / "a.safetensors", about={}, dtype="float32")
    assert files_in(tmp_path) == []


# What the caller says against what the file says --------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "naf.safetensors"
    export_upsampler(small("naf", kernel_size=5), path, about=ABOUT, dtype="float32")
    return path


def test_an_argument_that_agrees_is_no_conflict(file):
    assert naf.create("naf", weights=file, dim=32).dim == 32


def test_an_argument_that_contradicts_the_file_is_refused(file):
    with pytest.raises(ValueError, match=rf"dim is 64, but checkpoint {re.escape(str(file))} needs 32"):
        naf.create("naf", weights=file, dim=64)
    with pytest.raises(ValueError, match=r"heads_attn is 1.*needs 4"):  # fits by its shapes
        naf.create("naf", weights=file, heads_attn=1)


def test_options_of_the_call_are_the_callers(file):
    assert naf.create("naf", weights=file).kernel_size == 5
    upsampler = naf.create("naf", weights=file, neighborhood="cell", kernel_size=7)
    assert (upsampler.neighborhood, upsampler.kernel_size, upsampler.dim) == ("cell", 7, 32)


def test_calling_options_are_arguments():
    for name in naf.list_upsamplers():
        assert set(entry(name).cls.calling_options) <= set(entry(name).options)


def test_weights_of_another_method_are_refused(file):
    with pytest.raises(WeightsError, match="holds weights of 'naf', not of 'jafar'"):
        naf.create("jafar", weights=file)


def test_a_name_that_stands_for_another_configuration_is_refused(file):
    with pytest.raises(ValueError, match=r"dim is 768, but .* needs 32"):
        naf.create("naf++", weights=file)


def test_a_file_of_a_variant_of_the_method_brings_the_variant(tmp_path):
    path = tmp_path / "a.safetensors"
    export_upsampler(small("naf++"), path, about={}, dtype="float32")
    assert naf.create("naf++", weights=path).config == small("naf++").config
    assert naf.create("naf", weights=path).dim == 48


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": '{"dim": 32, "colour": 1}'}, "arguments that 'naf' does not have here: colour"),
        ({"config": "{"}, "is no JSON"),
        ({"config": "[1]"}, "is a list, expected an object"),
        ({"format_version": "2"}, "format version 2, expected at most 1"),
        ({"format_version": "new"}, "format version new"),
        ({"upsampler": "unheard-of"}, "holds weights of 'unheard-of'"),
    ],
)
def test_metadata_that_is_damaged_or_newer_is_refused(tmp_path, changes, message):
    path = tmp_path / "a.safetensors"
    state = small("naf").state_dict()
    save_file(state, path, {"format_version": "1", "upsampler": "naf", "config": '{"dim": 32}', **changes})
    with pytest.raises(WeightsError, match=message):
        naf.create("naf", weights=path)


def test_an_older_file_means_the_defaults_of_arguments_that_came_later(tmp_path):
    path, old = tmp_path / "a.safetensors", {"format_version": "1", "config": '{"dim": 32, "img_layers": 1}'}
    save_file(small("naf").state_dict(), path, {**old, "upsampler": "naf"})
    assert naf.create("naf", weights=path).config == naf.create("naf", None, dim=32, img_layers=1).config
    with pytest.raises(ValueError, match=r"interleave is True, but .* needs False"):
        naf.create("naf", weights=path, interleave=True)
    save_file(small("naf+").state_dict(), path, {**old, "upsampler": "naf+"})
    for name in ("naf", "naf+"):
        assert naf.create(name, weights=path).config == small("naf+").config


def test_metadata_of_other_programs_mean_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(small("naf").state_dict(), path, {"format": "pt", "config": "whatever"})
    assert naf.create("naf", weights=path, **config_of("naf")).record is None


# Embedded files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def embedded(file, monkeypatch):
    monkeypatch.setattr(weights, "embedded_path", lambda name: file if name == "naf" else None)
    return file


@pytest.mark.parametrize("source", ["auto", "embedded"])
def test_embedded_weights_bring_their_configuration(embedded, source, caplog):
    upsampler = naf.create("naf", weights=source)
    assert (upsampler.dim, upsampler.kernel_size, upsampler.weights_source) == (32, 5, "embedded")
    assert upsampler.record.about["data"] == "ten photos"
    assert not caplog.records


def test_embedded_weights_of_another_configuration_are_not_taken_in_silence(embedded, caplog):
    upsampler = naf.create("naf", dim=64, img_layers=1)
    assert (upsampler.weights_source, upsampler.record, upsampler.kernel_size) == ("untrained (seed 0)", None, 9)
    assert len(caplog.records) == 1
    with pytest.raises(ValueError, match="dim is 64, but checkpoint embedded needs 32"):
        naf.create("naf", weights="embedded", dim=64)


@pytest.mark.parametrize(
    "config",
    [{"heads_attn": 1}, {"interleave": True}, {"encoder": "resnet"}, {"key_pooling": "max"}, {"position": "none"}],
    ids=str,
)
def test_embedded_weights_are_not_taken_where_only_their_shapes_fit(embedded, caplog, config):
    assert naf.create("naf", **config).weights_source == "untrained (seed 0)"
    assert len(caplog.records) == 1
    with pytest.raises(ValueError, match=f"{next(iter(config))} is .*, but checkpoint embedded needs"):
        naf.create("naf", weights="embedded", **config)


def test_naf_plus_finds_its_half_precision_file(tmp_path, monkeypatch, caplog):
    path = tmp_path / "naf+.safetensors"
    export_upsampler(small("naf+"), path, about=ABOUT, dtype="float16")
    assert 'naf.create("naf+", weights="naf+.safetensors")' in path.with_suffix(".md").read_text()
    monkeypatch.setattr(weights, "embedded_path", lambda name: tmp_path / f"{name}.safetensors")
    in_hub = torch.hub.load(str(ROOT), "naf_plus", source="local", pretrained=True)
    for upsampler in (naf.create("naf+"), in_hub, naf.create("naf+", neighborhood="official")):
        assert (upsampler.weights_source, upsampler.record.card) == ("embedded", tmp_path / "naf+.md")
        assert {value.dtype for value in upsampler.state_dict().values()} == {torch.float32}
        assert {**upsampler.config, "neighborhood": "cell"} == small("naf+").config
    assert upsampler.neighborhood == "official"
    assert not caplog.records


# Runs of `naf train` ------------------------------------------------------------------------------------------------

SETTINGS = {
    "name": "tiny",
    "folder": "out/train/tiny",
    "backbone": {"_target_": "tests.helpers.Tiny"},
    "seed": 5,
    "upsampler": {"name": "jafar", "qk_dim": 16, "v_dim": None},
    "objective": {"_target_": "naf.training.l2.L2"},
    "stages": {
        "first": {"steps": 30, "batch_size": 4, "lr": 2e-4, "geometry": {"image_size": 512, "reduced": 0.5}},
        "second": {"steps": 3, "batch_size": 2, "lr": 1e-4},
        "left_out": {"steps": 0, "batch_size": 2, "lr": 1e-4},
    },
    "sources": {
        "main": {"_target_": "a.BackboneSource", "backbone": "vit_tiny_patch16", "normalize_channels": True},
        "other": {
            "_target_": "a.BackboneSource",
            "backbone": {"_target_": "b.SqueezeNet", "weights": "/home/me/secret/net.safetensors", "layer": "fire9"},
            "photos": {"root": "../shared/data/CamVid/train"},
        },
        "maps": {"_target_": "a.LabelMaps", "weight": 0.5},
    },
    "optimizer": {"weight_decay": 1e-5, "schedule": "constant", "clip_norm": None},
    "data": {"root": ["/home/me/photos/imagenet", "photos/bsds"], "val": None},
}
RESULT = {
    "steps": 33,
    "train_loss": 0.25,
    "validation": {"val/over_bilinear": 0.71},
    "seconds": 12.5,
    "commit": "abc1234",
    "command": "naf train upsampler=jafar",
}


def write_run(folder, settings=SETTINGS, result=RESULT, **checkpoint):
    """A folder as `naf train` leaves it."""
    (folder / "checkpoints").mkdir(parents=True)
    state = {f"upsampler.{key}": value for key, value in small("jafar").state_dict().items()}
    content = {
        "epoch": 1,
        "global_step": 33,
        "pytorch-lightning_version": "2.6",
        "state_dict": {**state, "objective.scale": torch.ones(1), "sources.main.mean": torch.zeros(3)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(33.0)}}}],
        "callbacks": {"ModelCheckpoint": {"best_model_path": "x"}},
        "upsampler": {"name": "jafar", "config": small("jafar").config},
        **checkpoint,
    }
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_a_run_is_exported_with_its_history(tmp_path):
    run, path = write_run(tmp_path / "run"), tmp_path / "out.safetensors"
    (tmp_path / "linear_probe.json").write_text(json.dumps({"camvid": {"naf": {"mIoU": 41.3}}}))
    export(run, path, evaluation=[tmp_path / "linear_probe.json"], licence_note="Photos: research only.")
    restored = naf.create("jafar", weights=path)
    assert restored.config == small("jafar").config
    metadata = metadata_of(path)
    assert (metadata["steps"], metadata["seed"], metadata["commit"]) == ("33", "5", "abc1234")
    assert metadata["command"] == "naf train upsampler=jafar"
    assert metadata["data"] == "photos/imagenet, photos/bsds, CamVid/train"
    assert metadata["backbones"] == (
        "vit_tiny_patch16 (normalize_channels=True); SqueezeNet(weights=net.safetensors, layer=fire9); "
        "LabelMaps (weight=0.5)"
    )
    stages = "30 steps (batch_size=4, lr=0.0002, image_size=512, reduced=0.5); 3 steps (batch_size=2, lr=0.0001)"
    assert metadata["stages"] == stages
    assert metadata["optimizer"] == "weight_decay=1e-05, schedule=constant"
    assert metadata["losses"] == "L2"
    card = path.with_suffix(".md").read_text()
    for part in (*(metadata[key] for key in ("data", "stages", "commit", "command", "parity")), "0.71", "41.3"):
        assert part in card
    assert "### linear probe" in card
    assert "Weights: apache-2.0. Photos: research only." in card
    assert "secret" not in card


def test_a_run_that_is_not_finished_is_exported_too(tmp_path):
    run = write_run(tmp_path / "run", result=None, global_step=7)
    export(run, tmp_path / "out.safetensors")
    metadata = metadata_of(tmp_path / "out.safetensors")
    assert metadata["steps"] == "7"
    assert "commit" not in metadata


def test_a_checkpoint_from_the_middle_of_a_run_does_not_boast_of_its_end(tmp_path):
    run = write_run(tmp_path / "run", global_step=20)
    export(run / "checkpoints" / "last.ckpt", tmp_path / "out.safetensors")
    metadata = metadata_of(tmp_path / "out.safetensors")
    assert (metadata["steps"], metadata["commit"]) == ("20", "abc1234")
    assert "seconds" not in metadata
    assert "0.71" not in (tmp_path / "out.md").read_text()


def test_a_checkpoint_that_does_not_say_its_upsampler_is_helped_by_the_configuration(tmp_path):
    run, path = write_run(tmp_path / "run", upsampler=None), tmp_path / "out.safetensors"
    with pytest.raises(WeightsError, match="wrong shape"):  # v_dim followed from the backbone
        export(run, path)
    export(run, path, config={"v_dim": 8})
    assert naf.create("jafar", weights=path).config == small("jafar").config
    bare = write_run(tmp_path / "bare", settings={}, result=None, upsampler=None)
    with pytest.raises(ValueError, match="does not say which upsampler it holds"):
        export(bare, path, overwrite=True)
    export(bare, path, name="jafar", config={"v_dim": 8, "qk_dim": 16}, overwrite=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "naf"}, "upsampler is 'naf', but .* holds 'jafar'"),
        ({"config": {"v_dim": 16}}, "v_dim is 16, but .* was trained with 8"),
        ({"config": {"colour": 16}}, "no argument 'colour'"),
        ({"dtype": "int8"}, "dtype is 'int8', expected one of auto"),
        ({"licence": "Free for all"}, "expected an identifier"),
    ],
)
def test_what_contradicts_a_run_is_refused(tmp_path, arguments, message):
    run = write_run(tmp_path / "run")
    with pytest.raises((ValueError, TypeError), match=message):
        export(run, tmp_path / "out.safetensors", **arguments)
    assert files_in(tmp_path) == ["run"]


class Unwelcome:
    """What a checkpoint may not hold."""


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "checkpoints/last.ckpt").unlink(), "holds neither"),
        (lambda run: (run / "checkpoints/last.ckpt").write_bytes(b"half"), "last.ckpt"),
        (
            lambda run: torch.save({"state_dict": {"a": torch.zeros(1)}}, run / "checkpoints/last.ckpt"),
            "no keys upsampler",
        ),
        (lambda run: torch.save([1], run / "checkpoints/last.ckpt"), "no keys upsampler"),
        (lambda run: torch.save({"state_dict": Unwelcome()}, run / "checkpoints/last.ckpt"), "is refused"),
        (lambda run: (run / "config.yaml").write_text("a: [1"), "config.yaml is no readable YAML"),
        (lambda run: (run / "result.json").write_text("{"), "result.json is no readable JSON"),
    ],
)
def test_a_damaged_run_is_refused_by_name(tmp_path, spoil, message):
    run = write_run(tmp_path / "run")
    spoil(run)
    with pytest.raises((WeightsError, ValueError), match=message):
        export(run, tmp_path / "out.safetensors")
    assert files_in(tmp_path) == ["run"]


def test_a_real_run_is_exported(tmp_path):
    from naf.training import config
    from naf.training.run import run

    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        Image.fromarray(data.chelsea()[:96, 100:196]).save(tmp_path / "photos" / f"{name}.png")
    overrides = [
        f"folder={tmp_path / 'run'}",
        f"data.root={tmp_path / 'photos'}",
        f"data.val={tmp_path / 'photos'}",
        "data.val_photos=1",
        "data.workers=0",
        "backbone={_target_: tests.helpers.Tiny}",
        "upsampler.dim=32",
        "upsampler.img_layers=1",
        "stages=first",
        "stages.first.steps=2",
        "stages.first.batch_size=1",
        "stages.first.geometry.image_size=64",
        "checkpoint_every=1",
        "validate_every=1",
        "logger=none",
        "trainer.accelerator=cpu",
    ]
    result = run(config.load(overrides))
    export(tmp_path / "run", tmp_path / "out.safetensors", dtype="float32")
    restored = naf.create("naf", weights=tmp_path / "out.safetensors")
    assert restored.dim == 32
    state = weights.read_plain(tmp_path / "run/checkpoints/last.ckpt")["state_dict"]
    assert all(torch.equal(value, state[f"upsampler.{key}"]) for key, value in restored.state_dict().items())
    metadata = metadata_of(tmp_path / "out.safetensors")
    assert (metadata["steps"], metadata["backbones"].split()[0], metadata["losses"]) == ("2", "Tiny", "L2")
    assert "over bilinear" in (tmp_path / "out.md").read_text()
    assert (metadata["command"], metadata["parameters"]) == (result["command"], str(result["parameters"]))


# Other files --------------------------------------------------------------------------------------------------------


def test_an_official_checkpoint_is_exported_under_its_name(tmp_path):
    source, path = tmp_path / "release.pth", tmp_path / "out.safetensors"
    torch.save({"jafar": small("jafar").state_dict()}, source)
    with pytest.raises(ValueError, match="name it with --upsampler"):
        export(source, path)
    export(source, path, name="jafar", config=config_of("jafar"), dtype="float32")
    assert same(naf.create("jafar", weights=path).state_dict(), small("jafar").state_dict())
    metadata = metadata_of(path)
    assert metadata["licence"] == "unknown"
    assert re.fullmatch(r"release\.pth, sha256 [0-9a-f]{64}", metadata["source"])


def test_a_checkpoint_of_another_trainer_is_exported_whatever_its_suffix(tmp_path):
    source = tmp_path / "release.ckpt"
    torch.save({"state_dict": small("featup").state_dict(), "pytorch-lightning_version": "2.0"}, source)
    with pytest.raises(ValueError, match="name it with --upsampler"):
        export(source, tmp_path / "out.safetensors")
    export(source, tmp_path / "out.safetensors", name="featup", config=config_of("featup"), dtype="float32")
    restored = naf.create("featup", weights=tmp_path / "out.safetensors", ratio=2)  # no weights depend on the ratio
    assert same(restored.state_dict(), small("featup").state_dict())
    assert metadata_of(tmp_path / "out.safetensors")["licence"] == "unknown"


def test_an_exported_file_is_exported_anew_in_another_dtype(tmp_path, file):
    export(file, tmp_path / "half.safetensors", dtype="bfloat16", licence="mit")
    metadata = metadata_of(tmp_path / "half.safetensors")
    assert (metadata["data"], metadata["licence"]) == ("ten photos", "mit")
    assert metadata["dtype"].startswith("bfloat16")
    with pytest.raises(WeightsError, match="holds weights of 'naf', not of 'jafar'"):
        export(file, tmp_path / "other.safetensors", name="jafar")


def test_a_folder_of_the_hub_is_exported(tmp_path, file):
    naf.create("naf", weights=file).save_pretrained(tmp_path / "folder")
    export(tmp_path / "folder", tmp_path / "out.safetensors", dtype="float32")
    assert same(load_file(tmp_path / "out.safetensors"), small("naf").state_dict())
    assert metadata_of(tmp_path / "out.safetensors")["data"] == "ten photos"
    small("naf").save_pretrained(tmp_path / "unstated")
    export(tmp_path / "unstated", tmp_path / "unstated.safetensors", dtype="float32")
    assert metadata_of(tmp_path / "unstated.safetensors")["licence"] == "unknown"


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("none.pth", {"name": "naf"}, "no such file"),
        ("none.ckpt", {}, "no such file"),
        (".", {}, "holds neither"),
        ("none.pth", {"name": "nav"}, "did you mean 'naf'"),
        ("none.pth", {"name": "featsharp"}, "built around a backbone"),
        ("none.pth", {"evaluation": ["none.json"]}, "none.json is no readable JSON"),
        ("none.pth", {"output": "a.pth"}, r"ends in \.safetensors"),
    ],
)
def test_bad_input_is_refused_by_name(tmp_path, source, arguments, message):
    output = tmp_path / arguments.pop("output", "out.safetensors")
    evaluation = [tmp_path / path for path in arguments.pop("evaluation", [])]
    with pytest.raises((WeightsError, ValueError), match=message):
        export(tmp_path / source, output, evaluation=evaluation, **arguments)


def test_methods_without_weights_for_other_images_are_refused(tmp_path):
    for name in ("bilinear", "featup-implicit"):
        with pytest.raises(ValueError, match="nothing to export"):
            export_upsampler(naf.create(name, weights=None), tmp_path / "a.safetensors", about={})


def test_an_upsampler_of_unknown_configuration_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"make it with naf\.create"):
        export_upsampler(naf.upsamplers.naf.NAF(dim=16), tmp_path / "a.safetensors", about={})


def test_a_configuration_that_json_cannot_hold_is_refused(tmp_path):
    for value in (torch.float32, float("nan")):
        with pytest.raises(ValueError, match="cannot be written as JSON"):
            write_weights(tmp_path / "a.safetensors", {}, WeightRecord("naf", {"dim": value}))
    assert files_in(tmp_path) == []


# Writing ------------------------------------------------------------------------------------------------------------


def test_what_is_there_is_kept_unless_asked(tmp_path):
    for name in ("a.safetensors", "a.md"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(ValueError, match=rf"{name} exists \(--overwrite replaces it\)"):
            export_upsampler(small("featup"), tmp_path / "a.safetensors", about={})
        assert (tmp_path / name).read_text() == "mine"
        export_upsampler(small("featup"), tmp_path / "a.safetensors", about={}, overwrite=True)
        assert same(load_file(tmp_path / "a.safetensors"), small("featup").state_dict())
        for path in tmp_path.iterdir():
            path.unlink()


@contextlib.contextmanager
def disk_of(size):
    """Files may grow to so many bytes, as on a disk that is nearly full."""
    resource = pytest.importorskip("resource", reason="this system has no limits on files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [100, 8000], ids=["card", "weights"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, size):
    path = tmp_path / "a.safetensors"
    with disk_of(size), pytest.raises(OSError, match="File too large"):
        export_upsampler(small("naf"), path, about={}, dtype="float32")
    assert files_in(tmp_path) == []
    export_upsampler(small("naf"), path, about={}, dtype="float32")
    before = path.read_bytes(), path.with_suffix(".md").read_bytes()
    with disk_of(size), pytest.raises(OSError, match="File too large"):
        export_upsampler(small("naf"), path, about={}, dtype="float32", overwrite=True)
    assert (path.read_bytes(), path.with_suffix(".md").read_bytes()) == before
    assert files_in(tmp_path) == ["a.md", "a.safetensors"]
