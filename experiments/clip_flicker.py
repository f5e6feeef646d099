"""How much the colours of a clip change from frame to frame: one PCA basis for the whole clip, or one a frame.

    python experiments/clip_flicker.py FILE_OR_FOLDER…

Three clips are made of each: itself; its first frame, ten times, with the noise of a camera (a standard deviation of 2
levels of 255); its first frame, ten times, as it is. Printed is the mean absolute change of the coarse features'
colours from a frame to the next, in levels of 255; of the last clip also that in a video written by `upsample_clip`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

import naf
from naf.clip import upsample_clip
from naf.data.video import open_clip
from naf.visualization.pca import PCAColors, to_image


@torch.inference_mode()
def main() -> None:
    """Print a line for each clip and kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--backbone", default="embedded")
    arguments = parser.parse_args()
    backbone = naf.backbones.create(arguments.backbone)
    for path in arguments.clips:
        clip = open_clip(path)
        frames = list(clip.read(range(len(clip))))
        draw = torch.Generator().manual_seed(0)
        noise = (2 / 255 * torch.randn(frames[0].shape, generator=draw) for _ in range(10))
        kinds = {
            "itself": frames,
            "first frame, noise": [(frames[0] + each).clamp(0, 1) for each in noise],
            "first frame": [frames[0]] * 10,
        }
        for kind, images in kinds.items():
            features = [backbone(image[None]) for image in images]
            common = PCAColors.fit(torch.cat(features))
            single = [PCAColors.fit(each) for each in features]
            one = change([common.project(each) for each in features])
            many = change([colors.project(each) for colors, each in zip(single, features, strict=True)])
            print(f"{path.stem}, {kind}: one basis {one:.2f}, one a frame {many:.2f}")
        print(f"{path.stem}, first frame, as a video: {written(frames[0], backbone):.2f}")


def change(colors: Sequence[Tensor]) -> float:
    """Mean absolute difference of neighbours, levels of 255."""
    pictures = [np.asarray(to_image(each[0]), dtype=float) for each in colors]
    return float(np.mean([np.abs(one - other).mean() for one, other in pairwise(pictures)]))


def written(image01: Tensor, backbone: naf.backbones.Backbone) -> float:
    """The same of the frames of a video of one image, ten times."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "frames").mkdir()
        for number in range(10):
            to_image(image01).save(folder / f"frames/{number}.png")
        clip, methods = open_clip(folder / "frames"), {"bilinear": naf.create("bilinear")}
        upsample_clip(clip, folder / "clip.mp4", backbone, methods, layout="result")
        video = open_clip(folder / "clip.mp4")
        return change([frame[None] for frame in video.read(range(len(video)))])


if __name__ == "__main__":
    main()
