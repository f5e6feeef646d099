"""A hook of MkDocs: comments like `<!-- table: methods -->` become tables made from the registry."""

from __future__ import annotations

import logging
import re
from typing import Any

_NUMBERS = ("parameters", "published files")

log = logging.getLogger("mkdocs.hooks.tables")

MARKER = re.compile(r"^<!-- table: ([\w-]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the tables that a page names."""
    return MARKER.sub(lambda match: _table(match[1]), markdown)


def _table(name: str) -> str:
    if name not in _TABLES:
        log.warning("there is no table %r, only %s", name, ", ".join(_TABLES))
        return ""
    heading, *rows = _TABLES[name]()
    lines = [heading, ["---:" if name in _NUMBERS else "---" for name in heading], *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def methods() -> list[list[str]]:
    """What each method can do, as its class and its registry entry say."""
    from naf.registry import entry, list_upsamplers

    table = [["name", "serves", "own ratios", "linear", "mean", "attention", "parameters"]]
    for name in list_upsamplers():
        about = entry(name)
        serves = "any backbone" if about.is_vfm_agnostic else "one backbone"
        if about.cls.fits_one_image:
            serves = "one image"
        table.append(
            [
                f"`{name}`",
                serves,
                " ".join(f"x{ratio}" for ratio in about.ratios) or "any",
                _yes(about.cls.is_linear and about.cls.uses_features),
                _yes(about.cls.is_convex and about.cls.uses_features),
                _yes(about.cls.has_attention),
                "–" if about.needs_backbone else f"{about.parameters:,}",
            ]
        )
    return table


def licences() -> list[list[str]]:
    """How the publishers of weights license them."""
    from naf.registry import entry, list_upsamplers
    from naf.releases import releases_of

    table = [["weights of", "published files", "licence", "paper"]]
    for name in list_upsamplers():
        known = releases_of(name)
        if known:
            stated = ", ".join(dict.fromkeys(release.licence for release in known))
            table.append([f"`{name}`", str(len(known)), stated, entry(name).paper])
    return table


def _yes(is_so: bool) -> str:
    return "yes" if is_so else ""


_TABLES = {"methods": methods, "licences": licences}
