"""Squared error of upsampled features on photos that no training saw, for several backbones and upsamplers.

The training task of NAF (section 3.2): features of the photo at half its size are brought to the grid of the photo's
own features. Photos: CBSD68, every fifth test image of CamVid, every fifth frame of DAVIS' kite-surf; each is cropped
at its centre to 320 x 320 (20 x 20 cells of stride 16, from 10 x 10). Each channel is divided by its standard
deviation over the targets, so that all weigh the same. The guidance is the whole crop.

    python experiments/held_out_loss.py --data ../shared/data nearest bilinear bicubic jbf naf=none naf

An upsampler is NAME, NAME=SOURCE or LABEL=NAME=SOURCE, SOURCE being "none" (untrained), "embedded" or a file. The
backbones are those of configs/experiment/eval_camvid.yaml.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

import naf
from naf import registry
from naf.backbones import Backbone
from naf.configs.compose import quoted
from naf.data import read_image
from naf.data.atomic import replace_file
from naf.evaluation.candidates import Candidate, make_backbones, parse_all
from naf.evaluation.config import load
from naf.upsamplers.base import Upsampler

CONFIGS = Path(__file__).parent / "configs"

SIDE = 320
PHOTOS = {"denoise/CBSD68/*.png": 1, "CamVid/test/*.jpg": 5, "DAVIS/JPEGImages/480p/kite-surf/*.jpg": 5}


def backbones_in(data: Path) -> dict[str, Any]:
    """The backbones of the evaluation on CamVid as its configuration has them, by label; all of stride 16."""
    values = load("segmentation", ["experiment=eval_camvid", f"dataset.root={quoted(str(data))}"], CONFIGS)
    return dict(values["backbone"])


def make_upsampler(candidate: Candidate, backbone: Backbone, label: str) -> Upsampler | None:
    """The upsampler for a backbone's features; None where its file is for features of another width."""
    try:
        return candidate.make(backbone, label)
    except (naf.WeightsError, ValueError):
        if Path(candidate.weights).is_file() and registry.entry(candidate.name).channels_argument:
            return None
        raise


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
def losses(candidates: list[Candidate], name: str, backbone: Backbone, photos: list[Tensor]) -> dict[str, float]:
    """Mean squared error of each upsampler for the features of one backbone."""
    targets = [backbone(photo) for photo in photos]
    half = [
        F.interpolate(photo, scale_factor=0.5, mode="bilinear", align_corners=False).clamp(0, 1) for photo in photos
    ]
    inputs = [backbone(photo) for photo in half]
    scale = torch.cat(targets).std((0, 2, 3), keepdim=True).clamp(min=1e-6)
    found = {}
    for candidate in track(candidates, name):
        upsampler = make_upsampler(candidate, backbone, name)
        if upsampler is None:
            continue
        error = 0.0
        for photo, features, target in zip(photos, inputs, targets, strict=True):
            made = upsampler(naf.normalize(photo), features, target.shape[2:])
            error += F.mse_loss(made / scale, target / scale).item()
        found[candidate.label] = error / len(photos)
    return found


def print_table(labels: Iterable[str], backbones: Iterable[str], cells: Mapping[tuple[str, str], str]) -> None:
    """A Markdown table, a line an upsampler and a column a backbone; – where (label, backbone) has no cell."""
    names = list(backbones)
    print("| upsampler |", " | ".join(names), "|")
    print("| --- |" + " --- |" * len(names))
    for label in labels:
        print(f"| {label} | " + " | ".join(cells.get((label, name), "–") for name in names) + " |")


def main() -> None:
    """Compute all errors, write them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upsamplers", nargs="+", metavar="UPSAMPLER")
    parser.add_argument("--data", type=Path, required=True, help="folder with CamVid/, DAVIS/, denoise/ and weights/")
    parser.add_argument("--out", type=Path, default=Path("out/held_out_loss.json"))
    parser.add_argument("--backbones", nargs="+", metavar="BACKBONE", help="default: all")
    args = parser.parse_args()
    known = backbones_in(args.data)
    names = args.backbones or [*known]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"--backbones is {', '.join(unknown)}, expected some of {', '.join(known)}")
    try:
        candidates = parse_all(args.upsamplers)
    except ValueError as error:
        parser.error(str(error))
    photos = load_photos(args.data)
    table = {}
    for name in names:
        backbone = make_backbones({name: known[name]}, torch.device("cpu"))[name]
        table[name] = losses(candidates, name, backbone, photos)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"photos": len(photos), "mean_squared_error": table}, indent=2) + "\n"
    replace_file(args.out, lambda temporary: temporary.write_text(text))
    print(f"{len(photos)} photos\n")
    cells = {(label, name): f"{error:.3f}" for name, row in table.items() for label, error in row.items()}
    print_table([candidate.label for candidate in candidates], names, cells)


if __name__ == "__main__":
    main()
