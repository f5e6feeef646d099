"""Scripts run from anywhere."""

import importlib
import runpy
import sys
from pathlib import Path

import pytest

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
