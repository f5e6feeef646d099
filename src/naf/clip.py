"""From a clip to a video of sharp features, coloured with one basis from the first frame to the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from naf.backbones.base import Backbone, FeatureMap
from naf.backbones.fingerprint import fingerprint_of
from naf.data.video import Clip, WorkFolder
from naf.data.video.writer import SegmentError, check_encoder, join_segments, write_segment
from naf.normalization import normalize
from naf.pipeline import check_memory, fingerprint
from naf.upsamplers.base import Upsampler
from naf.visualization.clip import ClipFrames, Layout
from naf.visualization.pca import PCAColors
from naf.visualization.theme import find_theme

SEGMENT = 8
"""Frames of a segment: what a stopped run has to make again at most. Eight make files 4 % larger than thirty do."""
_BASIS_FRAMES = 16
_BASIS_POSITIONS = 4096  # of all these frames together
_FORMAT = "1"  # of the pictures: work of a version that drew them otherwise is not gone on with


@dataclass(frozen=True, eq=False)
class ClipVideo:
    """A video that was written.

    Attributes:
        path: of the file.
        frames: how many it has.
        resumed_at: how many an earlier run had finished.
        coarse: what the backbone gave for the first frame.
        colors: the basis of all frames.
    """

    path: Path
    frames: int
    resumed_at: int
    coarse: FeatureMap
    colors: PCAColors


@torch.inference_mode()
def upsample_clip(
    clip: Clip,
    target: Path,
    backbone: Backbone,
    upsamplers: Mapping[str, Upsampler],
    output_size: tuple[int, int] | None = None,
    *,
    device: torch.device | str = "cpu",
    layout: Layout = "side",
    theme: str = "light",
    every: int = 1,
    overwrite: bool = False,
    on_progress: Callable[[str, int, int], object] = lambda *_: None,
) -> ClipVideo:
    """Write the PCA colours of a clip's upsampled features as a video (H.264, 4:2:0, MP4) with the clip's own timing.

    Basis and colour scale are fitted once, to the coarse features of up to 16 frames, evenly spread. They depend on
    clip and backbone alone, so videos of several upsamplers compare. What is finished stays beside the target, in
    TARGET.partial, until the video is whole. A run that was stopped goes on there, and its frames are the same as if
    it had not been.

    Args:
        clip: see :func:`naf.data.video.open_clip`.
        target: path of the video.
        backbone: gives the coarse features.
        upsamplers: by the name that they are shown under.
        output_size: (Ho, Wo); None for the size of the frames.
        device: of backbone and upsamplers.
        layout: "side" for photo, coarse and upsampled features with labels; "result" for the colours of one upsampler
            alone, pixel for pixel.
        theme: "light" or "dark", of the layout "side".
        every: take every so many-th frame only; each is shown for as much longer.
        overwrite: replace a video that is there, and unfinished work of other settings.
        on_progress: called with the step, "colours" or "frames", how much of it is done, and of how much. It may
            raise, which stops the run.

    Raises:
        ValueError: as clip, backbone and upsamplers do; if the target, or unfinished work of other settings, is
            there; if the work cannot fit in memory; for arguments that make no sense; without PyAV.
        OSError: if the video cannot be written.
    """
    find_theme(theme)
    _check(clip, target, upsamplers, layout, every, overwrite=overwrite)
    indices = range(0, len(clip), every)
    times = [*(clip.times[index] for index in indices), clip.times[-1]]
    first = next(clip.read([0])).to(device)
    size = output_size or clip.frame_size
    coarse = backbone.extract(first[None])
    most = max(upsampler.memory(coarse.image_size, size) for upsampler in upsamplers.values())
    check_memory(size, most + len(upsamplers) * 3 * 4 * size[0] * size[1], first.device)
    _paint(first, backbone, upsamplers, size, PCAColors.fit(coarse.features))  # what they refuse leaves nothing behind
    work = WorkFolder(target)
    work.open(_settings(clip, backbone, upsamplers, size, layout, theme, every), overwrite=overwrite)
    colors = _load_colors(work, first.device)
    if colors is None:
        colors = _fit_colors(clip, indices, backbone, first.device, on_progress)
        work.keep({"weight": colors.weight, "bias": colors.bias})
    subtitle = f"{backbone.name}, {coarse.features.shape[1]} channels · one PCA basis for the whole clip"
    frames = ClipFrames(layout, clip.path.resolve().name, subtitle, "coarse features", theme)
    parts = [range(start, min(start + SEGMENT, len(indices))) for start in range(0, len(indices), SEGMENT)]
    finished = min(work.finished, len(parts))
    resumed_at = parts[finished].start if finished < len(parts) else len(indices)

    def pictures() -> Iterator[np.ndarray]:
        for done, image01 in enumerate(clip.read(indices[resumed_at:]), resumed_at + 1):
            image = image01.to(first.device)
            picture = frames.make(image, *_paint(image, backbone, upsamplers, size, colors))
            on_progress("frames", done, len(indices))
            yield picture

    on_progress("frames", resumed_at, len(indices))
    remaining = pictures()
    for number, part in enumerate(parts[finished:], finished):
        write_segment(work.segment(number), islice(remaining, len(part)))
    about = "; ".join(f"{name} ({method.weights_source})" for name, method in upsamplers.items())
    _join(work, target, [len(part) for part in parts], times, clip, f"PCA of features: {backbone.name}, {about}")
    return ClipVideo(target, len(indices), resumed_at, coarse, colors)


def _check(
    clip: Clip, target: Path, upsamplers: Mapping[str, Upsampler], layout: str, every: int, *, overwrite: bool
) -> None:
    """Whatever can be known to go wrong before the work."""
    if layout not in get_args(Layout):
        raise ValueError(f"layout is {layout!r}, expected one of {', '.join(map(repr, get_args(Layout)))}")
    if not upsamplers:
        raise ValueError("upsamplers is empty, expected at least one")
    if layout == "result" and len(upsamplers) > 1:
        raise ValueError(f"layout 'result' shows one upsampler, {len(upsamplers)} are given: take 'side'")
    for name, upsampler in upsamplers.items():
        if upsampler.fits_one_image:
            raise ValueError(f"upsampler {name!r} is fitted to one image: expected one that serves every frame")
    if every < 1:
        raise ValueError(f"every is {every}, expected 1 for all frames, or more")
    if target.exists():
        if target.is_dir() or target.samefile(clip.path):
            raise ValueError(f"the video would take the place of {target}: choose another name")
        if not overwrite:
            raise ValueError(f"{target} exists: overwrite (--overwrite) replaces it")
    check_encoder()


def _settings(
    clip: Clip,
    backbone: Backbone,
    upsamplers: Mapping[str, Upsampler],
    size: tuple[int, int],
    layout: str,
    theme: str,
    every: int,
) -> dict[str, str]:
    """All that decides the pictures, in words that a user understands when they differ."""
    no_image = torch.empty(0)
    return {
        "format": _FORMAT,
        "input": clip.digest,
        "name of the input": clip.path.resolve().name,
        "time base": str(clip.time_base),
        "every": str(every),
        "backbone": backbone.name,
        "weights or options of the backbone": fingerprint_of(backbone),
        "upsampler": ",".join(upsamplers),
        **{f"weights or options of {name}": fingerprint(no_image, each) for name, each in upsamplers.items()},
        "output size": f"{size[0]}x{size[1]}",
        "layout": layout,
        "theme": theme,
    }


def _fit_colors(
    clip: Clip,
    indices: Sequence[int],
    backbone: Backbone,
    device: torch.device,
    on_progress: Callable[[str, int, int], object],
) -> PCAColors:
    """One basis and scale for the whole clip. Of each frame some positions are kept, so memory is bounded."""
    count = min(_BASIS_FRAMES, len(indices))
    chosen = [indices[(2 * number + 1) * len(indices) // (2 * count)] for number in range(count)]
    generator = torch.Generator().manual_seed(0)
    kept = []
    on_progress("colours", 0, count)
    for done, image01 in enumerate(clip.read(chosen), 1):
        vectors = backbone.extract(image01[None].to(device)).features[0].flatten(1)  # (C, h w)
        drawn = torch.randperm(vectors.shape[1], generator=generator)[: _BASIS_POSITIONS // count]
        kept.append(vectors[:, drawn.to(device)])
        on_progress("colours", done, count)
    return PCAColors.fit(torch.cat(kept, dim=1)[None, :, None])


def _load_colors(work: WorkFolder, device: torch.device) -> PCAColors | None:
    kept = work.load()
    return None if kept is None else PCAColors(kept["weight"].to(device), kept["bias"].to(device))


def _paint(
    image: Tensor,
    backbone: Backbone,
    upsamplers: Mapping[str, Upsampler],
    size: tuple[int, int],
    colors: PCAColors,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Colours of the coarse and of the upsampled features of a frame, (3, rows, columns)."""
    coarse = backbone.extract(image[None])
    features, normalized = coarse.features.float(), normalize(image[None])
    results = {
        name: method.encode(normalized, size, coarse.grid).upsample_linear(features, colors.weight, colors.bias)[0]
        for name, method in upsamplers.items()
    }
    return colors.project(features)[0], results


def _join(
    work: WorkFolder, target: Path, counts: Sequence[int], times: Sequence[int], clip: Clip, comment: str
) -> None:
    """Make the video of its segments, put it in its place, and clear up."""
    segments = [(work.segment(number), count) for number, count in enumerate(counts)]
    metadata = {"title": clip.path.resolve().name, "comment": comment}
    try:
        join_segments(segments, work.whole, times, clip.time_base, metadata)
    except SegmentError as error:
        Path(str(error)).unlink(missing_ok=True)
        raise ValueError(f"{error} was damaged and is removed: the same call makes it again") from error
    work.whole.replace(target)
    work.remove()
