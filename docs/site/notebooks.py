"""A hook of MkDocs: each notebook is a page, with the outputs that lie in it. Nothing is run."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FOLDER = "notebooks"
_PICTURES = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages and their pictures."""
    for path in sorted((Path(config.config_file_path).parent / FOLDER).glob("*.ipynb")):
        pictures: dict[str, bytes] = {}
        text = "\n\n".join(_page(path, pictures))
        files.append(File.generated(config, f"{FOLDER}/{path.stem}.md", content=text + "\n"))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{FOLDER}/{name}", content=content))
    return files


def _page(path: Path, pictures: dict[str, bytes]) -> Iterator[str]:
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = _joined(cell["source"])
        if cell["cell_type"] == "markdown":
            yield _links(source)
            if number == 0:
                yield f"*The notebook `{FOLDER}/{path.name}`, with the outputs of one run.*"
        elif cell["cell_type"] == "code" and source:
            yield f"```python\n{source}\n```"
            for output in cell["outputs"]:
                yield from _output(output, f"{path.stem}-{len(pictures)}", pictures)


def _output(output: Mapping[str, Any], name: str, pictures: dict[str, bytes]) -> Iterator[str]:
    """The richest form of an output that needs no script."""
    if output["output_type"] == "stream":
        if output["name"] == "stdout":
            yield _plain(_joined(output["text"]))
        return
    data = output.get("data", {})
    for kind, ending in _PICTURES.items():
        if kind in data:
            content = _joined(data[kind])
            pictures[f"{name}.{ending}"] = content.encode() if ending == "svg" else base64.b64decode(content)
            yield f"![What the cell above shows]({name}.{ending})"
            return
    if "text/markdown" in data:
        yield _joined(data["text/markdown"])
    elif "text/plain" in data:
        yield _plain(_joined(data["text/plain"]))


def _plain(text: str) -> str:
    return f"```{{.text .output}}\n{text.strip()}\n```" if text.strip() else ""


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _links(text: str) -> str:
    """Links as they are seen from the page: other pages lie one folder up, the repository two."""
    text = re.sub(r"\]\((\w+)\.ipynb", r"](\1.md", text)
    return re.sub(r"\]\(\.\./(docs/)?", lambda match: "](../" if match[1] else "](../../", text)
