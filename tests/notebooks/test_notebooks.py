"""Notebooks run on the embedded backbone, and what is stored of their outputs is whole, clean and small."""

import re
import subprocess
import sys

import pytest

pytest.importorskip("nbclient", reason="notebooks need: pip install 'naf-upsampler[notebooks]'")
pytest.importorskip("ipykernel", reason="notebooks need: pip install 'naf-upsampler[notebooks]'")
pytest.importorskip("matplotlib", reason="notebooks need: pip install 'naf-upsampler[notebooks]'")

import nbformat
from nbclient.exceptions import CellExecutionError

from notebooks.execute import FOLDER, execute

ROOT = FOLDER.parent
DATA = (ROOT / ".." / "shared" / "data").resolve()
PATHS = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}

# What makes them quick and offline.
VALUES = {
    "attention_and_spectrum": {"BACKBONE": "embedded"},
    "linear_probe": {"BACKBONE": "embedded", "QUICK": True, "DATA": str(DATA)},
    "quick_start": {"BACKBONE": "embedded"},
    "train_on_your_images": {"BACKBONE": "embedded", "STEPS": 10},
}
NEEDS = {"linear_probe": ["hydra"], "train_on_your_images": ["hydra", "lightning"]}

MOST_KIB = 600
ABSOLUTE = re.compile(r"(?<![\w.:/<~)])/[\w.-]+/[\w.-]+|[A-Za-z]:\\\w+")  # but no part of an address or of a tag
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

every_notebook = pytest.mark.parametrize("name", PATHS)


def stored(name):
    return nbformat.read(PATHS[name], as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook):
    """All that can be read in a notebook, with where it stands."""
    for number, cell in enumerate(notebook.cells):
        yield f"cell {number}", cell.source
        for output in cell.get("outputs", []):
            yield f"output of cell {number}", output.get("text", "")
            for kind, data in output.get("data", {}).items():
                if not kind.startswith("image/"):
                    yield f"{kind} of cell {number}", str(data)


def test_the_notebooks_are_those_that_are_run():
    assert list(PATHS) == list(VALUES)


@every_notebook
def test_every_notebook_runs(name, tmp_path):
    for module in NEEDS.get(name, []):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'naf-upsampler[eval,train]'")
    if name == "linear_probe" and not (DATA / "CamVid").is_dir():
        pytest.skip("../shared/data/CamVid is not there")
    try:
        notebook = execute(PATHS[name], tmp_path, VALUES[name])
    except CellExecutionError as error:
        pytest.fail(COLOUR.sub("", f"{name}: {error}"), pytrace=False)
    assert len(code_cells(notebook)) == len(code_cells(stored(name))) + 1  # the values


@every_notebook
def test_stored_outputs_are_of_one_run_from_top_to_bottom(name):
    cells = code_cells(stored(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs) >= 3


@every_notebook
def test_stored_outputs_hold_no_error_and_no_warning(name):
    for cell in code_cells(stored(name)):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text


@every_notebook
def test_nothing_of_the_machine_is_stored(name):
    notebook = stored(name)
    nbformat.validate(notebook)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert {key for cell in notebook.cells for key in cell.metadata} == {"tags"}
    found = [f"{where}: {match[0]}" for where, text in texts(notebook) if (match := ABSOLUTE.search(text))]
    assert not found


def test_absolute_paths_are_told_from_addresses_and_tags():
    for text in ("open /home/someone/photo.png", "'/tmp/x'", r"C:\Users"):
        assert ABSOLUTE.search(text), text
    for text in ("https://arxiv.org/abs/2511.18452", "../docs/theory.md", "out/run-20", "<b>a</b>/c", "1/2/3"):
        assert not ABSOLUTE.search(text), text


@every_notebook
def test_a_notebook_is_small(name):
    assert PATHS[name].stat().st_size <= MOST_KIB * 1024


@every_notebook
def test_links_between_files_lead_somewhere(name):
    for cell in stored(name).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", cell.source):
                assert (FOLDER / target).exists(), target


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=lambda command: command[0])
def test_code_cells_are_clean(command):
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", str(FOLDER)]
    done = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
