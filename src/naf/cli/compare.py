"""`naf compare`: several upsamplers side by side on one photo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from naf.benchmark.measure import measure
from naf.cli import inputs, options, sheets
from naf.cli.console import console, progress
from naf.cli.load import fit_to_photo, load_backbone, load_upsampler
from naf.data.features import write_picture
from naf.data.image import read_image
from naf.normalization import normalize
from naf.pipeline import check_memory
from naf.visualization.pca import PCAColors, to_image
from naf.visualization.sheet import Panel, comparison_sheet


def compare(
    photo: Annotated[Path, typer.Argument(help="The photo.", show_default=False)],
    upsamplers: sheets.Upsamplers = "bilinear,naf",
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
    theme: sheets.Theme = sheets.ThemeName.light,
    overwrite: options.Overwrite = False,
) -> None:
    """Put upsamplers side by side on one photo.

    Writes NAME_compare.png: the photo, the coarse features and the result of each method, all coloured with one PCA
    basis, with the time and memory of each call (one call each, encoding included; a fit to the photo is not counted).
    """
    names = sheets.method_names(upsamplers)
    place, kind = inputs.choose_device(device), inputs.choose_dtype(dtype)
    image = read_image(photo).to(place)
    image_size = (image.shape[1], image.shape[2])
    goal = inputs.output_size(image_size, size, scale)
    target = sheets.sheet_path(output, photo, "compare", overwrite=overwrite)
    network = load_backbone(backbone, place, kind, max_side)
    with torch.inference_mode(), progress() as bar:
        task = bar.add_task(network.name, total=1 + len(names))
        with measure(place) as usage:
            coarse = network.extract(image[None])
        features, colors = coarse.features.to(kind), PCAColors.fit(coarse.features)
        caption = "\t".join([sheets.grid_size(coarse.grid), *sheets.cost(usage)])
        panels = [
            Panel(to_image(image), "photo", sheets.grid_size(image_size)),
            Panel(colors.image(features), "coarse features", caption, is_coarse=True),
        ]
        bar.advance(task)
        for name in names:
            bar.update(task, description=name)
            method = load_upsampler(name, weights, neighborhood, place, network)
            kept = features.element_size() * features.shape[1] * goal[0] * goal[1]
            check_memory(goal, kept + method.memory(image_size, goal), place)
            fit_to_photo(method, image, network, fit_steps, target.with_name(f"{photo.stem}_{name}.fit"), bar)
            with measure(place) as usage:
                out = method(normalize(image[None]), features, goal)
            time, memory = sheets.cost(usage)
            caption = f"{sheets.grid_size(goal)}\t{time}\t{memory}"
            panels.append(Panel(colors.image(out), sheets.method_title(name, method), caption))
            del out  # before the next is made
            console.print(f"{name}: {goal[0]}x{goal[1]}, {time}, {memory}", markup=False)
            bar.advance(task)
    about = sheets.setting(network, place, kind, "one call each, encoding included")
    sheet = comparison_sheet(panels, title=photo.name, subtitle=about, theme=theme)
    write_picture(target, sheet)
    console.print(f"wrote {target}", markup=False)
