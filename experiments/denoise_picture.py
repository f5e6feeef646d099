"""The picture of docs/restoration.md: a photo with both kinds of noise, as filters and NAF restore it.

    python experiments/denoise_picture.py --output docs/images/denoise.jpg

NAF has the weights of the package; the filters are told the level of the noise. The photo is one of scikit-image's,
NASA's portrait of Eileen Collins, which no training saw.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

import naf.restoration
from naf.data import read_image
from naf.data.samples import SAMPLES
from naf.evaluation.classical_denoisers import denoise, settings_for
from naf.restoration.metrics import psnr
from naf.restoration.noise import NOISES
from naf.visualization import Panel, comparison_sheet
from naf.visualization.pca import to_image

FILTERS = {"gaussian": "bilateral", "salt-and-pepper": "median"}
"""The one of two filters that is the usual choice for a kind of noise, by kind; the other is non-local means."""
TITLES = {
    "gaussian": "Gaussian noise",
    "salt-and-pepper": "salt and pepper",
    "bilateral": "bilateral filter",
    "median": "median filter",
    "nl_means": "non-local means",
}


@torch.inference_mode()
def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=SAMPLES[0].path)
    parser.add_argument("--level", type=float, default=0.3)
    box = "LEFT", "TOP", "RIGHT", "BOTTOM"
    parser.add_argument("--box", type=int, nargs=4, default=(110, 8, 366, 264), metavar=box, help="what is shown")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()

    left, top, right, bottom = arguments.box
    clean = read_image(arguments.photo)[None]
    panels = []
    for kind, make in NOISES.items():
        noisy = make(arguments.level)(clean, torch.Generator().manual_seed(0))
        made = {f"{TITLES[kind]}, {arguments.level:g}": noisy}
        for name in (FILTERS[kind], "nl_means"):
            made[TITLES[name]] = denoise(name, noisy, settings_for(name, kind, arguments.level))
        made["NAF"] = naf.restoration.create("naf", f"embedded:{kind}").restore(noisy)
        for title, image in made.items():
            view = image[0, :, top:bottom, left:right].clamp(0, 1)
            panels.append(Panel(to_image(view), title, f"{decibel(image, clean):.2f} dB"))
        panels.append(Panel(to_image(clean[0, :, top:bottom, left:right]), "without noise"))
    comparison_sheet(panels, columns=len(panels) // len(NOISES), width=320).save(arguments.output, quality=88)


def decibel(image: Tensor, clean: Tensor) -> float:
    """PSNR of the whole photo."""
    return float(psnr(image, clean))


if __name__ == "__main__":
    main()
