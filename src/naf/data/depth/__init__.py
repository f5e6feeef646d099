"""Depth sets: images with a depth in metres for every pixel, in the layouts that they are given in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from naf.data.depth.base import DepthError, DepthSet
from naf.data.depth.nyu_folder import NyuFolder
from naf.data.depth.nyuv2 import NyuV2
from naf.data.depth.pairs import DepthPairs

_SETS: dict[str, Callable[..., DepthSet]] = {"nyuv2": NyuV2, "nyu_folder": NyuFolder, "depth_pairs": DepthPairs}


def create(key: str, root: str | Path, split: str, **options: Any) -> DepthSet:
    """One split of a depth set.

    Args:
        key: "nyuv2", "nyu_folder" or "depth_pairs".
        root: its folder.
        split: "train", "val" or "all".
        options: of the set; see its class.

    Raises:
        DepthError: for another key, an option that the set does not have, or files that are not as they should be.
    """
    if key not in _SETS:
        raise DepthError(f"depth set is {key!r}, expected {', '.join(_SETS)}")
    make = _SETS[key]
    known = [name for name in inspect.signature(make).parameters if name not in ("root", "split")]
    if unknown := sorted(set(options) - set(known)):
        raise DepthError(f"{key} has no option {unknown[0]!r}, expected {', '.join(known)}")
    return make(root, split, **options)


__all__ = ["DepthError", "DepthPairs", "DepthSet", "NyuFolder", "NyuV2", "create"]
