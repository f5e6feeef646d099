"""Files that the application writes: names that are safe whatever the photo is called, and never half a file."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath

import torch
from PIL import Image

from naf.app.analysis import BackboneResult, Report, SharpAnalysis
from naf.app.photo import Photo
from naf.backbones.base import Backbone
from naf.data.features import write_features, write_picture
from naf.feature_record import metadata
from naf.upsamplers.base import Upsampler

_LONGEST = 48  # characters of a part of a name
_SHOWN = 80
_BAND_ROWS = 64


def shown_name(given: str) -> str:
    """A file's name as it is shown: without folders, line breaks and other signs that are not seen, and not endless."""
    name = PureWindowsPath(PurePosixPath(given).name).name
    name = "".join(sign if sign.isprintable() else "_" for sign in name).strip() or "photo"
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN - 12]}…{name[-11:]}"


def file_name(photo: str, *what: str, suffix: str) -> str:
    """A name of letters, digits, "-", "+", "." and "_" alone, which begins with the photo's and is never hidden."""
    parts = [_safe(Path(photo).stem) or "photo", *filter(None, map(_safe, what))]
    return "_".join(parts) + suffix


def save_picture(picture: Image.Image, folder: Path, photo: str, *what: str) -> Path:
    """Write a picture as PNG; returns where.

    Raises:
        OSError: if the folder cannot be written to.
    """
    path = place(folder, file_name(photo, *what, suffix=".png"))
    write_picture(path, picture)
    return path


def save_features(
    folder: Path,
    photo: Photo,
    seen: BackboneResult,
    sharp: SharpAnalysis,
    backbone: Backbone,
    method: Upsampler,
    report: Report,
) -> Path:
    """Write the upsampled map as float16, (C, Ho, Wo), with where it comes from; returns where.

    Raises:
        ValueError: if it holds values beyond float16.
        OSError: if the folder cannot be written to.
    """
    size = "x".join(map(str, sharp.output_size))
    path = place(folder, file_name(photo.name, sharp.backbone, sharp.upsampler, size, suffix=".safetensors"))
    out = torch.empty(seen.channels, *sharp.output_size, dtype=torch.float16)
    if sharp.features is not None:
        out.copy_(sharp.features[0])
    else:
        for rows, band in sharp.guidance.iter_rows(seen.features.features.float(), rows=_BAND_ROWS):
            out[:, rows] = band[0].to("cpu", torch.float16)
            report(0.8 * rows.stop / sharp.output_size[0], f"{sharp.upsampler}: features")
    if not out.isfinite().all():
        raise ValueError("the features hold values that float16 cannot hold")
    report(0.8, "writing the features")
    about = metadata(photo.name, seen.features, backbone, method, sharp.upsampler)
    write_features(path, out, {**about, "guide_size": "x".join(map(str, sharp.guide_size))})
    return path


def place(folder: Path, name: str) -> Path:
    """The path of a file in a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9+.-]+", "-", text).strip("-.")[:_LONGEST].rstrip("-.")
