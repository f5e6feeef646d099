"""The picture in the README: AnyUp's official multi-backbone weights on a real photo and a real backbone.

python experiments/anyup_picture.py --weights ../shared/data/weights --output docs/images/anyup.jpg
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import skimage.data
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import naf
from experiments.pretrained import SqueezeNet
from naf.data import read_image
from naf.visualization import Panel, PCAColors, comparison_sheet
from naf.visualization.pca import to_image


@torch.inference_mode()
def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder with the SqueezeNet and AnyUp files")
    parser.add_argument("--photo", type=Path, default=Path(skimage.data.__file__).parent / "astronaut.png")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()

    image = read_image(arguments.photo)[None]
    size = tuple(image.shape[2:])
    backbone = SqueezeNet(arguments.weights / "squeezenet1_0_imagenet.safetensors", "fire9")
    official = arguments.weights / "official" / "anyup_multi_backbone.safetensors"
    methods = {"bilinear": naf.create("bilinear"), "AnyUp": naf.create("anyup", weights=official)}
    features = backbone(image)
    colors = PCAColors.fit(features)
    grid, full = ("x".join(map(str, sides)) for sides in (features.shape[2:], size))
    panels = [
        Panel(to_image(image[0]), "photo", full),
        Panel(colors.image(features), backbone.name, f"{features.shape[1]} channels, {grid}", is_coarse=True),
    ]
    for name, method in methods.items():
        panels.append(Panel(colors.image(method(naf.normalize(image), features, size)), name, full))
    comparison_sheet(panels).save(arguments.output, quality=88)


if __name__ == "__main__":
    main()
