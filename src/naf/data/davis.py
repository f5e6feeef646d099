"""DAVIS: videos with the masks of their objects, of 2017 (several objects) and 2016 (one).

Perazzi et al., CVPR 2016, and Pont-Tuset et al., arXiv 1704.00675. Folders, below the root or `DAVIS/` in it:
`JPEGImages/480p/<sequence>/00000.jpg`, `Annotations/480p/<sequence>/00000.png`, and the lists of sequences,
`ImageSets/2017/val.txt` or `ImageSets/2016/val.txt`. The release of 2016 lists pairs of files in its place,
`ImageSets/480p/val.txt`.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

VOID = 255  # pixels that no object can be told of; none in the validation set of 2017

# What the whole set has, by (key, split).
_EXPECTED = {
    ("davis2017", "val"): {"sequences": 30, "frames": 1999, "objects": 61},
    ("davis2016", "val"): {"sequences": 20, "frames": 1376, "objects": 20},
}


class VideoError(ValueError):
    """A video, mask or list of videos that is missing, damaged or not as DAVIS has it."""


@dataclass(frozen=True)
class Sequence:
    """One video.

    Attributes:
        name: of its folder.
        frames: images, in order.
        masks: one for each frame.
        objects: how many there are: the greatest index in the first mask.
        is_merged: all objects count as one (DAVIS 2016).
    """

    name: str
    frames: list[Path]
    masks: list[Path]
    objects: int
    is_merged: bool = False

    def __len__(self) -> int:
        return len(self.frames)

    def read_frame(self, index: int) -> Image.Image:
        """A frame as RGB.

        Raises:
            VideoError: if the file is damaged.
        """
        path = self.frames[index]
        try:
            with Image.open(path) as image:
                return image.convert("RGB")
        except Exception as error:  # decoders fail on damaged files in every way
            raise VideoError(f"{path}: damaged or unreadable: {error}") from error

    def read_mask(self, index: int) -> np.ndarray:
        """The true mask of a frame, (H, W) uint8: 0 background, k object k, 255 void.

        Objects that the first frame does not show are background, as in the official toolkit.

        Raises:
            VideoError: if the file is damaged or no mask.
        """
        mask = read_mask(self.masks[index], self.is_merged)
        mask[(mask > self.objects) & (mask != VOID)] = 0
        return mask


@dataclass(frozen=True)
class DavisSet:
    """The videos of a split.

    Attributes:
        key: "davis2017" or "davis2016".
        split: "val", "train", …
        sequences: in the order of the list.
        note: says what is missing where the split is not whole; else empty.
        expected: numbers of sequences, frames and objects of the whole split; empty where not known.
    """

    key: str
    split: str
    sequences: list[Sequence]
    note: str = ""
    expected: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of sequences, frames and objects that are here."""
        return _counts(self.sequences)


def create(
    key: str, root: str | Path, split: str = "val", sequences: Several[str] | None = None, resolution: str = "480p"
) -> DavisSet:
    """Find the videos of a split; files are opened for their sizes, and the first masks read.

    Args:
        key: "davis2017": objects apart, 255 is void. "davis2016": whatever is above 0 is the one object.
        root: folder that holds `ImageSets`, or the folder above it.
        split: name of the list.
        sequences: names of those to take; None for all.
        resolution: folder of `JPEGImages` and `Annotations`: "480p", "1080p", "Full-Resolution".

    Raises:
        VideoError: naming the file, if a list, sequence, frame or mask is missing or does not fit the others.
        ValueError: for an unknown key, or no sequences to take.
    """
    if key not in ("davis2017", "davis2016"):
        raise ValueError(f'key is {key!r}, expected "davis2017" or "davis2016"')
    if sequences is not None and not sequences:
        raise ValueError("sequences is empty, expected names, or None for all")
    root = Path(root)
    if not (root / "ImageSets").is_dir() and (root / "DAVIS" / "ImageSets").is_dir():
        root = root / "DAVIS"
    year = key.removeprefix("davis")
    of_names, of_pairs = (root / "ImageSets" / part / f"{split}.txt" for part in (year, resolution))
    if of_names.is_file():
        listed = of_names
        names = _lines(of_names)
        pairs: dict[str, list[tuple[Path, Path]]] = {name: [] for name in names}
        if len(pairs) < len(names):
            raise VideoError(f"{listed}: lists {_first_repeated(names)} twice")
    elif key == "davis2016" and of_pairs.is_file():
        listed = of_pairs
        pairs = _read_pairs(of_pairs, root)
    else:
        second = f" or {of_pairs}" if key == "davis2016" else ""
        raise VideoError(f"{of_names}{second} is not there, expected the list of the sequences of {key} {split}")
    if not pairs:
        raise VideoError(f"{listed}: lists no sequence")
    unknown = [name for name in sequences or () if name not in pairs]
    if unknown:
        raise VideoError(f"{listed}: does not list {', '.join(unknown)}, expected some of {', '.join(pairs)}")
    images, annotations = root / "JPEGImages" / resolution, root / "Annotations" / resolution
    found = [
        _make_sequence(name, files or _pairs_of_folder(images / name, annotations / name, listed), key == "davis2016")
        for name, files in pairs.items()
        if sequences is None or name in sequences
    ]
    expected = _EXPECTED.get((key, split), {})
    counts = _counts(found)
    lacking = [f"{counts[what]} of {number} {what}" for what, number in expected.items() if counts[what] != number]
    note = f"not the whole split: {', '.join(lacking)}" if lacking else ""
    return DavisSet(key, split, found, note, dict(expected))


def read_mask(path: Path, is_merged: bool = False) -> np.ndarray:
    """Indices of a mask, (H, W) uint8, from a palette or grey PNG.

    Args:
        path: of the file.
        is_merged: give 1 where it is above 0; masks in colour are then taken too.

    Raises:
        VideoError: naming the file, if it is missing, damaged or has several channels.
    """
    if not path.is_file():
        raise VideoError(f"{path}: no such mask")
    try:
        with Image.open(path) as image:
            mode, mask = image.mode, np.array(image)
    except Exception as error:  # decoders fail on damaged files in every way
        raise VideoError(f"{path}: damaged or unreadable: {error}") from error
    if is_merged and mode in ("RGB", "RGBA"):
        mask = mask[..., :3].max(2)
    elif mode not in ("P", "L", "1"):
        raise VideoError(f"{path}: has mode {mode}, expected a palette or 8-bit grey image of object indices")
    return (mask > 0).astype(np.uint8) if is_merged else mask.astype(np.uint8)


def pascal_palette() -> list[int]:
    """The 256 colours of Pascal VOC, in which masks are saved: 768 values R, G, B, R, ….

    The bits of an index go to R, G, B in turn, lowest bit of the index to the highest of red.

    Example:
        >>> pascal_palette()[:12]
        [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    """
    return [
        sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
        for index in range(256)
        for channel in range(3)
    ]


def _counts(sequences: list[Sequence]) -> dict[str, int]:
    frames, objects = sum(map(len, sequences)), sum(each.objects for each in sequences)
    return {"sequences": len(sequences), "frames": frames, "objects": objects}


def _lines(path: Path) -> list[str]:
    """What a list has, without empty lines."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise VideoError(f"{path}: is no text: {error}") from None


def _first_repeated(names: list[str]) -> str:
    return next(name for index, name in enumerate(names) if name in names[:index])


def _read_pairs(path: Path, root: Path) -> dict[str, list[tuple[Path, Path]]]:
    """Frames and masks of each sequence, from lines "/JPEGImages/480p/dog/00000.jpg /Annotations/…/00000.png"."""
    pairs: dict[str, list[tuple[Path, Path]]] = {}
    for number, line in enumerate(_lines(path), 1):
        files = [root / part.lstrip("/") for part in line.split()]
        if len(files) != 2:
            raise VideoError(f"{path}: line {number} is {line!r}, expected an image and its mask")
        pairs.setdefault(files[0].parent.name, []).append((files[0], files[1]))
    return pairs


def _pairs_of_folder(frames: Path, masks: Path, listed: Path) -> list[tuple[Path, Path]]:
    for folder in (frames, masks):
        if not folder.is_dir():
            raise VideoError(f"{folder} is not there, though {listed} lists {folder.name}")
    images = sorted(path for path in frames.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    if not images:
        raise VideoError(f"{frames}: holds no frame, expected 00000.jpg, 00001.jpg, …")
    stems = {path.stem for path in images}
    lonely = sorted(path for path in masks.glob("*.png") if path.stem not in stems)
    if lonely:
        raise VideoError(f"{lonely[0]}: is a mask without a frame in {frames}")
    return [(path, masks / f"{path.stem}.png") for path in images]


def _make_sequence(name: str, files: list[tuple[Path, Path]], is_merged: bool) -> Sequence:
    for frame, mask in files:
        if not frame.is_file():
            raise VideoError(f"{frame}: no such frame")
        if not mask.is_file():
            raise VideoError(f"{mask}: no such mask, though the frame {frame} is there")
        size, expected = _size(mask), _size(frame)
        if size != expected:
            raise VideoError(f"{mask}: has {size} pixels (rows, columns), its frame has {expected}")
    first = read_mask(files[0][1], is_merged)
    objects = int(first[first != VOID].max(initial=0))
    if not objects:
        both = " (0 and 255 alone: a mask of DAVIS 2016?)" if (first == VOID).any() else ""
        raise VideoError(f"{files[0][1]}: shows no object{both}, expected the first mask to show them all")
    return Sequence(name, [frame for frame, _ in files], [mask for _, mask in files], objects, is_merged)


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:  # decoders fail on damaged files in every way
        raise VideoError(f"{path}: damaged or unreadable: {error}") from error
