"""The `naf` command, one file a verb."""

from __future__ import annotations

import io
import logging
import sys

import typer

from naf.cli import (
    application,
    bench,
    compare,
    demo,
    denoise,
    evaluate,
    export,
    models,
    similarity,
    train,
    upsample,
    video,
)
from naf.cli.console import fail

app = typer.Typer(
    name="naf",
    help="Upsample the features of any vision backbone to any resolution.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("upsample")(upsample.upsample)
app.command("compare")(compare.compare)
app.command("similarity")(similarity.similarity)
app.command("video")(video.video)
app.command("denoise")(denoise.denoise)
app.command("app")(application.application)
app.command("models")(models.models)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("export")(export.export)
app.add_typer(evaluate.app, name="eval")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Entry point: errors of the input end with one line and status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show an arrow or a name is no error
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("naf").setLevel(logging.ERROR)  # verbs print what was loaded themselves
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:  # WeightsError and BackboneError among them
        fail(str(error))
        sys.exit(2)
