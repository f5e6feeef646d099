"""Linear probe on CamVid: one linear layer from upsampled features to 11 classes; a first form of the evaluation.

Images are cropped to 480 x 352 (rows 4 to 355). Features of a stride-16 backbone (22 x 30 cells), standardised per
channel by the training images, are upsampled to the full image. The layer (started at zero) learns from 2,048 labelled
pixels drawn once from each training image: AdamW, learning rate 0.01, weight decay 1e-4, cosine to 0, 20 epochs, 4
images a step. It is scored on every labelled pixel of the test images: mean IoU over one confusion matrix, void left
out. Training and testing go through the same upsampler.

    python experiments/probe_camvid.py --data ../shared/data --out out/probe naf bilinear naf=none

An upsampler is NAME, NAME=SOURCE or LABEL=NAME=SOURCE, SOURCE being "none" (untrained), "embedded" or a file. Each
upsampler's result is one JSON file in --out; one that is there already, of the same weights, is not computed again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.progress import track
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

sys.path.insert(0, str(Path(__file__).parents[1]))

import naf
from experiments.candidates import BACKBONES, Candidate, backbone_file, digest, print_table
from naf.data import read_image
from naf.data.atomic import replace_file
from naf.upsamplers.base import Guidance, Upsampler

CLASSES, VOID = 11, 11
ROWS = slice(4, 356)
SIZE, GRID = (352, 480), (22, 30)
PIXELS, EPOCHS, IMAGES, RATE, DECAY = 2048, 20, 4, 0.01, 1e-4


class Photo(NamedTuple):
    """An image (1, 3, 352, 480) with values from 0 to 1 and its labels (352, 480)."""

    image01: Tensor
    labels: Tensor


class Split(NamedTuple):
    """Photos and, for each backbone, their standardised features."""

    photos: list[Photo]
    features: dict[str, list[Tensor]]


def load_photos(root: Path, split: str, every: int) -> list[Photo]:
    """Every n-th photo of a split, in the order of its names."""
    photos = []
    for path in sorted((root / split).glob("*.jpg"))[::every]:
        with Image.open(root / f"{split}annot" / f"{path.stem}.png") as labels:
            photos.append(Photo(read_image(path)[None, :, ROWS], torch.from_numpy(np.array(labels)).long()[ROWS]))
    if not photos:
        raise SystemExit(f"{root / split} holds no .jpg images, expected CamVid in the layout of SegNet")
    return photos


@torch.inference_mode()
def extract(names: list[str], weights: Path, train: list[Photo], test: list[Photo]) -> tuple[Split, Split]:
    """Features of both splits under each backbone, standardised by those of the first."""
    splits = Split(train, {}), Split(test, {})
    for name in names:
        backbone = BACKBONES[name](weights)
        maps = [[backbone(photo.image01) for photo in split.photos] for split in splits]
        every = torch.cat(maps[0])
        mean, std = every.mean((0, 2, 3), keepdim=True), every.std((0, 2, 3), keepdim=True).clamp(min=1e-6)
        for split, features in zip(splits, maps, strict=True):
            split.features[name] = [(one - mean) / std for one in features]
    return splits


def fit(pixels: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Weight (11, C) and bias (11,) of the layer; pixels (images, PIXELS, C), labels (images, PIXELS)."""
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(pixels.shape[-1], CLASSES)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=RATE, weight_decay=DECAY)
    steps = EPOCHS * math.ceil(len(pixels) / IMAGES)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(pixels), generator=generator).split(IMAGES):
            logits = layer(pixels[chosen].float().flatten(0, 1))
            loss = F.cross_entropy(logits, labels[chosen].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return layer.weight.detach(), layer.bias.detach()


def probe(candidate: Candidate, train: Split, test: Split, seeds: list[int]) -> dict[str, dict[str, Any]]:
    """Scores of an upsampler, for each backbone whose features it takes."""
    upsamplers = {
        name: upsampler
        for name, maps in train.features.items()
        if (upsampler := candidate.make(maps[0].shape[1], 16)) is not None
    }
    pixels: dict[str, list[Tensor]] = {name: [] for name in upsamplers}
    targets = []
    generator = torch.Generator().manual_seed(0)
    for index, photo in enumerate(track(train.photos, f"{candidate.label}: training pixels")):
        labelled = (photo.labels != VOID).flatten().nonzero()[:, 0]
        chosen = labelled[torch.randint(len(labelled), (PIXELS,), generator=generator)]
        targets.append(photo.labels.flatten()[chosen])
        with torch.inference_mode():
            for name, guidance in guide(upsamplers, photo).items():
                values = guidance.at(train.features[name][index], chosen // SIZE[1], chosen % SIZE[1])
                pixels[name].append(values[0].T.half())
    labels = torch.stack(targets)
    layers = {}
    for name in upsamplers:
        values = torch.stack(pixels.pop(name))
        layers[name] = [fit(values, labels, seed) for seed in seeds]
    matrices = {name: torch.zeros(len(seeds), CLASSES, CLASSES) for name in upsamplers}
    for index, photo in enumerate(track(test.photos, f"{candidate.label}: test images")):
        with torch.inference_mode():
            for name, guidance in guide(upsamplers, photo).items():
                weight, bias = (torch.cat(each) for each in zip(*layers[name], strict=True))
                logits = guidance.upsample_linear(test.features[name][index], weight, bias)[0]
                for seed, guess in enumerate(logits.unflatten(0, (len(seeds), CLASSES)).argmax(1)):
                    matrices[name][seed] += multiclass_confusion_matrix(
                        guess, photo.labels, num_classes=CLASSES, ignore_index=VOID
                    )
    return {name: scores(matrix) for name, matrix in matrices.items()}


def guide(upsamplers: dict[str, Upsampler], photo: Photo) -> dict[str, Guidance]:
    """The guidance of a photo for each backbone; made once for all whose width does not matter."""
    made: dict[int | None, Guidance] = {}
    for upsampler in upsamplers.values():
        if upsampler.feature_channels not in made:
            made[upsampler.feature_channels] = upsampler.encode(naf.normalize(photo.image01), SIZE, GRID)
    return {name: made[upsampler.feature_channels] for name, upsampler in upsamplers.items()}


def scores(matrices: Tensor) -> dict[str, Any]:
    """Mean IoU (per cent) of each seed, mean and spread, pixel accuracy, IoU of each class, from (seeds, 11, 11)."""
    hit = matrices.diagonal(dim1=1, dim2=2)
    union = matrices.sum(1) + matrices.sum(2) - hit
    iou = 100 * hit / union.clamp(min=1)
    miou = iou.mean(1)
    return {
        "miou": round(miou.mean().item(), 3),
        "spread": round(miou.std(correction=0).item(), 3),
        "seeds": [round(value, 3) for value in miou.tolist()],
        "accuracy": round(100 * (hit.sum(1) / matrices.sum((1, 2))).mean().item(), 3),
        "iou": [round(value, 2) for value in iou.mean(0).tolist()],
    }


def main() -> None:
    """Probe each upsampler, write its result, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("upsamplers", nargs="+", type=Candidate.parse, metavar="UPSAMPLER")
    parser.add_argument("--data", type=Path, required=True, help="folder with CamVid/ and weights/")
    parser.add_argument("--out", type=Path, default=Path("out/probe"))
    parser.add_argument("--backbones", nargs="+", choices=[*BACKBONES], default=[*BACKBONES])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=1, help="take every n-th image of both splits")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    splits: tuple[Split, Split] | None = None
    results = {}
    for candidate in args.upsamplers:
        asked = [candidate.name, candidate.source, args.backbones, args.seeds, args.every]
        files = [candidate.file, *(backbone_file(name, args.data / "weights") for name in args.backbones)]
        path = args.out / f"{candidate.label.replace('/', '_')}.{digest(asked, files)}.json"
        if not path.exists():
            if splits is None:
                photos = [load_photos(args.data / "CamVid", name, args.every) for name in ("train", "test")]
                splits = extract(args.backbones, args.data / "weights", *photos)
            start = time.monotonic()
            result = {
                "upsampler": candidate.label,
                "source": candidate.source,
                "images": [len(s.photos) for s in splits],
            }
            result["backbones"] = probe(candidate, *splits, args.seeds)
            result["seconds"] = round(time.monotonic() - start)
            text = json.dumps(result, indent=2) + "\n"
            replace_file(path, partial(Path.write_text, data=text))
        results[candidate.label] = json.loads(path.read_text())["backbones"]
    cells = {
        (label, name): f"{one['miou']:.2f} ± {one['spread']:.2f} ({one['accuracy']:.1f})"
        for label, result in results.items()
        for name, one in result.items()
    }
    print_table(results, args.backbones, cells)


if __name__ == "__main__":
    main()
