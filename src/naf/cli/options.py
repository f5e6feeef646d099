"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results; made if need be.")]
BackboneName = Annotated[
    str,
    typer.Option(
        "--backbone",
        "-b",
        help="timm name, hog, embedded, or auto: DINOv3 ViT-S/16 if it can be had, else embedded.",
    ),
]
MaxSide = Annotated[
    int | None,
    typer.Option(min=16, help="The backbone sees at most this many pixels on the longer side. Default: all."),
]
Weights = Annotated[
    str,
    typer.Option(
        help="auto, official or official:RELEASE (downloads the authors' file; `naf models --releases`), none "
        "(untrained), a checkpoint file, hf:USER/REPOSITORY, or NAME=SOURCE for single methods, separated by commas."
    ),
]
NeighborhoodRule = Annotated[
    str | None,
    typer.Option(
        "--neighborhood",
        help="NAF's rule where the ratio is no integer: official (the authors' outputs) or cell (no fine lines). "
        "Default: the method's own, official for naf and cell for naf+.",
    ),
]
Size = Annotated[str | None, typer.Option(help="Output grid as HxW, rows first. Default: the photo's own size.")]
Scale = Annotated[float | None, typer.Option(help="Output grid as a factor on the photo's size.")]
Stream = Annotated[
    Path | None,
    typer.Option(
        help="Write the features here instead, band by band, for outputs larger than memory: STORE.zarr (chunks; an "
        "array NAME for each photo) or FILE.safetensors (one photo). A run that was stopped goes on where it was."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Dtype = Annotated[str, typer.Option(help="dtype of the features: float32, float16 or bfloat16.")]
FitSteps = Annotated[
    int, typer.Option(min=1, help="Steps of the fit to each photo, featup-implicit only; on a CPU seconds each.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")]
