"""Settings of the classical denoisers for each kind and level of noise: the best of a grid by PSNR, on training photos.

    python experiments/fit_classical_denoisers.py --photos ../shared/data/BSDS500/data/images/train

Photos are evenly spread over the sorted folder, each cropped at its centre; none of them may be in a test set. The
table is that of `naf.evaluation.classical_denoisers`. Lengths of h and sigma_color are tried in proportion to the
standard deviation of the noise; that of salt and pepper with probability p is taken as sqrt(p / 3), as if values were
uniform.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from statistics import fmean

import torch
from rich.progress import track
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from naf.data import read_image
from naf.data.image import EXTENSIONS
from naf.evaluation.classical_denoisers import denoise
from naf.restoration.metrics import psnr
from naf.restoration.noise import NOISES

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5)
METHODS = ("median", "bilateral", "nl_means")


def deviation(kind: str, level: float) -> float:
    """Standard deviation of the noise, about."""
    return level if kind == "gaussian" else math.sqrt(level / 3)


def grid(name: str, spread: float) -> Iterator[dict[str, float]]:
    """Settings of a method that are tried under noise of a standard deviation."""
    if name == "median":
        for size in (3, 5, 7, 9, 11, 13):
            yield {"size": size}
    elif name == "bilateral":
        for share, spatial in product((1.5, 2.5, 4, 8), (1.5, 2, 3, 4)):
            yield {"sigma_color": round(share * spread, 3), "sigma_spatial": spatial}
    else:
        for share, known, size, distance in product((0.3, 0.45, 0.6, 0.8, 1, 1.3), (0, 1), (3, 5, 7), (5, 9)):
            yield {
                "h": round(share * spread, 3),
                "sigma": round(known * spread, 3),
                "patch_size": size,
                "patch_distance": distance,
            }


def load_crops(folder: Path, photos: int, side: int) -> list[Tensor]:
    """Centre crops (1, 3, side, side)."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
    if len(paths) < photos:
        raise SystemExit(f"{folder} holds {len(paths)} photos, expected at least {photos}")
    crops = []
    for index in range(photos):
        image = read_image(paths[index * len(paths) // photos])[None]
        top, left = ((length - side) // 2 for length in image.shape[2:])
        crops.append(image[:, :, top : top + side, left : left + side])
    return crops


def fit(name: str, kind: str, level: float, crops: list[Tensor]) -> tuple[float, dict[str, float]]:
    """The best settings and their mean PSNR, dB."""
    noise = NOISES[kind](level)
    pairs = [(crop, noise(crop, torch.Generator().manual_seed(index))) for index, crop in enumerate(crops)]

    def quality(settings: Mapping[str, float]) -> float:
        return fmean(psnr(denoise(name, noisy, settings), clean).item() for clean, noisy in pairs)

    tried = [(quality(settings), settings) for settings in grid(name, deviation(kind, level))]
    return max(tried, key=lambda one: one[0])


def main() -> None:
    """Fit all methods and print the table as Python."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of training photos")
    parser.add_argument("--number", type=int, default=6, help="of photos")
    parser.add_argument("--side", type=int, default=192, help="of the crops, pixels")
    parser.add_argument("--levels", type=float, nargs="+", default=LEVELS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    args = parser.parse_args()
    crops = load_crops(args.photos, args.number, args.side)
    lines = []
    for kind, name in track(list(product(NOISES, args.methods)), "methods"):
        lines.append(f'    ("{kind}", "{name}"): {{')
        for level in args.levels:
            best, settings = fit(name, kind, level, crops)
            inside = ", ".join(f'"{key}": {value:g}' for key, value in settings.items())
            lines.append(f"        {level:g}: {{{inside}}},  # {best:.2f} dB")
        lines.append("    },")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
