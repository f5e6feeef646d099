"""A training run of a second, for several test files."""

import io
import os
import signal

import pytest
import torch
from PIL import Image
from rich.console import Console

from naf.configs.compose import quoted
from naf.training import config
from naf.training.l2 import L2
from naf.training.metrics_file import read_metrics
from tests.helpers import randn

STEPS, EVERY = 5, 2
TINY = [
    "logger=none",
    "backbone={_target_:tests.helpers.Tiny}",
    "upsampler.dim=16",
    "upsampler.heads_attn=1",
    "upsampler.heads_rope=2",
    "upsampler.img_layers=1",
    "upsampler.kernel_size=3",
    "stages=first",
    f"stages.first.steps={STEPS}",
    "stages.first.batch_size=2",
    "stages.first.lr=1e-2",
    "stages.first.geometry={image_size:32,reduced:0.5}",
    f"checkpoint_every={EVERY}",
    f"validate_every={2 * EVERY}",
    "log_every=1",
    "pictures=0",
    "data.workers=0",
    "trainer.accelerator=cpu",
]


def photos(folder, count=6, size=(40, 48)):
    """Smooth random photos."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        coarse = torch.sigmoid(randn(1, 3, 6, 6, seed=index))
        image = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0].clamp(0, 1)
        Image.fromarray((255 * image).byte().permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    return folder


def overrides(folder, *changes):
    """Of a tiny run in `folder`, on photos beside it."""
    data = folder.parent / "photos"
    if not data.exists():
        photos(data / "train")
        photos(data / "val", 3)
    return [
        *TINY,
        f"data.root={data / 'train'}",
        f"data.val={data / 'val'}",
        f"folder={quoted(str(folder))}",
        *changes,
    ]


def load(folder, *changes):
    return config.load(overrides(folder, *changes))


def quiet_console():
    return Console(file=io.StringIO(), width=400)


def losses(folder, key="train/loss"):
    return {row["step"]: row[key] for row in read_metrics(folder / "metrics.csv") if key in row}


def weights(folder):
    """State dict of a run's last checkpoint."""
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


class Faulty(L2):
    """As the environment asks for, at one step: killed, interrupted, ended, or with a loss that is not finite.

    Killed is only what trains in one process.
    """

    def forward(self, upsampler, example):
        terms = super().forward(upsampler, example)
        if os.environ.get("KILLED_AT") == str(example.step) and not torch.distributed.is_initialized():
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("ENDED_AT") == str(example.step):
            os.kill(os.getpid(), signal.SIGTERM)
        if os.environ.get("INTERRUPTED_AT") == str(example.step):
            raise KeyboardInterrupt
        if os.environ.get("NAN_AT") == str(example.step):
            terms["loss"] = terms["loss"] * torch.nan
        return terms


FAULTY = "objective._target_=tests.training.tiny_run.Faulty"


def assert_same(actual, expected, rel=0.0):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert actual[key] == pytest.approx(value, rel=rel, abs=0), key
