"""A hook of MkDocs: the font that the package carries for its sheets is that of the site, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FONTS = "src/naf/assets/fonts"


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Copy the fonts and their licence beside the style sheet."""
    for path in sorted((Path(config.config_file_path).parent / FONTS).glob("*.t[tx][ft]")):
        files.append(File.generated(config, f"assets/fonts/{path.name}", abs_src_path=str(path)))
    return files
