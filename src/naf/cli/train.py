"""`naf train`: train an upsampler or a denoiser as a Hydra configuration says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from naf.cli.console import INTERRUPTED, console


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Hydra's overrides: experiment=naf_vits data.root=PHOTOS backbone=NAME KEY=VALUE …",
            show_default=False,
        ),
    ] = None,
    multirun: Annotated[
        bool,
        typer.Option(
            "--multirun",
            "-m",
            help="Run all combinations of KEY=VALUE,VALUE one after another, and make one table of them.",
        ),
    ] = False,
    config_dir: Annotated[
        Path | None, typer.Option(help="A folder with configuration files and groups of one's own.")
    ] = None,
) -> None:
    """Train an upsampler on photos and the features of a backbone, or a denoiser on photos (experiment=denoise_naf).

    A run writes to one folder (folder=…, by default out/train/NAME): configuration, losses, pictures, checkpoints,
    result. The same command goes on from the last checkpoint there. sanity=true is a dry run of everything.

    The keys are in naf/configs/train.yaml and the groups beside it; experiments are in naf/configs/experiment.
    """
    try:
        from naf.training import config
        from naf.training.errors import Interrupted
        from naf.training.run import run
        from naf.training.sanity import check_training
        from naf.training.sweep import sweep
    except ModuleNotFoundError as error:
        raise ValueError(f"training needs {error.name}: pip install 'naf-upsampler[train]'") from error
    given = overrides or []
    for name in ("naf.training", "naf.data"):
        logging.getLogger(name).setLevel(logging.WARNING)  # damaged photos and caches are told of
    try:
        if multirun:
            rows = sweep(given, console, config_dir)
            if any(row.failure for row in rows):
                raise typer.Exit(1)
            return
        configured = config.load(given, config_dir)
        (check_training if configured.sanity else run)(configured, console)
    except Interrupted as stop:
        console.print(str(stop), markup=False)
        raise typer.Exit(INTERRUPTED) from None
