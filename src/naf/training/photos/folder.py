"""Photos from folders, seen as the plan of a step says."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import torch
from torch import Tensor

from naf.data import ImageError, read_image
from naf.data.image import EXTENSIONS
from naf.training.photos.label_maps import check_template, find_label_maps, read_label_map
from naf.training.photos.views import View
from naf.training.plan import StepPlan
from naf.training.sampler import hashed

_log = logging.getLogger(__name__)

_READABLE, _BROKEN = 1, 2
_FORGIVEN = 10  # broken files that stop no training of a large folder, however few were tried
_TOLERATED = 0.1  # share of broken ones among those tried


class DataError(ValueError):
    """Training data that are missing, or too damaged to train on."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One view of one photo.

    Attributes:
        image01: (3, S, S) float32, values from 0 to 1.
        segments: (S, S) int64, ids; None where the photo set has no label maps.
        key: of the view: equal keys mean equal images. None where the view will not come again.
    """

    image01: Tensor
    segments: Tensor | None
    key: str | None


class PhotoFolder:
    """The images in one or several folders and all folders below them.

    A file that cannot be read is left out with one warning, and the next one in the list takes its place.

    Args:
        roots: folder or folders. Hidden files and folders are left out.
        crop: "center": the short side is resized to the image size and the centre cropped, as the official code does.
            "random": squares anywhere. "native": squares of the image size anywhere, pixels as they are; smaller photos
            are enlarged.
        views: of random and native crops, how many each photo has: they come again, so their features can be cached.
            None for a new one each time.
        flip: mirror every second of them.
        scale: side of a random crop as a share of the photo's short side, (least, largest).
        segments: where the label maps of a photo are: a path with the fields {root}, {parent} (the photo's folder
            below its root), {name} and {stem}, and wildcards; where several fit, each step draws one. Examples:
            "{root}/../../groundTruth_png/train/{stem}_*.png" (BSDS500), "{root}annot/{stem}.png" (CamVid),
            "{root}/../../Annotations/480p/{parent}/{stem}.png" (DAVIS).

    Raises:
        DataError: if a folder is missing or holds no image.
        ValueError: for options that make no sense.
    """

    def __init__(
        self,
        roots: str | Path | Sequence[str | Path],
        *,
        crop: Literal["center", "random", "native"] = "center",
        views: int | None = None,
        flip: bool = False,
        scale: tuple[float, float] = (1.0, 1.0),
        segments: str | None = None,
    ) -> None:
        if crop not in ("center", "random", "native"):
            raise ValueError(f'crop is {crop!r}, expected "center", "random" or "native"')
        low, high = scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"scale is {tuple(scale)}, expected (least, largest) shares above 0 and at most 1")
        if views is not None and views < 1:
            raise ValueError(f"views is {views}, expected at least 1, or None for new ones each time")
        if (crop == "center" and (views is not None or flip)) or (crop != "random" and (low, high) != (1, 1)):
            raise ValueError('views, flip and scale are of random crops: expected crop="random" with them')
        if segments is not None:
            check_template(segments)
        self.crop, self.views, self.flip, self.scale, self.segments = crop, views, flip, (low, high), segments
        self.roots = [Path(root) for root in ([roots] if isinstance(roots, str | Path) else roots)]
        if not self.roots:
            raise DataError("roots is empty, expected at least one folder of images")
        self._photos = [(index, path) for index, root in enumerate(self.roots) for path in _list_images(root)]
        # Shared, so that the workers of a loader warn once and count together.
        self._state = torch.zeros(len(self._photos), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self._photos)

    def path(self, photo_index: int) -> Path:
        """Where a photo is."""
        root, name = self._photos[photo_index]
        return self.roots[root] / name

    def load(self, photo_index: int, plan: StepPlan, index: int) -> Sample:
        """A view of a photo; the same for the same arguments.

        Args:
            photo_index: 0 … len - 1.
            plan: of the step; image_size is the side of the view.
            index: of the image in the global batch.

        Raises:
            DataError: if a photo has no label map or one of another size, or too many files are unreadable: more than
                a tenth of those tried and more than ten, or more than half of all.
        """
        for offset in range(len(self)):
            candidate = (photo_index + offset) % len(self)
            if self._state[candidate] == _BROKEN:
                continue
            try:
                sample = self._load(candidate, plan, index)
            except ImageError as error:
                _log.warning("%s. Left out; the next photo takes its place", error)
                self._state[candidate] = _BROKEN
                self._check_share(error)
            else:
                self._state[candidate] = _READABLE
                return sample
        raise DataError(f"none of the {len(self)} images in {self._where} can be read")

    def _load(self, photo_index: int, plan: StepPlan, index: int) -> Sample:
        path = self.path(photo_index)
        image01 = read_image(path)
        height, width = image01.shape[1:]
        generator = plan.generator(index)
        if self.crop == "center":
            view = View.center(height, width, plan.image_size)
        else:
            share = min(1.0, plan.image_size / min(height, width))  # of the short side
            scale = self.scale if self.crop == "random" else (share, share)
            view = View.random(
                height, width, plan.image_size, scale, self.flip, self._view_generator(photo_index, generator)
            )
        is_repeatable = self.crop == "center" or self.views is not None
        return Sample(
            view.of_image(image01),
            None if self.segments is None else view.of_labels(self._labels(photo_index, (height, width), generator)),
            _key(path, view) if is_repeatable else None,
        )

    def _view_generator(self, photo_index: int, generator: torch.Generator) -> torch.Generator:
        """What draws the crop: the step's generator, or that of one of the photo's fixed views, which it draws."""
        if self.views is None:
            return generator
        number = int(torch.randint(self.views, (), generator=generator))
        return torch.Generator().manual_seed(hashed(self._photos[photo_index][1], number))

    def _labels(self, photo_index: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        assert self.segments is not None
        root, name = self._photos[photo_index]
        paths = find_label_maps(self.segments, self.roots[root], PurePosixPath(name))
        if not paths:
            raise DataError(f"{self.path(photo_index)} has no label map: no file fits segments {self.segments!r}")
        path = paths[int(torch.randint(len(paths), (), generator=generator))]
        labels = read_label_map(path)
        if tuple(labels.shape) != size:
            raise DataError(f"{path} has {tuple(labels.shape)} pixels, {self.path(photo_index)} has {size}")
        return labels

    def _check_share(self, error: ImageError) -> None:
        broken, tried = int((self._state == _BROKEN).sum()), int((self._state > 0).sum())
        if broken > min(max(_FORGIVEN, int(_TOLERATED * tried)), len(self) // 2):
            raise DataError(
                f"{broken} of the {tried} images tried in {self._where} cannot be read, the last one: {error}"
            ) from error

    @property
    def _where(self) -> str:
        return ", ".join(map(str, self.roots))


def _list_images(root: Path) -> list[str]:
    """Paths of images below a folder, with forward slashes, sorted."""
    if not root.is_dir():
        raise DataError(f"{root} is {'a file' if root.exists() else 'not there'}, expected a folder of images")
    names = []
    for folder, below, files in os.walk(root, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".")]
        parent = Path(folder).relative_to(root)
        names += [
            (parent / name).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
        ]
    if not names:
        raise DataError(f"{root} and the folders below it hold no image, expected files such as .jpg or .png")
    return sorted(names)


def _key(path: Path, view: View) -> str:
    """Names what is seen by the file's bytes and the view: a photo that was moved is known again, a new one is not."""
    content = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    box = f"{view.top},{view.left},{view.height},{view.width}{',flip' if view.flip else ''}"
    return f"{content}|{box}|{view.side}"
