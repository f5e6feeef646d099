"""`naf compare`: several upsamplers side by side on one photo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from naf.benchmark.measure import measure
from naf.cli import inputs, options
from naf.cli.console import console, progress
from naf.cli.load import fit_to_photo, load_backbone, load_upsampler
from naf.data.features import write_picture
from naf.data.image import read_image
from naf.normalization import normalize
from naf.registry import entry
from naf.visualization.pca import PCAColors, to_image
from naf.visualization.sheet import Panel, comparison_sheet


def compare(
    photo: Annotated[Path, typer.Argument(help="The photo.", show_default=False)],
    upsamplers: Annotated[str, typer.Option("--upsamplers", "-u", help="Names, separated by commas.")] = "bilinear,naf",
    output: options.Output = Path("out"),
    backbone: options.BackboneName = "auto",
    weights: options.Weights = "auto",
    neighborhood: options.NeighborhoodRule = None,
    size: options.Size = None,
    scale: options.Scale = None,
    max_side: options.MaxSide = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    fit_steps: options.FitSteps = 1200,
    overwrite: options.Overwrite = False,
) -> None:
    """Put upsamplers side by side on one photo.

    Writes NAME_compare.png: the photo, the coarse features and the result of each method, all coloured with one PCA
    basis, with the time and memory of each call (one call each, encoding included; a fit to the photo is not counted).
    """
    names = list(dict.fromkeys(name.strip() for name in upsamplers.split(",") if name.strip()))
    if not names:
        raise ValueError(f"--upsamplers is {upsamplers!r}, expected names separated by commas")
    for name in names:
        entry(name)
    place, kind = inputs.choose_device(device), inputs.choose_dtype(dtype)
    image = read_image(photo).to(place)
    image_size = (image.shape[1], image.shape[2])
    goal = inputs.output_size(image_size, size, scale)
    target = inputs.output_folder(output) / f"{photo.stem}_compare.png"
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists: --overwrite replaces it")
    network = load_backbone(backbone, place, kind, max_side)
    with torch.inference_mode(), progress() as bar:
        task = bar.add_task(network.name, total=1 + len(names))
        coarse = network.extract(image[None])
        features, colors = coarse.features.to(kind), PCAColors.fit(coarse.features)
        h, w = coarse.grid
        panels = [
            Panel(to_image(image), "photo", f"{image_size[0]}x{image_size[1]}"),
            Panel(colors.image(features), network.name, f"{features.shape[1]} channels, {h}x{w}", is_coarse=True),
        ]
        bar.advance(task)
        for name in names:
            bar.update(task, description=name)
            method = load_upsampler(name, weights, neighborhood, place, network)
            fit_to_photo(method, image, network, fit_steps, target.with_name(f"{photo.stem}_{name}.fit"), bar)
            with measure(place) as usage:
                out = method(normalize(image[None]), features, goal)
            caption = f"{goal[0]}x{goal[1]}, {_seconds(usage.seconds)}, +{usage.above_mib:.0f} MiB"
            title = f"{name} (untrained)" if method.weights_source.startswith("untrained") else name
            panels.append(Panel(colors.image(out), title, caption))
            console.print(f"{name}: {caption}", markup=False)
            bar.advance(task)
    write_picture(target, comparison_sheet(panels, title=photo.name))
    console.print(f"wrote {target}", markup=False)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
