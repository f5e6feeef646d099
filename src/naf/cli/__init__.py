"""The `naf` command, one file a verb."""

from __future__ import annotations

import logging
import sys

import typer

from naf.backbones import BackboneError
from naf.cli import bench, compare, demo, models, upsample
from naf.cli.console import fail
from naf.weights import WeightsError

app = typer.Typer(
    name="naf",
    help="Upsample the features of any vision backbone to any resolution.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("upsample")(upsample.upsample)
app.command("compare")(compare.compare)
app.command("models")(models.models)
app.command("demo")(demo.demo)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Entry point: errors of the input end with one line and status 2."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("naf").setLevel(logging.ERROR)  # verbs print what was loaded themselves
    try:
        app()
    except (ValueError, OSError, WeightsError, BackboneError) as error:
        fail(str(error))
        sys.exit(2)
