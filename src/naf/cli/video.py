"""`naf video`: a clip's features, upsampled frame by frame, as a video."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import TaskID

from naf.cli import inputs, options, sheets
from naf.cli.console import console, errors, progress
from naf.cli.load import load_backbone, load_upsampler
from naf.clip import SEGMENT, upsample_clip
from naf.data.video import WorkFolder, open_clip


class LayoutName(StrEnum):
    """What a frame shows."""

    side = "side"
    result = "result"


def video(
    clip: Annotated[Path, typer.Argument(help="A video, or a folder of frames of one size.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the video, made if need be; or its name, ending in .mp4.")
    ] = Path("out"),
    backbone: options.BackboneName = "auto",
    upsamplers: Annotated[
        str,
        typer.Option(
            "--upsamplers",
            "-u",
            help="Name of the method, see `naf models`; several, separated by commas, for --layout side.",
        ),
    ] = "naf",
    weights: options.Weights = "auto",
    neighborhood: options.NeighborhoodRule = None,
    size: options.Size = None,
    scale: options.Scale = None,
    max_side: options.MaxSide = None,
    layout: Annotated[
        LayoutName,
        typer.Option(help="side: photo, coarse and upsampled features, labelled; result: the upsampled alone."),
    ] = LayoutName.side,
    theme: sheets.Theme = sheets.ThemeName.light,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second of a folder. Default: 25. A video has its own times.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Take every N-th frame only.")] = 1,
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    overwrite: options.Overwrite = False,
) -> None:
    """Upsample the features of a clip.

    Writes NAME_UPSAMPLER.mp4 (H.264, plays in browsers): PCA colours, with one basis and one scale for the whole clip,
    so that they do not flicker, and the clip's own timing. Sound is dropped. A run that was stopped goes on where it
    was if it is started again; until then what is finished lies in NAME_UPSAMPLER.mp4.partial.
    """
    names = sheets.method_names(upsamplers)
    place, kind = inputs.choose_device(device), inputs.choose_dtype(dtype)
    inputs.output_size((1, 1), size, scale)
    target = _target(output, clip, names)
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists: --overwrite replaces it")
    shown: dict[str, TaskID] = {}
    with progress() as bar:

        def show(step: str, done: int, total: int) -> None:
            if step not in shown:
                shown[step] = bar.add_task(step, total=total, completed=done)
            bar.update(shown[step], completed=done)

        frames = open_clip(clip, fps=fps, on_progress=lambda share: show("reading", round(100 * share), 100))
        if frames.note:
            console.print(f"note       {frames.note}", markup=False)
        count = "1 frame" if len(frames) == 1 else f"{len(frames)} frames"
        console.print(
            f"clip       {count} of {'x'.join(map(str, frames.frame_size))}, {frames.seconds:.2f} s", markup=False
        )
        network = load_backbone(backbone, place, kind, max_side)
        methods = [load_upsampler(name, weights, neighborhood, place, network) for name in names]
        start = time.perf_counter()
        try:
            result = upsample_clip(
                frames,
                target,
                network,
                {sheets.method_title(name, method): method for name, method in zip(names, methods, strict=True)},
                inputs.output_size(frames.frame_size, size, scale),
                device=place,
                layout=layout.value,
                theme=theme.value,
                every=every,
                overwrite=overwrite,
                on_progress=show,
            )
        except KeyboardInterrupt:
            bar.stop()
            work = WorkFolder(target)
            kept = f"{work.path} keeps {work.finished * SEGMENT} frames, the same command goes on there"
            errors.print(f"stopped: {kept if work.finished else 'no frames were finished yet'}", markup=False)
            raise typer.Exit(130) from None
    seconds = (time.perf_counter() - start) / max(1, result.frames - result.resumed_at)
    resumed = f" from frame {result.resumed_at} on" if result.resumed_at else ""
    console.print(f"wrote {target}: {result.frames} frames{resumed}, {seconds:.2f} s each", markup=False)


def _target(output: Path, clip: Path, names: list[str]) -> Path:
    """Where the video goes."""
    if output.suffix.lower() == ".mp4":
        return inputs.output_folder(output.parent) / output.name
    stem = clip.resolve().name if clip.is_dir() else clip.stem
    return inputs.output_folder(output) / f"{stem}_{'_'.join(names)}.mp4"
