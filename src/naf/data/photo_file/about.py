"""What a file says of a photo besides its pixels: the part that still holds once they were changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

PROFILE = 34675
"""TIFF tag of the ICC profile."""
# Description, camera, program, date, author, host, copyright and Windows' five. Those left out describe how the pixels
# are stored or shown.
_KEPT = (270, 271, 272, 305, 306, 315, 316, 33432, 40091, 40092, 40093, 40094, 40095)
_DESCRIPTION = 270
_STORAGE = ("ImageJ=", '{"shape"')  # how descriptions begin in which ImageJ and tifffile count the pages of the file
_OME = "<OME "  # likewise, somewhere at the beginning
_EXIF, _GPS = 34665, 34853
_INTEROPERABILITY = 40965  # a pointer within the Exif directory
_WIDTH, _HEIGHT = 40962, 40963  # of the Exif directory


def kept_exif(exif: Image.Exif, width: int, height: int) -> dict[int, Any]:
    """The entries that hold for the restored photo, upright; directories as mappings.

    Args:
        exif: as Pillow reads it.
        width: of the upright photo, pixels.
        height: likewise.

    Returns:
        Nothing where it is damaged: the photo is worth more.
    """
    try:
        kept: dict[int, Any] = {tag: exif[tag] for tag in _KEPT if tag in exif}
        description = str(kept.get(_DESCRIPTION, ""))
        if description.startswith(_STORAGE) or _OME in description[:1000]:
            del kept[_DESCRIPTION]
        for tag in (_EXIF, _GPS):
            directory = {key: value for key, value in exif.get_ifd(tag).items() if key != _INTEROPERABILITY}
            for key, side in ((_WIDTH, width), (_HEIGHT, height)):
                if key in directory and tag == _EXIF:
                    directory[key] = side
            if directory:
                kept[tag] = directory
        exif_bytes(kept)
    except Exception:  # values of any kind may stand there
        return {}
    return kept


def exif_bytes(entries: Mapping[int, Any]) -> bytes:
    """Entries as JPEG and PNG hold them, with "Exif" before them; empty for none."""
    if not entries:
        return b""
    exif = Image.Exif()
    for tag, value in entries.items():
        exif[tag] = dict(value) if isinstance(value, Mapping) else value
    return exif.tobytes()


def kept_dpi(dpi: object) -> tuple[float, float] | None:
    """A resolution, if it is one."""
    try:
        across, down = (float(value) for value in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < math.inf and 0 < down < math.inf else None
