"""Scripts run from anywhere, and what the evaluations are told is understood."""

import argparse
import importlib
import runpy
import sys
from pathlib import Path

import pytest

from experiments.candidates import Candidate, backbone_file, digest
from naf.weights import embedded_path

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for path in (ROOT / "experiments").glob("*.py") if path.stem != "__init__")
SCRIPTS = [path for path in MODULES if '__name__ == "__main__"' in path.read_text()]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_import_as_a_package(path):
    assert importlib.import_module(f"experiments.{path.stem}").__doc__


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_run_as_files_in_any_folder(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    elsewhere = [place for place in sys.path if Path(place).resolve() not in (ROOT, tmp_path)]
    monkeypatch.setattr(sys, "path", [str(path.parent), *elsewhere])
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(path), run_name="__main__")
    assert stop.value.code == 0
    assert "usage: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("naf+", ("naf+", "naf+", "auto")),
        ("naf=none", ("naf=none", "naf", "none")),
        ("mine=naf+=a/b.safetensors", ("mine", "naf+", "a/b.safetensors")),
    ],
)
def test_candidates_are_named_on_the_command_line(text, expected):
    candidate = Candidate.parse(text)
    assert (candidate.label, candidate.name, candidate.source) == expected


def test_an_unknown_candidate_is_named():
    with pytest.raises(argparse.ArgumentTypeError, match="did you mean 'bilinear'"):
        Candidate.parse("bilinar")


def test_results_are_kept_for_the_content_of_a_file_not_its_name(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"first")
    candidate = Candidate.parse(f"naf={path}")
    assert candidate.file == path
    first = digest(["naf"], [candidate.file, None])
    assert first == digest(["naf"], [path, None])
    path.write_bytes(b"second")
    assert len({first, digest(["naf"], [path, None]), digest(["naf+"], [path, None])}) == 3
    assert Candidate.parse("naf").file == embedded_path("naf")
    assert Candidate.parse("naf=none").file is None
    assert backbone_file("embedded", tmp_path).name == "backbone.safetensors"
    assert backbone_file("hog", tmp_path) is None
    assert backbone_file("deeplab", tmp_path).parent == tmp_path
