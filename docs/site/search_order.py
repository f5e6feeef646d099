"""A hook of MkDocs: the guides come before the reference in what the search finds."""

from __future__ import annotations

from typing import Any


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Pages below api/ count half."""
    if page.file.src_uri.startswith("api/"):
        page.meta["search"] = {"boost": 0.5}
    return markdown
