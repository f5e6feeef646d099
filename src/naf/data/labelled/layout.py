"""Finding the files of a segmentation set: folders, lists, pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from naf.data.labelled.base import LabelError, LabelledImage


def expected_count(key: str, split: str, counts: Mapping[str, int]) -> int:
    """Images in an official split.

    Raises:
        LabelError: if the set has no such split.
    """
    if split not in counts:
        raise LabelError(f"{key} has no split {split!r}, expected {' or '.join(map(repr, counts))}")
    return counts[split]


def find_folder(root: str | Path, inside: str, holds: str, source: str) -> Path:
    """The folder of a set: below `root` as in the official layout, or `root` itself.

    Args:
        root: folder given by the user.
        inside: the official path below it, "VOCdevkit/VOC2012".
        holds: a folder in it, by which it is recognised.
        source: where the set is to be had.

    Raises:
        LabelError: if it is not there.
    """
    root, parts = Path(root), PurePosixPath(inside).parts
    if not root.is_dir():
        raise LabelError(f"{root}: no such folder, expected {inside} in it; to be had from {source}")
    for start in range(len(parts) + 1):
        folder = root.joinpath(*parts[start:])
        if (folder / holds).is_dir():
            return folder
    raise LabelError(f"{root / inside / holds}: no such folder; the set is to be had from {source}")


def list_names(folder: Path, suffix: str) -> list[str]:
    """Names without suffix of the files that end in it, sorted; hidden ones left out.

    Raises:
        LabelError: if the folder is missing or has no such file.
    """
    if not folder.is_dir():
        raise LabelError(f"{folder}: no such folder, expected one of files *{suffix}")
    names = (path.name for path in folder.iterdir())
    found = sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix) and not name.startswith("."))
    if not found:
        raise LabelError(f"{folder}: no files *{suffix}, expected at least one")
    return found


def list_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones left out.

    Raises:
        LabelError: if the folder is missing or has none.
    """
    if not folder.is_dir():
        raise LabelError(f"{folder}: no such folder")
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise LabelError(f"{folder}: has no folders, expected at least one")
    return found


def read_list(path: Path, hint: str = "") -> list[str]:
    """The lines of a split file, empty ones left out.

    Args:
        path: the file.
        hint: what to do where it is missing, for the error.

    Raises:
        LabelError: if the file is missing, no text, or empty.
    """
    if not path.is_file():
        raise LabelError(f"{path}: no such split file, expected one image a line{hint and '; ' + hint}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: unreadable, expected one image a line: {error}") from error
    if not (listed := [line.strip() for line in lines if line.strip()]):
        raise LabelError(f"{path}: lists nothing, expected one image a line")
    return listed


def pair(
    names: Iterable[str], images: tuple[Path, str], labels: tuple[Path, str], listed_in: Path
) -> list[LabelledImage]:
    """Images and label maps of the same names in two folders.

    Args:
        names: paths below both folders, without the endings.
        images: folder and ending of the images.
        labels: folder and ending of the label maps.
        listed_in: where the names come from, for errors.

    Raises:
        LabelError: as :func:`check_files`.
    """
    pairs = [LabelledImage(name, images[0] / f"{name}{images[1]}", labels[0] / f"{name}{labels[1]}") for name in names]
    check_files(pairs, listed_in)
    return pairs


def check_files(pairs: Iterable[LabelledImage], listed_in: Path) -> None:
    """Refuse pairs of which a file is missing.

    Raises:
        LabelError: names the missing file, and what it belongs to.
    """

    @cache  # one listing a folder: a look at each file is slow on network disks
    def files(folder: Path) -> frozenset[str]:
        return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()

    for each in pairs:
        if each.image.name not in files(each.image.parent):
            raise LabelError(f"{each.image}: no such image, listed in {listed_in}")
        if each.label.name not in files(each.label.parent):
            raise LabelError(f"{each.label}: no such label map, expected for image {each.image}")
