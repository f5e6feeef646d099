"""Runs that were stopped go on as if they had not been."""

import errno

import pytest
import torch

from naf.training.errors import TrainingError
from naf.training.metrics_file import MetricsFile, read_metrics
from naf.training.run import run
from tests.training.tiny_run import (
    EVERY,
    FAULTY,
    STEPS,
    assert_same,
    load,
    losses,
    quiet_console,
    weights,
)


def test_a_killed_run_goes_on_with_the_losses_of_one_that_was_not(tmp_path, command):
    whole, killed = tmp_path / "whole", command.killed
    assert command.process.returncode == -9, command.process.stderr.decode()
    assert list(losses(killed)) == [0, 1, 2]
    assert torch.load(killed / "checkpoints/last.ckpt", weights_only=True)["global_step"] == EVERY
    (killed / "checkpoints/.last.ckpt.1.partial").write_bytes(b"half")
    for folder in (whole, killed):
        result = run(load(folder, FAULTY, "stages.first.batch_size=3"), quiet_console())
        assert result["steps"] == STEPS
    assert not list((killed / "checkpoints").glob(".*"))
    for key in ("train/loss", "train/grad_norm", "train/lr", "val/main/loss"):
        assert_same(losses(killed, key), losses(whole, key))
    assert list(losses(whole)) == list(range(STEPS))
    for name, value in weights(whole).items():
        assert torch.equal(weights(killed)[name], value), name


def test_dropping_in_between_loses_nothing_with_several_workers_and_a_cache(tmp_path):
    changes = [
        f"data.cache={tmp_path / 'cache'}",
        "data=crops",
        "data.workers=1",
        "sources.main.normalize_channels=true",
    ]
    run(load(tmp_path / "whole", *changes), quiet_console())
    stopped = tmp_path / "stopped"
    console = quiet_console()
    assert run(load(stopped, *changes), console, stop=EVERY + 1) == {}  # between two checkpoints
    assert f"left at step {EVERY + 1} of {STEPS}" in console.file.getvalue()
    assert not (stopped / "result.json").exists()
    run(load(stopped, *changes), quiet_console())
    assert_same(losses(stopped), losses(tmp_path / "whole"))
    assert list((tmp_path / "cache").glob("*/features-*.safetensors"))


def test_a_finished_run_is_not_run_again(tmp_path):
    first = run(load(tmp_path / "a"), quiet_console())
    saved = (tmp_path / "a/checkpoints/last.ckpt").stat().st_mtime_ns
    assert run(load(tmp_path / "a"), quiet_console()) == first
    assert (tmp_path / "a/checkpoints/last.ckpt").stat().st_mtime_ns == saved
    (tmp_path / "a/result.json").unlink()  # killed after the last checkpoint
    again = run(load(tmp_path / "a"), quiet_console())
    assert {key: again[key] for key in ("train_loss", "validation")} == {
        key: first[key] for key in ("train_loss", "validation")
    }


def test_another_configuration_is_refused_in_the_same_folder(tmp_path):
    run(load(tmp_path / "a"), quiet_console(), stop=EVERY)
    with pytest.raises(ValueError, match=r"upsampler.dim was 16, is 32; stages.first.lr was 0.01, is 0.1"):
        run(load(tmp_path / "a", "upsampler.dim=32", "stages.first.lr=0.1"), quiet_console())
    with pytest.raises(ValueError, match="resume is never"):
        run(load(tmp_path / "a", "resume=never"), quiet_console())
    run(load(tmp_path / "a", "log_every=2", "keep_checkpoints=1"), quiet_console())


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    folder, save = tmp_path / "a", torch.save

    def full(content, path):
        if content["global_step"] > EVERY:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"No space left.*same command.*last good one is .*last\.ckpt"):
        run(load(folder), quiet_console())
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["last.ckpt", "step=0000002.ckpt"]
    monkeypatch.undo()
    run(load(folder), quiet_console())
    run(load(tmp_path / "whole"), quiet_console())
    assert_same(losses(folder), losses(tmp_path / "whole"))


def test_a_full_disk_under_the_log_says_how_to_go_on(tmp_path, monkeypatch):
    def full(log, metrics, step):
        if step > EVERY:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MetricsFile, "log_metrics", full)
    with pytest.raises(TrainingError, match=r"stopped at step \d: .*No space left.*same command goes on from step 2"):
        run(load(tmp_path / "a"), quiet_console())


def test_a_damaged_checkpoint_is_named(tmp_path):
    run(load(tmp_path / "a"), quiet_console(), stop=EVERY)
    last = tmp_path / "a/checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"last\.ckpt cannot be read"):
        run(load(tmp_path / "a"), quiet_console())


def test_metrics_of_lost_steps_are_dropped_and_columns_added(tmp_path):
    path = tmp_path / "metrics.csv"
    log = MetricsFile(path)
    log.log_metrics({"train/loss": 1.0}, 0)
    log.log_metrics({"train/loss": 0.5}, 1)
    log.log_metrics({"val/loss": 2.0}, 2)
    log.log_metrics({"train/loss": 0.25}, 2)
    with path.open("a") as file:
        file.write("3,0.1")  # cut off by a kill
    assert len(read_metrics(path)) == 4
    log = MetricsFile(path, first_step=2)
    log.log_metrics({"train/loss": 0.125, "train/new": 3.0}, 2)
    assert read_metrics(path) == [
        {"step": 0, "train/loss": 1.0},
        {"step": 1, "train/loss": 0.5},
        {"step": 2, "val/loss": 2.0},
        {"step": 2, "train/loss": 0.125, "train/new": 3.0},
    ]


def test_a_folder_without_a_checkpoint_holds_no_run_yet(tmp_path, monkeypatch):
    monkeypatch.setenv("NAN_AT", "1")
    with pytest.raises(TrainingError, match="no checkpoint yet"):
        run(load(tmp_path / "a", FAULTY), quiet_console())
    run(load(tmp_path / "a", "upsampler.dim=32"), quiet_console())
    assert list(losses(tmp_path / "a")) == list(range(STEPS))
