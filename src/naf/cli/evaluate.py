"""`naf eval`: measure upsamplers by what a linear layer or a video makes of their features, and restorers by noise."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from naf.cli.console import INTERRUPTED, console

_HELP = {
    "segmentation": "Semantic segmentation by a linear layer: mean IoU.",
    "depth": "Depth by a linear layer over bins: delta 1 to 3, RMSE and more.",
    "video": "Masks of a first frame carried through a video by feature affinity: J and F.",
    "filter": "Segmentation with upsamplers as filters on the features' own grid.",
    "ratio": "Segmentation from images of several sizes, at one target size.",
    "denoise": "Restorers on images with Gaussian or salt and pepper noise: PSNR and SSIM.",
}

app = typer.Typer(
    no_args_is_help=True,
    help="Evaluate upsamplers and restorers on data sets; gather the results into tables and plots.",
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Hydra's overrides: dataset=voc dataset.root=FOLDER backbone=NAME,NAME upsampler=naf,bilinear KEY=VALUE "
        "…; of denoise dataset=cbsd68 dataset.root=FOLDER noise=gaussian noise.level=0.1,0.5 restorer=noisy,naf …",
        show_default=False,
    ),
]
ConfigDir = Annotated[Path | None, typer.Option(help="A folder with configuration files and groups of one's own.")]


def _verb(task: str) -> Callable[..., None]:
    def verb(overrides: Overrides = None, config_dir: ConfigDir = None) -> None:
        _evaluate(task, overrides or [], config_dir)

    verb.__doc__ = f"""{_HELP[task]}

    Each run is one JSON file in folder=…, by default out/eval/{task}.
    What is there is not computed again: the same command goes on after a stop.
    sanity=true is a dry run.

    The keys are in naf/configs/evaluation and the groups beside them.
    """
    return verb


def _evaluate(task: str, overrides: list[str], config_dir: Path | None) -> None:
    try:
        from naf.evaluation import config
        from naf.evaluation.run import run
    except ModuleNotFoundError as error:
        raise ValueError(f"evaluation needs {error.name}: pip install 'naf-upsampler[eval]'") from error
    values = config.load(task, overrides, config_dir)
    logging.getLogger("naf.data").setLevel(logging.WARNING)  # damaged caches are told of
    try:
        records, failures = run(values, console)
    except KeyboardInterrupt:
        console.print("stopped: the same command goes on from here", markup=False)
        raise typer.Exit(INTERRUPTED) from None
    folder = values["folder"]
    hint = f"; naf eval report {folder} makes tables of them" if records else ""
    console.print(f"{folder}: {_counted(len(records), 'result')}{hint}", markup=False)
    if failures:
        console.print(f"{_counted(failures, 'run')} failed", markup=False)
        raise typer.Exit(1)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


for _task in _HELP:
    app.command(_task)(_verb(_task))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Where evaluations wrote their results; subfolders too.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the report.", show_default="FOLDER/report")
    ] = None,
) -> None:
    """Gather results into report.md, report.tex and plots, beside the published figures.

    Mean and standard deviation over seeds; best and second best are marked. Results of different protocols, settings
    or numbers of images are in tables of their own.
    """
    from naf.evaluation.report import write_report

    if not folder.is_dir():
        raise ValueError(f"FOLDER is {str(folder)!r}, expected a folder with results of naf eval")
    for path in write_report(folder, output or folder / "report"):
        console.print(f"wrote {path}", markup=False)
