"""Splits by scene: which images are for training and which for validation, by the folders they are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from naf.data.depth.base import DepthError


def of_split(
    names: Sequence[str], split: str, scenes: Mapping[str, Sequence[str] | str] | None, listed_in: Path
) -> list[str]:
    """The images of a split.

    Args:
        names: of all images: paths with forward slashes.
        split: "train", "val" or "all"; all images for the last.
        scenes: of "train" and "val": folders, each with all folders below it.
        listed_in: file or folder that the images were found by, for errors.

    Returns:
        The names, in their order.

    Raises:
        DepthError: if the split has no scenes, a scene has no images, or an image is in both splits.
    """
    if split == "all":
        return list(names)
    if scenes is None or split not in scenes:
        raise DepthError(
            f"{listed_in}: has no split {split!r}, expected scenes={{'train': [folders], 'val': [folders]}} with it,"
            " or split='all'"
        )
    chosen = {part: _inside(names, folders, listed_in) for part, folders in scenes.items()}
    for part, others in chosen.items():
        if part != split and (both := sorted(chosen[split] & others)):
            raise DepthError(f"{listed_in}: {both[0]} is in scenes of {split!r} and of {part!r}, expected one of them")
    return [name for name in names if name in chosen[split]]


def _inside(names: Sequence[str], folders: Sequence[str] | str, listed_in: Path) -> set[str]:
    found = set()
    for folder in [folders] if isinstance(folders, str) else folders:
        inside = {name for name in names if name.startswith(folder.strip("/") + "/")}
        if not inside:
            raise DepthError(f"{listed_in}: scene {folder!r} has no images, expected a folder that has some")
        found |= inside
    return found
