"""`naf upsample`: photos in, sharp features and their PCA pictures out."""

from __future__ import annotations

import logging
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from naf.backbones.base import Backbone
from naf.benchmark.measure import measure
from naf.cli import inputs, options
from naf.cli.console import console, fail, progress
from naf.cli.load import fit_to_photo, load_backbone, load_upsampler
from naf.data.features import write_features, write_picture
from naf.data.image import read_image
from naf.pipeline import Upsampled, upsample_photo
from naf.upsamplers.base import Upsampler
from naf.visualization.pca import to_image

log = logging.getLogger("naf")


class Save(StrEnum):
    """Format of the features."""

    safetensors = "safetensors"
    npy = "npy"
    none = "none"


def upsample(
    photos: Annotated[list[str], typer.Argument(help="Photos, folders of photos, or globs.", show_default=False)],
    output: options.Output = Path("out"),
    backbone: options.BackboneName = "auto",
    upsampler: Annotated[str, typer.Option("--upsampler", "-u", help="Name of the method; see `naf models`.")] = "naf",
    weights: options.Weights = "auto",
    neighborhood: options.NeighborhoodRule = "official",
    size: options.Size = None,
    scale: options.Scale = None,
    save: Annotated[
        Save, typer.Option(help="Format of the features; none keeps the PCA picture only.")
    ] = Save.safetensors,
    max_side: options.MaxSide = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    fit_steps: options.FitSteps = 1200,
    overwrite: options.Overwrite = False,
) -> None:
    """Upsample the features of photos.

    Writes NAME.safetensors (or .npy) with the features, (C, H, W), and NAME.png with their PCA colours. Photos whose
    results are there already are skipped, so a run that was stopped can be started again. A photo that fails does
    not stop the others; the exit status is then 1.
    """
    paths = inputs.find_photos(photos)
    names = inputs.name_results(paths)
    place, kind = inputs.choose_device(device), inputs.choose_dtype(dtype)
    inputs.output_size((1, 1), size, scale)
    if save is Save.npy and dtype == "bfloat16":
        raise ValueError("--save npy cannot hold --dtype bfloat16: take float16, float32 or --save safetensors")
    folder = inputs.output_folder(output)
    network = load_backbone(backbone, place, kind, max_side)
    method = load_upsampler(upsampler, weights, neighborhood, place, network)
    failed = 0
    with progress() as bar:
        task = bar.add_task("", total=len(paths))
        for number, path in enumerate(paths):
            bar.update(task, description=path.name)
            picture = folder / f"{names[path]}.png"
            stored = None if save is Save.none else folder / f"{names[path]}.{save.value}"
            targets = [target for target in (stored, picture) if target is not None]
            kept = [] if overwrite else [target for target in targets if target.exists()]
            missing = [target for target in targets if target not in kept]
            if not missing:
                console.print(f"{path}: skipped, {kept[0]} exists (--overwrite replaces it)", markup=False)
                bar.update(task, completed=number + 1)
                continue
            try:
                image = read_image(path).to(place)
                goal = inputs.output_size((image.shape[1], image.shape[2]), size, scale)
                fit_to_photo(method, image, network, fit_steps, folder / f"{names[path]}_{upsampler}.fit", bar)
                with measure(place) as usage:
                    result = upsample_photo(
                        image,
                        network,
                        method,
                        goal,
                        dtype=kind,
                        keep_features=stored is not None,
                        on_progress=lambda share, done=number: bar.update(task, completed=done + share),  # type: ignore[misc]
                    )
                if stored in missing and result.features is not None:
                    write_features(stored, result.features, metadata(path.name, result, network, method, upsampler))
                if picture in missing:
                    write_picture(picture, to_image(result.picture))
            except Exception as error:  # whatever is wrong with this photo, the next may be fine
                failed += 1
                log.debug("%s", path, exc_info=True)
                fail(str(error) if str(path) in str(error) else f"{path}: {error}")
            else:
                console.print(
                    f"{path}: {describe(result, goal)}, {usage.seconds:.2f} s, peak {usage.peak_mib:.0f} MiB → "
                    f"{', '.join(map(str, missing))}{f' ({kept[0]} was there and is kept)' if kept else ''}",
                    markup=False,
                )
            bar.update(task, completed=number + 1)
    if failed:
        fail(f"{failed} of {len(paths)} photos failed")
        raise typer.Exit(1)


def describe(result: Upsampled, output_size: tuple[int, int]) -> str:
    """Sizes and ratio in words."""
    (h, w), (ho, wo) = result.coarse.grid, output_size
    channels = result.coarse.features.shape[1]
    rows, cols = ho / h, wo / w
    ratio = f"x{rows:.4g}" if f"{rows:.4g}" == f"{cols:.4g}" else f"x{rows:.4g}, x{cols:.4g}"
    return f"{channels} channels, {h}x{w} → {ho}x{wo} ({ratio})"


def metadata(photo: str, result: Upsampled, backbone: Backbone, method: Upsampler, name: str) -> dict[str, object]:
    """What is stored beside features: where they come from and how they lie on the photo."""
    coarse = result.coarse
    return {
        "photo": os.fsencode(photo).decode(errors="replace"),
        "image_size": "x".join(map(str, coarse.image_size)),
        "backbone": backbone.name,
        "backbone_input_size": "x".join(map(str, coarse.input_size)),
        "stride": coarse.stride,
        "grid": "x".join(map(str, coarse.grid)),
        "upsampler": name,
        "weights": method.weights_source,
        "neighborhood": getattr(method, "neighborhood", "-"),
        "layout": "features: (channels, rows, columns)",
    }
