"""`naf similarity`: where a photo's features are like those of a chosen pixel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from torch import Tensor

from naf.cli import inputs, options, sheets
from naf.cli.console import console, progress
from naf.cli.load import fit_to_photo, load_backbone, load_upsampler
from naf.data.features import write_picture
from naf.data.image import read_image
from naf.normalization import normalize
from naf.pipeline import check_memory
from naf.visualization.heat import heat_image, heat_range, mark
from naf.visualization.pca import to_image
from naf.visualization.sheet import ColorScale, Panel, comparison_sheet
from naf.visualization.view import FeatureView

_MARKED = 960  # least pixels of the longer side of a picture that is marked: the mark is then fine on the sheet


def similarity(
    photo: Annotated[Path, typer.Argument(help="The photo.", show_default=False)],
    point: Annotated[
        list[str],
        typer.Option(
            "--point",
            "-p",
            help="X,Y: column and row of a pixel of the photo as it is seen, from 0,0 at the upper left. Can be "
            "repeated.",
            show_default=False,
        ),
    ],
    upsamplers: sheets.Upsamplers = "naf",
    output: options.Output = Path("out"),
    backbone: options.BackboneName = "auto",
    weights: options.Weights = "auto",
    neighborhood: options.NeighborhoodRule = None,
    size: options.Size = None,
    scale: options.Scale = None,
    max_side: options.MaxSide = None,
    device: options.Device = "auto",
    fit_steps: options.FitSteps = 1200,
    theme: sheets.Theme = sheets.ThemeName.light,
    overwrite: options.Overwrite = False,
) -> None:
    """Show where a photo's features are like those of a chosen pixel.

    Writes NAME_similarity.png, a row for each point: the photo with the point marked, and the cosine similarity of
    every position with that point, for the coarse features and for the result of each upsampler, in one colour scale.
    """
    names = sheets.method_names(upsamplers)
    place = inputs.choose_device(device)
    image = read_image(photo).to(place)
    image_size = (image.shape[1], image.shape[2])
    points = [parse_point(each, photo.name, image_size) for each in dict.fromkeys(point)]
    goal = inputs.output_size(image_size, size, scale)
    target = sheets.sheet_path(output, photo, "similarity", overwrite=overwrite)
    network = load_backbone(backbone, place, torch.float32, max_side)
    with torch.inference_mode(), progress() as bar:
        task = bar.add_task(network.name, total=1 + len(names))
        coarse = network.extract(image[None])
        titles, sizes = ["coarse features"], [coarse.grid]
        maps = [_similarities(FeatureView.of_map(coarse.features), image_size, points)]
        bar.advance(task)
        for name in names:
            bar.update(task, description=name)
            method = load_upsampler(name, weights, neighborhood, place, network)
            fit_to_photo(method, image, network, fit_steps, target.with_name(f"{photo.stem}_{name}.fit"), bar)
            check_memory(goal, method.memory(image_size, goal), place)
            guidance = method.encode(normalize(image[None]), goal, coarse.grid)
            if not guidance.has_lean_head:  # the view keeps the full map
                check_memory(goal, 4 * coarse.features.shape[1] * goal[0] * goal[1], place)
            maps.append(_similarities(FeatureView.of_guidance(guidance, coarse.features), image_size, points))
            titles.append(sheets.method_title(name, method))
            sizes.append(goal)
            bar.advance(task)
    panels = []
    for (row, col), *heats in zip(points, *maps, strict=True):
        low, high = heat_range(*heats)
        strip = ColorScale(heat_image(torch.linspace(0, 1, 128)[None], 0, 1), _signed(low), _signed(high))
        marked = _marked(to_image(image), (row, col), image_size)
        panels.append(Panel(marked, f"x {col}, y {row}", "cosine", scale=strip))
        for index, (title, grid, heat) in enumerate(zip(titles, sizes, heats, strict=True)):
            is_coarse = index == 0
            picture = _marked(heat_image(heat, low, high), (row, col), image_size, is_coarse=is_coarse)
            panels.append(Panel(picture, title, sheets.grid_size(grid), is_coarse=is_coarse))
        console.print(f"{col},{row}: cosine {low:.2f} to {high:.2f}", markup=False)
    about = "cosine similarity with the marked pixel · " + sheets.setting(network, place, torch.float32)
    sheet = comparison_sheet(panels, title=photo.name, subtitle=about, theme=theme, columns=1 + len(titles))
    write_picture(target, sheet)
    console.print(f"wrote {target}", markup=False)


def parse_point(text: str, photo: str, image_size: tuple[int, int]) -> tuple[int, int]:
    """(row, column) of a pixel given as "X,Y".

    Args:
        text: column and row.
        photo: its name, for messages.
        image_size: (H, W).

    Raises:
        ValueError: if it is malformed or lies outside the photo.
    """
    parts = text.split(",")
    if len(parts) != 2 or not all(re.fullmatch(r"\s*-?[0-9]+\s*", part) for part in parts):
        raise ValueError(f"--point is {text!r}, expected X,Y: column and row of a pixel of the photo, e.g. 230,105")
    col, row = map(int, parts)
    height, width = image_size
    if not (0 <= row < height and 0 <= col < width):
        raise ValueError(
            f"--point {text} lies outside of {photo}, expected X from 0 to {width - 1} and Y from 0 to {height - 1}"
        )
    return row, col


def position_on(size: tuple[int, int], pixel: tuple[int, int], image_size: tuple[int, int]) -> tuple[int, int]:
    """The position of a grid over the whole photo that holds the centre of a pixel.

    Args:
        size: (rows, columns) of the grid.
        pixel: (row, column) of the photo.
        image_size: (H, W) of the photo.
    """
    row, col = ((2 * p + 1) * grid // (2 * full) for p, grid, full in zip(pixel, size, image_size, strict=True))
    return row, col


def _similarities(view: FeatureView, image_size: tuple[int, int], points: list[tuple[int, int]]) -> list[Tensor]:
    """Cosine of every position with that of each point, (H, W) each, on the CPU."""
    return [view.similarity(view.vector(*position_on(view.size, point, image_size))).cpu() for point in points]


def _marked(
    picture: Image.Image, pixel: tuple[int, int], image_size: tuple[int, int], *, is_coarse: bool = False
) -> Image.Image:
    """A picture of the whole photo with a pixel of the photo marked."""
    factor = -(-_MARKED // max(picture.size))
    if factor > 1:
        resample = Image.Resampling.NEAREST if is_coarse else Image.Resampling.BICUBIC
        picture = picture.resize((picture.width * factor, picture.height * factor), resample)
    return mark(picture, *pixel, image_size)


def _signed(value: float) -> str:
    """With two digits and a minus as long as a plus."""
    return f"{value:.2f}".replace("-", "−")
