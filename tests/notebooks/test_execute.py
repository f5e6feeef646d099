"""Execution of notebooks: values, failures, and what is left of outputs."""

import base64
import io

import pytest

pytest.importorskip("nbclient", reason="notebooks need: pip install 'naf-upsampler[notebooks]'")
pytest.importorskip("ipykernel", reason="notebooks need: pip install 'naf-upsampler[notebooks]'")

import nbformat
import numpy as np
from nbclient.exceptions import CellExecutionError
from PIL import Image

from notebooks.execute import execute, tidy


def write(path, *sources):
    """A notebook of code cells, the first tagged as parameters."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def png(pixels):
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, format="PNG")
        return base64.b64encode(file.getvalue()).decode()


def with_picture(pixels):
    output = nbformat.v4.new_output("display_data", {"image/png": png(pixels), "image/jpeg": "twice"})
    cell = nbformat.v4.new_code_cell("picture", outputs=[output])
    cell.metadata["execution"] = {"iopub.execute_input": "yesterday"}
    return nbformat.v4.new_notebook(cells=[cell], metadata={"language_info": {"name": "python", "version": "3.11.1"}})


def test_values_follow_the_parameters_and_the_file_stays_as_it_was(tmp_path):
    path = write(tmp_path / "a.ipynb", "SIDE = 1", "print(SIDE * 2)")
    before = path.read_bytes()
    assert execute(path, tmp_path, {"SIDE": 21}).cells[2].outputs[0].text == "42\n"
    assert path.read_bytes() == before


def test_a_failure_shows_the_cell_and_the_error(tmp_path):
    path = write(tmp_path / "a.ipynb", "SIDE = 0", "share = 1 / SIDE")
    with pytest.raises(CellExecutionError, match=r"(?s)share = 1 / SIDE.*ZeroDivisionError.*: division by zero"):
        execute(path, tmp_path)


def test_values_that_nothing_sets_are_refused(tmp_path):
    path = write(tmp_path / "a.ipynb", "SIDE = 1")
    with pytest.raises(ValueError, match=r"a\.ipynb: the cell tagged 'parameters' does not set SIDES"):
        execute(path, tmp_path, {"SIDES": 2})
    nbformat.write(nbformat.v4.new_notebook(), path)
    with pytest.raises(ValueError, match=r"a\.ipynb has no cell tagged 'parameters'"):
        execute(path, tmp_path, {"SIDE": 2})


def test_a_photo_is_kept_as_jpeg_and_a_drawing_as_png():
    photo = np.random.default_rng(0).normal(128, 20, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    drawing = np.full((64, 64, 3), 255, np.uint8)
    drawing[20:40, 30] = 0
    assert list(tidy(with_picture(photo)).cells[0].outputs[0].data) == ["image/jpeg"]
    kept = tidy(with_picture(drawing)).cells[0].outputs[0].data
    assert dict(kept) == {"image/png": png(drawing)}


def test_what_differs_from_machine_to_machine_goes():
    one, other = (tidy(with_picture(np.zeros((8, 8, 3), np.uint8))) for _ in range(2))
    assert one == other
    assert one.metadata.language_info == {"name": "python"}
    assert one.cells[0].metadata == {}
