"""NYU Depth v2 as image files, in the two layouts that are passed around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from naf.data.depth.base import DepthError, check_split
from naf.data.depth.pair_files import SATURATED, DepthPair, PairSet
from naf.data.depth.scenes import of_split
from naf.data.image import EXTENSIONS

_OFFICIAL = {"train": 795, "val": 654}
_SPLIT_FOLDERS = {
    "train": ("official_splits/train", "train"),
    "val": ("official_splits/test", "test", "official_splits/val", "val"),
}
_MILLIMETRES = 1000.0  # units per metre


class NyuFolder(PairSet):
    """NYU Depth v2 as files, depth in millimetres.

    Either `images/…/X.jpg` with `annotations/…/X.png` (mmsegmentation), or folders of `rgb_N.jpg` with
    `sync_depth_N.png` ("sync" and "official_splits", as in BTS). Validation images are those of the folder test.

    Args:
        root: folder of the set, or the folder above `nyu`.
        split: "train", "val" or "all".
        scenes: folders of each split, {"train": ["sync"], "val": ["official_splits/test"]}; by default
            `official_splits/train` or `train`, and `official_splits/test`, `test` or `val`.

    Raises:
        DepthError: if the folder has none of the layouts, a depth map is missing, or the split is empty.
    """

    def __init__(
        self, root: str | Path, split: str, *, scenes: Mapping[str, Sequence[str] | str] | None = None
    ) -> None:
        key = "nyu_folder"
        check_split(key, split)
        root = Path(root)
        if (root / "nyu").is_dir():
            root = root / "nyu"
        if not root.is_dir():
            raise DepthError(f"{root} is {'a file' if root.exists() else 'not there'}, expected a folder of {key}")
        folder, depths = _depth_of_image(root)
        names = sorted(depths)
        found = scenes if scenes is not None else _split_folders(names)
        chosen = of_split(names, split, found, folder)
        is_official = scenes is None and split != "all" and chosen[0].startswith("official_splits/")
        super().__init__(
            key,
            split,
            [DepthPair(name, folder / name, depths[name], _MILLIMETRES) for name in chosen],
            missing=(0, SATURATED),
            listed_in=folder,
            expected=_OFFICIAL[split] if is_official else None,
        )


def _depth_of_image(root: Path) -> tuple[Path, dict[str, Path]]:
    """Folder of the images, and the depth file of each by its path below that folder."""
    images, annotations = root / "images", root / "annotations"
    if images.is_dir():
        if not annotations.is_dir():
            raise DepthError(f"{annotations}: no such folder, expected the depth maps of {images}")
        names = [path.relative_to(images) for path in images.rglob("*") if path.suffix.lower() in EXTENSIONS]
        return images, {name.as_posix(): annotations / name.with_suffix(".png") for name in names}
    found = [path for path in root.rglob("rgb_*") if path.suffix.lower() in EXTENSIONS]
    if not found:
        raise DepthError(f"{root}: has neither images and annotations nor rgb_*.jpg with sync_depth_*.png")
    depth = {path: path.with_name(f"sync_depth_{path.stem.removeprefix('rgb_')}.png") for path in found}
    return root, {path.relative_to(root).as_posix(): depth[path] for path in found}


def _split_folders(names: Sequence[str]) -> dict[str, list[str]]:
    """The folder of each split that there is."""
    folders = {parent.as_posix() for name in names for parent in PurePosixPath(name).parents}
    found = {split: [name for name in known if name in folders][:1] for split, known in _SPLIT_FOLDERS.items()}
    return {split: folder for split, folder in found.items() if folder}
