"""`naf models`: the upsamplers there are, and where their weights come from."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from naf.cli.console import print_table
from naf.registry import Entry, entry, list_upsamplers
from naf.releases import Release, releases_of
from naf.weight_record import read_record
from naf.weights import embedded_path


def models(
    releases: Annotated[bool, typer.Option("--releases", help="List every published weight file instead.")] = False,
) -> None:
    """List the upsamplers: parameters, ratios, weights and their licence, paper."""
    print_table(_release_table() if releases else _method_table())


def _method_table() -> Table:
    table = _table("name", "any VFM", "ratios", "parameters", "weights", "licence", "paper")
    for name in list_upsamplers():
        about = entry(name)
        weights, licence = _weights(about)
        table.add_row(
            name,
            "yes" if about.is_vfm_agnostic else "no",
            " ".join(f"x{ratio}" for ratio in about.ratios) or "any",
            f"{about.parameters:,}" if not about.needs_backbone else "-",
            weights,
            licence,
            about.paper,
        )
    return table


def _release_table() -> Table:
    table = _table("weights", "channels", "trained on", "here", "licence", "address")
    for release in releases_of():
        table.add_row(
            f"{release.upsampler}  official:{release.name}",
            "any" if release.channels is None else str(release.channels),
            release.trained_on,
            "cached" if release.path.exists() else "by hand" if release.is_manual else "download",
            release.licence,
            release.url,
        )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        is_number = heading in ("parameters", "channels")
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=True)
    return table


def _weights(about: Entry) -> tuple[str, str]:
    """Where weights come from, and their licences."""
    if not about.needs_weights:
        return "none needed", "-"
    if about.cls.fits_one_image:
        return "fitted to an image", "-"
    kinds, licences = [], []
    embedded = embedded_path(about.name)
    if embedded is not None:
        record = read_record(embedded)
        kinds.append("embedded")
        licences.append("Apache-2.0" if record is None else record.about.get("licence", "unknown"))
    known: list[Release] = releases_of(about.name)
    if known:
        cached = sum(release.path.exists() for release in known)
        count = "release" if len(known) == 1 else f"{len(known)} releases"
        kinds.append(f"{count} ({cached} cached)" if cached else count)
        licences += [release.licence for release in known]
    named = {licence.casefold(): licence for licence in licences}  # the Hub writes them small
    return ", ".join(kinds) or "none released", ", ".join(named.values()) or "-"
