"""A folder of small photos and networks for the denoising task."""

import io
from copy import deepcopy
from functools import lru_cache

import numpy as np
from PIL import Image
from rich.console import Console

from naf.evaluation import config
from naf.evaluation.run import run
from naf.restoration import create, record_of
from naf.weight_writer import write_weights

GREY = 128 / 255
SMALL = {
    "naf": {"dim": 16, "heads_rope": 1, "kernel_size": 3, "img_layers": 1},
    "ircnn": {},
    "dncnn": {"num_layers": 2, "num_features": 4},
}


def save_grey(path, size=(32, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (128, 128, 128)).save(path)


def save_scene(path, seed, size=(32, 24)):
    """Soft blobs of colour."""
    width, height = size
    drawn = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [
        128 + 90 * np.sin(columns / drawn.uniform(3, 9) + rows / drawn.uniform(3, 9) + phase) for phase in range(3)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(path)


def write_photos(root, count=4):
    for index in range(count):
        save_scene(root / f"{index}.png", index)
    return root


def write_network(path, name="dncnn", seed=0):
    """A weight file of a small restorer."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = create(name, None, **SMALL[name])
    write_weights(path, made.state_dict(), record_of(made))
    return path


@lru_cache
def _composed(changes):
    given = ["dataset=folder", "noise=gaussian", "noise.level=0.1", "restorer=noisy", "device=cpu"]
    return config.load("denoise", [*given, "dataset.root=ROOT", "folder=FOLDER", *changes])


def denoise(root, *changes, folder, **more):
    """Records, failures and what was said of a command; keywords are values as they are."""
    values = deepcopy(_composed(changes)) | more  # composing takes longer than the run
    values["dataset"]["root"] = str(root)
    values["folder"] = str(folder)
    said = io.StringIO()
    records, failures = run(values, Console(file=said, width=400))
    return records, failures, said.getvalue()
