"""Execute the notebooks in place: outputs of one clean run, pictures small, nothing of the machine left in them.

    python notebooks/execute.py                       # all of them
    NAF_DATA=FOLDER python notebooks/execute.py notebooks/linear_probe.ipynb

It needs the extras `notebooks`, `eval` and `train`; linear_probe.ipynb needs CamVid besides, in FOLDER. A notebook that
fails is left as it was.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image

from naf.data.atomic import replace_file

FOLDER = Path(__file__).parent
PARAMETERS = "parameters"
"""Tag of the cell that holds what a reader may change."""

_TIMEOUT = 900  # seconds a cell
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_QUALITY = 80  # of JPEG


def execute(path: Path, folder: Path, values: Mapping[str, Any] | None = None) -> NotebookNode:
    """Run a notebook in a fresh kernel.

    Args:
        path: the notebook; left as it is.
        folder: where it runs, and writes what it writes.
        values: of variables, set after the cell that is tagged as parameters.

    Returns:
        The notebook with its outputs.

    Raises:
        CellExecutionError: if a cell fails; its message shows the cell and the error.
        ValueError: for values of a notebook without such a cell, or names that the cell does not set.
    """
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    if values:
        at = next((i for i, cell in enumerate(notebook.cells) if PARAMETERS in cell.metadata.get("tags", [])), None)
        if at is None:
            raise ValueError(f"{path} has no cell tagged {PARAMETERS!r}, which values could follow")
        if unknown := [name for name in values if f"{name} = " not in notebook.cells[at].source]:
            raise ValueError(f"{path}: the cell tagged {PARAMETERS!r} does not set {unknown[0]}")
        lines = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(lines))
    options: dict[str, Any] = {
        "kernel_name": "python3",
        "extra_arguments": ["--log-level=ERROR"],  # no warning of sockets without encryption
        "resources": {"metadata": {"path": str(folder)}},
        "record_timing": False,
        "coalesce_streams": True,
        "timeout": _TIMEOUT,
    }
    NotebookClient(notebook, **options).execute()
    return notebook


def tidy(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what differs from machine to machine, and with its pictures in few bytes; changed in place.

    A picture is kept once, as JPEG where that is much smaller.
    """
    notebook.metadata = nbformat.from_dict({"kernelspec": _KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        cell.id = f"cell-{number:02d}"
        for output in cell.get("outputs", []):
            if "data" in output:
                _shrink(output.data)
    return notebook


def _shrink(data: NotebookNode) -> None:
    """One picture of an output in place of several forms of it."""
    if "image/png" not in data:
        return
    data.pop("image/jpeg", None)
    png = base64.b64decode(data["image/png"])
    with io.BytesIO() as file:
        with Image.open(io.BytesIO(png)) as picture:
            picture.convert("RGB").save(file, format="JPEG", quality=_QUALITY, optimize=True)
        jpeg = file.getvalue()
    if len(jpeg) < 0.6 * len(png):  # a photo; lines and text are sharper as PNG, and hardly larger
        del data["image/png"]
        data["image/jpeg"] = base64.b64encode(jpeg).decode()


def main() -> None:
    """Execute what the command line names."""
    parser = argparse.ArgumentParser(description="Execute notebooks in place.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="Default: all beside this file.")
    for path in parser.parse_args().notebooks or sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            try:
                notebook = tidy(execute(path, Path(folder)))
            except CellExecutionError as error:
                sys.exit(f"{path}: {error}")
        replace_file(path, partial(nbformat.write, notebook))
        sys.stdout.write(f"{path}: {path.stat().st_size / 1024:.0f} KiB\n")


if __name__ == "__main__":
    main()
