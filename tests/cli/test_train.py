"""`naf train` as a user runs it."""

import logging
import sys
from functools import partial
from pathlib import Path

import pytest

import naf.training
from tests.cli.called import error_of_verb, invoke_verb
from tests.training.tiny_run import FAULTY, STEPS, losses, overrides


@pytest.fixture(autouse=True)
def _log_levels():
    """The command sets levels for its process."""
    yield
    for name in ("naf", "naf.data", "naf.training"):
        logging.getLogger(name).setLevel(logging.NOTSET)


invoke, error_of = partial(invoke_verb, "train"), partial(error_of_verb, "train")


def test_train_trains_and_says_so(tmp_path):
    stdout = invoke(*overrides(tmp_path / "a"))
    assert f"step {STEPS}/{STEPS}" in stdout
    assert (tmp_path / "a/result.json").exists()
    assert "finished already" in invoke(*overrides(tmp_path / "a"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.root=x", "sed=1"], "key 'sed' is unknown, did you mean seed"),
        (["data.root=x", "upsampler.dimm=1"], "key 'upsampler.dimm' is unknown, did you mean upsampler.dim"),
        (["data.root=x", "trainer.devics=8"], "did you mean trainer.devices"),
        (["data.root=x", "experiment=naf_vit"], "experiment=naf_vit is unknown, did you mean naf_vits"),
        (["data.root=x", "upsampler=jafr"], "upsampler=jafr is unknown, did you mean jafar?"),
        ([], "data.root is missing, expected data.root="),
        (["data.root=x", "seed=one"], "seed: Value 'one' of type 'str' could not be converted to Integer"),
        (["data.root=x", "trainer.num_nodes=two"], "trainer.num_nodes: Value 'two'"),
        (["data.root=x", "stages.first.steps=many"], "stages.first.steps is 'many', expected a whole number"),
        (["data.root=x", "stages.first.batch_size=0"], "stages.first.batch_size is 0, expected a whole number"),
        (["data.root=x", "stages.first.lr=-1"], "stages.first.lr is -1, expected a learning rate"),
        (["data.root=x", "stages.first.geometry.reduced=2"], "expected pixels and shares up to 1"),
        (["data.root=x", "stages=first", "stages.first.steps=0"], "stages hold no step"),
        (["data.root=x", "seed"], "seed cannot be read: missing EQUAL"),
        (["data.root=x", "folder=a=b"], "folder=a=b cannot be read"),
        (["data.root=nowhere", "backbone=hog"], "nowhere is not there, expected a folder of images"),
        (["data.root=x", "--config-dir", "nowhere"], "--config-dir is 'nowhere', expected a folder"),
        (["-m", "data.root=x"], "nothing varies"),
        (["-m", "data.root=x", "seed=0,1", "sanity=true"], "give it without -m"),
    ],
)
def test_a_wrong_configuration_is_said_in_one_line(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert message in error_of(monkeypatch, capsys, *arguments)


def test_a_loss_that_is_not_finite_ends_with_status_2(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("NAN_AT", "2")
    said = error_of(monkeypatch, capsys, *overrides(tmp_path / "a", FAULTY))
    assert "step 2 on source 'main': loss nan" in said


def test_ctrl_c_and_sigterm_say_how_to_go_on(monkeypatch, tmp_path):
    for how, stopped in (("INTERRUPTED_AT", 2), ("ENDED_AT", 3)):  # in the step, behind it
        monkeypatch.setenv(how, "2")
        stdout = invoke(*overrides(tmp_path / "a", FAULTY), status=130)
        assert f"stopped at step {stopped}: the same command goes on from step 2" in stdout
        monkeypatch.delenv(how)
    invoke(*overrides(tmp_path / "a", FAULTY))
    assert list(losses(tmp_path / "a")) == list(range(STEPS))


def test_a_folder_of_configurations_and_a_class_of_ones_own(monkeypatch, tmp_path):
    folder = tmp_path / "configurations"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment/mine.yaml").write_text(
        "# @package _global_\nname: mine\nbackbone:\n  _target_: my_backbones.Mine\n"
    )
    (tmp_path / "my_backbones.py").write_text(
        "from tests.helpers import Tiny\n\n\nclass Mine(Tiny):\n    name = 'mine'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])
    given = [line for line in overrides(tmp_path / "a") if not line.startswith("backbone=")]
    assert "finished" in invoke("--config-dir", folder, "experiment=mine", *given)


def test_a_configuration_that_is_no_yaml_is_said_in_one_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\nname: [mine\n")
    said = error_of(monkeypatch, capsys, "--config-dir", tmp_path, "experiment=mine", "data.root=x")
    assert "no YAML" in said
    assert "mine.yaml" in said


def test_a_sweep_with_a_failure_ends_with_status_1(tmp_path):
    given = [line for line in overrides(tmp_path / "s", "stages.first.steps=1") if "heads_attn" not in line]
    stdout = invoke("-m", *given, "upsampler.heads_attn=1,3", status=1)
    assert "run 2 of 2: upsampler.heads_attn=3" in stdout
    assert "failed: dim is 16, expected a multiple of heads_attn = 3" in stdout
    assert (tmp_path / "s/table.md").exists()


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "naf.configs.compose")
    monkeypatch.delitem(sys.modules, "naf.training.config")
    monkeypatch.delattr(naf.training, "config")
    monkeypatch.setitem(sys.modules, "hydra", None)
    assert "training needs hydra: pip install 'naf-upsampler[train]'" in error_of(monkeypatch, capsys)
