"""`naf export`: trained weights as safetensors, with a model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from naf.cli.console import console
from naf.training.export import export as write


def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run of `naf train`, one of its checkpoints, or any checkpoint file.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="FILE.safetensors; the card goes to FILE.md.")],
    upsampler: Annotated[
        str,
        typer.Option(
            "--upsampler", "-u", help="Name of the method, where the source does not say it: naf, denoise-naf, …"
        ),
    ] = "",
    config: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE, an argument of the method that the source does not say; may be repeated."),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            help="float32, float16, bfloat16, or auto: float16 or bfloat16 where outputs change by at most 1e-3."
        ),
    ] = "auto",
    evaluation: Annotated[
        list[Path] | None, typer.Option(help="JSON file with results for the card; may be repeated.")
    ] = None,
    licence: Annotated[
        str,
        typer.Option(help="Of the weights, as the Hub abbreviates it. Default: apache-2.0 for a run, else unknown."),
    ] = "",
    licence_note: Annotated[str, typer.Option(help="What else holds, of the training data for example.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
) -> None:
    """Write trained weights as safetensors that say what they are, and a model card beside them.

    `naf.create(NAME, weights=FILE)` then needs no configuration; of denoisers `naf.restoration.create`.
    """
    try:
        done = write(
            source,
            output,
            name=upsampler,
            config=_arguments(config or []),
            dtype=dtype,
            evaluation=evaluation or [],
            licence=licence,
            licence_note=licence_note,
            overwrite=overwrite,
        )
    except TypeError as error:  # an argument that the method does not have, or of another type
        raise ValueError(f"--config: {error}") from error
    size = done.file.stat().st_size / 2**20
    kind = str(done.dtype).removeprefix("torch.")
    console.print(
        f"{source} → {done.file}, {done.card}: {kind}, {size:.2f} MiB, parity {done.parity:.1e}", markup=False
    )


def _arguments(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE with VALUE as JSON, or else as text.

    Raises:
        ValueError: for one without "=".
    """
    arguments = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ValueError(f"--config is {pair!r}, expected KEY=VALUE")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value
    return arguments
