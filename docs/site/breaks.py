"""A hook of MkDocs: where lines may break in tables. Long names break behind their parts, figures stay whole."""

from __future__ import annotations

import re
from typing import Any

_CELL = re.compile(r"<td\b.*?</td>", re.DOTALL)
_CODE = re.compile(r"(?<=<code>)[^<]{24,}(?=</code>)")
_PART = re.compile(r"(::|[_/=,](?=\w))")


def on_page_content(html: str, **_: Any) -> str:
    """Mark the places."""
    return _CELL.sub(lambda cell: _CODE.sub(lambda code: _PART.sub(r"\1<wbr>", code[0]), _whole(cell[0])), html)


def _whole(cell: str) -> str:
    """Figures with their deviation, "39.2 ± 0.4", on one line."""
    return re.sub(r"(?<=\d) ± (?=\d)", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}", cell)
