"""`naf demo`: the main job on three photos that scikit-image carries."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from torch import Tensor

from naf.benchmark.measure import measure
from naf.cli import inputs, options, sheets
from naf.cli.console import console, progress
from naf.cli.load import load_backbone, load_upsampler
from naf.cli.upsample import describe
from naf.data.features import write_features, write_picture
from naf.data.image import read_image
from naf.data.samples import SAMPLES
from naf.feature_record import metadata
from naf.pipeline import Upsampled, upsample_photo
from naf.registry import create
from naf.upsamplers.base import Upsampler
from naf.visualization.pca import to_image
from naf.visualization.sheet import Panel, comparison_sheet

_PHOTOS = SAMPLES[:3]


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("out/demo"),
    backbone: options.BackboneName = "auto",
    device: options.Device = "auto",
) -> None:
    """Upsample the features of three photos with NAF+ and compare with bilinear.

    Writes for each photo a comparison sheet, NAME.png, and the features in float16, NAME.safetensors; replaces those
    of an earlier run.
    """
    start = time.perf_counter()
    place = inputs.choose_device(device)
    folder = inputs.output_folder(output)
    network = load_backbone(backbone, place, torch.float32, None)
    method = load_upsampler("naf+", "auto", None, place, network)
    bilinear = create("bilinear")
    about = sheets.setting(network, place, torch.float32)
    with progress() as bar:
        task = bar.add_task("", total=len(_PHOTOS))
        for number, photo in enumerate(_PHOTOS):
            name = photo.name
            bar.update(task, description=name)
            image = read_image(photo.path).to(place)
            size = (image.shape[1], image.shape[2])
            with measure(place) as usage:
                result = upsample_photo(
                    image,
                    network,
                    method,
                    dtype=torch.float16,
                    on_progress=lambda share, done=number: bar.update(task, completed=done + share),  # type: ignore[misc]
                )
            assert result.features is not None
            write_features(
                folder / f"{name}.safetensors",
                result.features,
                metadata(photo.file, result.coarse, network, method, "naf+"),
            )
            write_picture(folder / f"{name}.png", _sheet(name, about, image, result, bilinear))
            console.print(
                f"{name}: {describe(result, size)}, {usage.seconds:.2f} s, peak {usage.peak_mib:.0f} MiB", markup=False
            )
            bar.update(task, completed=number + 1)
    console.print(f"wrote {folder}/*.png and *.safetensors in {time.perf_counter() - start:.1f} s", markup=False)


def _sheet(name: str, about: str, image: Tensor, result: Upsampled, bilinear: Upsampler) -> Image.Image:
    coarse, colors = result.coarse, result.colors
    height, width = result.picture.shape[1:]
    smooth = bilinear(None, coarse.features, (height, width))
    fine = sheets.grid_size((height, width))
    panels = [
        Panel(to_image(image), "photo", fine),
        Panel(colors.image(coarse.features), "coarse features", sheets.grid_size(coarse.grid), is_coarse=True),
        Panel(colors.image(smooth), "bilinear", fine),
        Panel(to_image(result.picture), "NAF+", fine),
    ]
    return comparison_sheet(panels, title=name, subtitle=about)
