"""What is given on the command line: photos, sizes, devices, names of results."""

from __future__ import annotations

import glob
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from naf.data.image import EXTENSIONS

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def find_photos(given: Sequence[str]) -> list[Path]:
    """Files, the image files of folders, and the matches of globs (also `**`), in order, each once.

    Raises:
        ValueError: if a folder holds no image, or a glob matches nothing.
    """
    found: dict[Path, Path] = {}
    for item in given:
        path = Path(item)
        matches = [path]
        if path.is_dir():
            matches = sorted(f for f in path.iterdir() if f.suffix.lower() in EXTENSIONS and not f.is_dir())
            if not matches:
                raise ValueError(f"folder {item} holds no image (looked for {', '.join(sorted(EXTENSIONS))})")
        elif not path.exists() and glob.has_magic(item):
            matches = sorted(Path(match) for match in glob.glob(item, recursive=True) if Path(match).is_file())  # noqa: PTH207 (may be absolute)
            if not matches:
                raise ValueError(f"pattern {item} matches no file")
        for match in matches:
            found.setdefault(match.absolute(), match)
    return list(found.values())


def name_results(photos: Sequence[Path]) -> dict[Path, str]:
    """A name for the results of each photo: its stem, or its whole name where two stems are alike.

    Raises:
        ValueError: if two photos of one name come from different folders.
    """
    stems = Counter(photo.stem for photo in photos)
    names = {photo: photo.stem if stems[photo.stem] == 1 else photo.name for photo in photos}
    taken: dict[str, Path] = {}
    for photo, name in names.items():
        if name in taken:
            raise ValueError(f"{taken[name]} and {photo} would write the same files: give each its own output folder")
        taken[name] = photo
    return names


def output_size(image_size: tuple[int, int], size: str | None, scale: float | None) -> tuple[int, int]:
    """The output grid asked for: `size` as "HxW", or `scale` times the photo, or the photo's own size.

    Raises:
        ValueError: if both are given, or one is malformed.
    """
    if size is not None and scale is not None:
        raise ValueError("--size and --scale are both given, expected at most one")
    if size is not None:
        parts = size.lower().split("x")
        if len(parts) != 2 or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
            raise ValueError(f"--size is {size!r}, expected HxW, rows first, e.g. 480x640")
        return int(parts[0]), int(parts[1])
    if scale is None:
        return image_size
    if not 0 < scale <= 64:
        raise ValueError(f"--scale is {scale}, expected a factor on the photo's size, above 0 and at most 64")
    return max(1, round(image_size[0] * scale)), max(1, round(image_size[1] * scale))


def choose_device(name: str) -> torch.device:
    """Take CUDA, then MPS, then the CPU for "auto".

    Raises:
        ValueError: for a device that PyTorch does not know or does not find.
    """
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"--device is {name!r}, expected auto, cpu, cuda or mps")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(has_mps)}[device.type]
    if (device.index or 0) >= count:
        raise ValueError(f"--device is {name!r}, but PyTorch finds no such device on this machine")
    return device


def choose_dtype(name: str) -> torch.dtype:
    """A dtype by its name.

    Raises:
        ValueError: for another than float32, float16, bfloat16.
    """
    if name not in DTYPES:
        raise ValueError(f"--dtype is {name!r}, expected {', '.join(DTYPES)}")
    return DTYPES[name]


def output_folder(path: Path) -> Path:
    """The folder, made if need be, and found writable.

    Raises:
        OSError: if it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(f"output folder {path} cannot be written to: {error.strerror or error}") from error
    return path
