"""Squared error of upsampled features on photos that no training saw, for several backbones and upsamplers.

The training task of NAF (section 3.2): features of the photo at half its size are brought to the grid of the photo's
own features. Photos: CBSD68, every fifth test image of CamVid, every fifth frame of DAVIS' kite-surf; each is cropped
at its centre to 320 x 320 (20 x 20 cells of stride 16, from 10 x 10). Each channel is divided by its standard
deviation over the targets, so that all weigh the same. The guidance is the whole crop.

    python experiments/held_out_loss.py --data ../shared/data nearest bilinear bicubic jbf naf=none naf

An upsampler is NAME, NAME=SOURCE or LABEL=NAME=SOURCE, SOURCE being "none" (untrained), "embedded" or a file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

import naf
from experiments.candidates import BACKBONES, Candidate, print_table
from naf.data import read_image
from naf.data.atomic import replace_file

SIDE = 320
PHOTOS = {"denoise/CBSD68/*.png": 1, "CamVid/test/*.jpg": 5, "DAVIS/JPEGImages/480p/kite-surf/*.jpg": 5}


def load_photos(data: Path) -> list[Tensor]:
    """Centre crops (1, 3, 320, 320), values from 0 to 1."""
    crops = []
    for pattern, every in PHOTOS.items():
        paths = sorted(data.glob(pattern))[::every]
        if not paths:
            raise SystemExit(f"{data} has no {pattern}")
        for path in paths:
            image = read_image(path)[None]
            top, left = ((side - SIDE) // 2 for side in image.shape[2:])
            crops.append(image[:, :, top : top + SIDE, left : left + SIDE])
    return crops


@torch.inference_mode()
def losses(candidates: list[Candidate], name: str, weights: Path, photos: list[Tensor]) -> dict[str, float]:
    """Mean squared error of each upsampler for the features of one backbone."""
    backbone = BACKBONES[name](weights)
    targets = [backbone(photo) for photo in photos]
    half = [
        F.interpolate(photo, scale_factor=0.5, mode="bilinear", align_corners=False).clamp(0, 1) for photo in photos
    ]
    inputs = [backbone(photo) for photo in half]
    scale = torch.cat(targets).std((0, 2, 3), keepdim=True).clamp(min=1e-6)
    found = {}
    for candidate in track(candidates, name):
        upsampler = candidate.make(targets[0].shape[1], 16)
        if upsampler is None:
            continue
        error = 0.0
        for photo, features, target in zip(photos, inputs, targets, strict=True):
            made = upsampler(naf.normalize(photo), features, target.shape[2:])
            error += F.mse_loss(made / scale, target / scale).item()
        found[candidate.label] = error / len(photos)
    return found


def main() -> None:
    """Compute all errors, write them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upsamplers", nargs="+", type=Candidate.parse, metavar="UPSAMPLER")
    parser.add_argument("--data", type=Path, required=True, help="folder with CamVid/, DAVIS/, denoise/ and weights/")
    parser.add_argument("--out", type=Path, default=Path("out/held_out_loss.json"))
    parser.add_argument("--backbones", nargs="+", choices=[*BACKBONES], default=[*BACKBONES])
    args = parser.parse_args()
    photos = load_photos(args.data)
    table = {name: losses(args.upsamplers, name, args.data / "weights", photos) for name in args.backbones}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"photos": len(photos), "mean_squared_error": table}, indent=2) + "\n"
    replace_file(args.out, lambda temporary: temporary.write_text(text))
    print(f"{len(photos)} photos\n")
    cells = {(label, name): f"{error:.3f}" for name, row in table.items() for label, error in row.items()}
    print_table([candidate.label for candidate in args.upsamplers], args.backbones, cells)


if __name__ == "__main__":
    main()
