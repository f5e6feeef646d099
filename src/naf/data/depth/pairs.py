"""Any folder of images with 16-bit depth maps, by a list or by the names of the files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from naf.data.depth.base import DepthError, check_split
from naf.data.depth.pair_files import SATURATED, DepthPair, PairSet, check_units
from naf.data.depth.scenes import of_split


class DepthPairs(PairSet):
    """Pairs of an image and a depth map, with splits by scene.

    Args:
        root: folder that all other paths start from.
        split: "train", "val" or "all".
        pairs: list with a line for each pair, `image depth units_per_metre …`, the rest of the line ignored, as are
            lines that begin with `#`. A slash before a path is ignored.
        images: instead of a list: pattern of the images, with one or more `*`: any part of a name, no slash.
        depths: with images: the depth maps, with as many `*`, filled in with what those of the image stand for:
            images="*/rgb_*.jpg", depths="*/sync_depth_*.png".
        units: of the depth maps, per metre: 1000 for millimetres. Needed with patterns; with a list it stands for the
            third column, which may hold something else then.
        missing: values that are no measurement.
        scenes: folders of each split, {"train": [folders], "val": [folders]}.

    Raises:
        DepthError: if the list or a file is missing, a line is incomplete, units are missing, patterns do not fit each
            other, or the split is empty.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        pairs: str = "pairs.txt",
        images: str | None = None,
        depths: str | None = None,
        units: float | None = None,
        missing: Sequence[int] = (0, SATURATED),
        scenes: Mapping[str, Sequence[str] | str] | None = None,
    ) -> None:
        key = "depth_pairs"
        check_split(key, split)
        root = Path(root)
        if not root.is_dir():
            raise DepthError(f"{root} is {'a file' if root.exists() else 'not there'}, expected a folder of {key}")
        if (images is None) != (depths is None):
            raise DepthError(f"images is {images!r}, depths is {depths!r}: expected patterns for both, or for none")
        if images is not None and depths is not None:
            listed_in = root
            every = _fitting(root, images, depths, units)
        else:
            listed_in = root / pairs
            every = _listed(root, listed_in, units)
        by_name = {pair.name: pair for pair in every}
        if len(by_name) < len(every):
            twice = next(pair.name for pair in every if by_name[pair.name] is not pair)
            raise DepthError(f"{listed_in}: {twice} is listed twice, expected each image once")
        chosen = of_split(list(by_name), split, scenes, listed_in)
        super().__init__(key, split, [by_name[name] for name in chosen], missing=missing, listed_in=listed_in)


def _listed(root: Path, path: Path, units: float | None) -> list[DepthPair]:
    """The pairs of a list."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DepthError(f"{path}: no such file, expected a list of pairs, or images and depths as patterns") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DepthError(f"{path}: damaged or unreadable: {error}") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < 2:
            raise DepthError(f"{path}, line {number}: {line.strip()!r}, expected `image depth units_per_metre`")
        image, depth = (field.lstrip("/") for field in fields[:2])
        pairs.append(DepthPair(image, root / image, root / depth, _units(fields[2:], units, path, number)))
    return pairs


def _units(fields: Sequence[str], units: float | None, path: Path, number: int) -> float:
    if units is not None:
        return units
    try:
        value = float(fields[0])
    except (IndexError, ValueError):
        came = repr(fields[0]) if fields else "missing"
        raise DepthError(
            f"{path}, line {number}: units per metre are {came}, expected a number in the third column, or units="
        ) from None
    check_units(value, path)
    return value


def _fitting(root: Path, images: str, depths: str, units: float | None) -> list[DepthPair]:
    """The pairs whose images fit a pattern, sorted."""
    if units is None:
        raise DepthError(f"{root}: units per metre are missing, expected units= with patterns, such as 1000")
    wildcards = images.count("*")
    if not wildcards or "**" in images or "**" in depths or depths.count("*") != wildcards:
        raise DepthError(f"images is {images!r}, depths is {depths!r}: expected as many single * in both, at least one")
    image_pattern = re.compile("([^/]*)".join(map(re.escape, images.split("*"))))
    pairs = []
    for path in root.glob(images):
        name = path.relative_to(root).as_posix()
        # Path.glob knows more wildcards than *: those are taken as they are written.
        if match := image_pattern.fullmatch(name):
            depth = "".join(text + part for text, part in zip(depths.split("*"), (*match.groups(), ""), strict=True))
            pairs.append(DepthPair(name, path, root / depth, units))
    return sorted(pairs, key=lambda pair: pair.name)
