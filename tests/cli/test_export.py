"""`naf export`, run as a user runs it."""

import json

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

import naf
from naf.cli import app
from tests.cli.test_verbs import run
from tests.helpers import small


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(small("naf").state_dict(), path)
    return path


def test_a_checkpoint_becomes_a_file_that_needs_no_configuration(tmp_path, checkpoint):
    (tmp_path / "probe.json").write_text(json.dumps({"naf": {"mIoU": 41.3}}))
    arguments = ["-o", "out.safetensors", "-u", "naf", "--config", "dim=32", "--config", "img_layers=1"]
    more = ["--dtype", "float16", "--evaluation", "probe.json", "--licence", "mit", "--licence-note", "Data: CC."]
    result = run("export", "net.pth", *arguments, *more, cwd=tmp_path)
    assert "net.pth → out.safetensors, out.md: float16, 0.0" in result.stdout
    assert naf.create("naf", weights=tmp_path / "out.safetensors").dim == 32
    card = (tmp_path / "out.md").read_text()
    assert "license: mit" in card
    assert "41.3" in card
    assert "Data: CC." in card
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert file.metadata()["licence"] == "mit"
    again = run("export", "net.pth", *arguments, cwd=tmp_path, status=2)
    assert again.stderr == "error: out.safetensors exists (--overwrite replaces it)\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name it with --upsampler"),
        (["-u", "naf", "--config", "dim"], "--config is 'dim', expected KEY=VALUE"),
        (["-u", "naf", "--config", "colour=1"], "--config: 'naf' has no argument 'colour'"),
        (["-u", "naf", "--config", "neighborhood=near"], "neighborhood is 'near'"),
        (["-u", "naf", "--dtype", "int8"], "dtype is 'int8', expected one of auto"),
    ],
)
def test_bad_arguments_are_named(tmp_path, checkpoint, arguments, message):
    result = CliRunner().invoke(app, ["export", str(checkpoint), "-o", str(tmp_path / "a.safetensors"), *arguments])
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)
    assert not (tmp_path / "a.safetensors").exists()


def test_models_shows_the_licence_of_an_embedded_file(tmp_path, checkpoint, monkeypatch):
    path = tmp_path / "naf.safetensors"
    arguments = [
        "export",
        str(checkpoint),
        "-o",
        str(path),
        "-u",
        "naf",
        "--config",
        "dim=32",
        "--config",
        "img_layers=1",
    ]
    assert CliRunner().invoke(app, [*arguments, "--licence", "cc-by-4.0", "--dtype", "float32"]).exit_code == 0
    monkeypatch.setattr("naf.cli.models.embedded_path", lambda name: path if name in ("naf", "naf+") else None)
    rows = {row.split()[0]: row for row in CliRunner().invoke(app, ["models"]).stdout.splitlines() if row.split()}
    for name in ("naf", "naf+"):
        assert "embedded" in rows[name]
        assert "cc-by-4.0" in rows[name]
    assert "none released" in rows["naf++"]
