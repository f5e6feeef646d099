"""Files that lie beside an image, pixel by pixel: what sets of label maps and of depth maps have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

T = TypeVar("T")


def read_file(path: Path, convert: Callable[[Image.Image], T], fault: type[ValueError]) -> T:
    """What a function makes of an image file.

    Args:
        path: of the file.
        convert: called with the open image; may raise `fault` itself.
        fault: what is raised, with a message that names the file.

    Raises:
        ValueError: as `fault`, if the file is missing, no image or damaged.
    """
    if not path.is_file():
        raise fault(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}, expected an image")
    try:
        with Image.open(path) as image:
            return convert(image)
    except fault:
        raise
    except UnidentifiedImageError as error:
        raise fault(f"{path}: is no image that Pillow can read, whatever its name says") from error
    except Exception as error:  # decoders fail on damaged files in every way
        raise fault(f"{path}: damaged or unreadable: {error}") from error


def check_same_size(path: Path, shape: tuple[int, int], image: Path, fault: type[ValueError]) -> None:
    """Refuse a map (height, width) of another size than its image.

    Raises:
        ValueError: as `fault`; names both files.
    """
    height, width = shape
    size = read_file(image, lambda opened: opened.size, fault)
    if size != (width, height):
        raise fault(
            f"{path} has {width} x {height} pixels, its image {image} {size[0]} x {size[1]}: expected the same size"
        )


def split_note(found: int, expected: int | None, remarks: Sequence[str]) -> str:
    """How a split differs from the official one; empty where it does not."""
    missing = [f"{found:,} of {expected:,} images"] if expected is not None and found != expected else []
    return "; ".join([*missing, *remarks])
