"""Small segmentation sets: CamVid's layout on disk, a folder of one's own, and images that are made up in memory."""

import io
from copy import deepcopy
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from naf.evaluation import config
from naf.evaluation.features import Features
from naf.evaluation.protocol import ProbeProtocol
from naf.evaluation.run import run
from naf.evaluation.segmentation import SegmentationTask
from naf.evaluation.subset import Subset
from tests.data.labelled.synthesised import write_text
from tests.helpers import CHANNELS, Tiny, randn

SIDE = 32
TINY = [
    "backbone={_target_:tests.helpers.Tiny}",
    "upsampler=nearest",
    "seeds=0",
    f"protocol.image_size={SIDE}",
    f"protocol.target_size={SIDE}",
    "protocol.epochs=1",
    "workers=0",
    "device=cpu",
]


def scene(seed, classes, size=(48, 36)):
    """An image of coloured blocks and the class of each pixel, by colour; the last value is a class like others."""
    width, height = size
    drawn = np.random.default_rng(seed)
    blocks = drawn.integers(0, classes, (6, 8))
    label = blocks[np.arange(height)[:, None] * 6 // height, np.arange(width) * 8 // width].astype(np.uint8)
    palette = np.random.default_rng(1).integers(30, 226, (classes, 3))
    image = (palette[label] + drawn.integers(-20, 21, (height, width, 3))).astype(np.uint8)
    return Image.fromarray(image), label


def write_camvid(root, **counts):
    """CamVid's layout with so many images a split, by default 4 for training and 2 to be scored (test)."""
    for number, (split, count) in enumerate((counts or {"train": 4, "test": 2}).items()):
        names = [f"{split}_{index:04d}" for index in range(count)]
        for index, name in enumerate(names):
            image, label = scene(100 * number + index, 12)  # 11 is void
            for folder, each in ((split, image), (f"{split}annot", Image.fromarray(label))):
                (root / "CamVid" / folder).mkdir(parents=True, exist_ok=True)
                each.save(root / "CamVid" / folder / f"{name}.png")
        lines = [f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png" for name in names]
        write_text(root / "CamVid" / f"{split}.txt", *lines)
    return root


def write_folder(root, classes=3):
    """A folder of one's own: four images for training, two to be scored."""
    for number, (split, count) in enumerate((("train", 4), ("val", 2))):
        for index in range(count):
            image, label = scene(100 * number + index, classes)
            for folder, each in ((split, image), (f"{split}annot", Image.fromarray(label))):
                (root / folder).mkdir(parents=True, exist_ok=True)
                each.save(root / folder / f"{index}.png")
    return root


class Memory:
    """Images and label maps in memory, as :class:`naf.data.labelled.LabelledSet` gives them."""

    key, note = "memory", ""

    def __init__(self, images, labels, classes):
        self.images, self.labels = list(images), list(labels)
        self.classes = tuple(f"class {index}" for index in range(classes))

    def __len__(self):
        return len(self.images)

    @property
    def names(self):
        return [f"image {index}" for index in range(len(self))]

    def read_image(self, index):
        return self.images[index]

    def read_label(self, index):
        return self.labels[index]


def memory_task(train=5, val=3, classes=4, side=SIDE):
    """Scenes of some classes, one more value is ignored."""
    parts = []
    for first, count in ((0, train), (1000, val)):
        images, labels = zip(*(scene(first + index, classes + 1, (side, side)) for index in range(count)), strict=True)
        labels = [np.where(label == classes, 255, label).astype(np.uint8) for label in labels]
        parts.append(Subset(Memory(images, labels, classes)))
    return SegmentationTask(*parts)


def protocol(**changes):
    """Of a probe that takes a moment."""
    return ProbeProtocol(**{"image_size": SIDE, "target_size": SIDE, "epochs": 2, "lr": 0.01, **changes})


class Counted(Tiny):
    """Counts the images that it sees, and how often it is called."""

    def __init__(self):
        super().__init__()
        self.images = 0

    def _features(self, image01):
        self.images += len(image01)
        return super()._features(image01)


class Linear(Tiny):
    """Another backbone of the same grid and channels."""

    name = "linear"

    def _features(self, image01):
        mix = randn(CHANNELS, CHANNELS, seed=3)
        return torch.einsum("kc,bchw->bkhw", mix, super()._features(image01))


def features(cache=None, backbone=None):
    return Features(backbone or Counted(), cache)


@lru_cache
def _composed(task, *changes):
    paths = ["dataset.root=ROOT", "folder=FOLDER", "cache=CACHE"]
    return config.load(task, ["dataset=camvid", *paths, *TINY, *changes])


def evaluate(task, root, *changes, folder=None):
    """Records, failures and what was said of a command on `root`'s CamVid; results and cache beside it."""
    values = deepcopy(_composed(task, *changes))  # composing takes longer than the run
    paths = {"ROOT": str(root), "FOLDER": str(folder or root / "results"), "CACHE": str(root / "cache")}
    values["dataset"]["root"] = paths.get(values["dataset"]["root"], values["dataset"]["root"])
    values |= {key: paths.get(values[key], values[key]) for key in ("folder", "cache")}
    said = io.StringIO()
    records, failures = run(values, Console(file=said, width=400))
    return records, failures, said.getvalue()
