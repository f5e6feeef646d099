"""`naf models`: the upsamplers there are."""

from __future__ import annotations

from rich.table import Table

from naf.cli.console import console
from naf.registry import entry, list_upsamplers
from naf.weights import OFFICIAL, embedded_path


def models() -> None:
    """List the upsamplers: parameters, weights and their licence, paper."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "any VFM", "any ratio", "parameters", "weights", "licence", "paper"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left", no_wrap=True)
    for name in list_upsamplers():
        about = entry(name)
        weights, licence = _weights(name)
        table.add_row(
            name,
            "yes" if about.is_vfm_agnostic else "no",
            "yes" if about.is_any_ratio else "no",
            f"{about.parameters:,}",
            weights if about.parameters else "none needed",
            licence,
            about.paper,
        )
    console.print(table)


def _weights(name: str) -> tuple[str, str]:
    kinds, licences = [], []
    if embedded_path(name) is not None:
        kinds.append("embedded")
        licences.append("Apache-2.0")
    if name in OFFICIAL:
        kinds.append("official (cached)" if OFFICIAL[name].path.exists() else "official (download)")
        licences.append(OFFICIAL[name].licence)
    return ", ".join(kinds) or "-", ", ".join(dict.fromkeys(licences)) or "-"
