"""`naf bench sweep` and `naf bench max-ratio`: the paper's efficiency studies on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast, get_args

import torch
import typer

from naf.benchmark.max_ratio import CEILING, MaxRatio, max_ratio, search_key
from naf.benchmark.measure import available_mib, machine
from naf.benchmark.plots import plot_max_ratio, plot_sweep
from naf.benchmark.point import Effort, Point
from naf.benchmark.report import max_ratio_table, sweep_tables
from naf.benchmark.results import Record, Result, write_atomically
from naf.benchmark.sweep import DEFAULT_VALUES, Axis, along, sweep, sweepable
from naf.cli import inputs, options
from naf.cli.console import INTERRUPTED, console, progress

Upsamplers = Annotated[
    str | None,
    typer.Option("--upsamplers", "-u", help="Names, separated by commas. Default: all that can be measured."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's choice.")]
Plots = Annotated[bool, typer.Option(help="Also draw PNG and SVG (needs matplotlib).")]
ImageSide = Annotated[
    int, typer.Option(min=1, help="Rows and columns of the image; the paper keeps 448 at all ratios.")
]
Grid = Annotated[int, typer.Option(min=1, help="Rows and columns of the features.")]

_DEFAULTS = {axis: ",".join(map(str, values)) for axis, values in DEFAULT_VALUES.items()}


def sweep_command(
    axes: Annotated[
        list[str] | None, typer.Argument(help="ratio, channels, size: what to vary. Default: all three.")
    ] = None,
    output: options.Output = Path("out/bench"),
    upsamplers: Upsamplers = None,
    ratios: Annotated[str, typer.Option(help="Ratios, up to what memory allows.")] = _DEFAULTS["ratio"],
    channels: Annotated[str, typer.Option(help="Channels of the features.")] = _DEFAULTS["channels"],
    sizes: Annotated[str, typer.Option(help="Sides of image and output, multiples of 16.")] = _DEFAULTS["size"],
    image_side: ImageSide = 448,
    grid: Grid = 28,
    dtype: options.Dtype = "float32",
    device: options.Device = "cpu",
    threads: Threads = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measured calls at most, after one of warm-up.")] = 5,
    seconds: Annotated[
        float,
        typer.Option(
            min=0, help="Begin no further round once a point has taken this long (forward and training each)."
        ),
    ] = 2.0,
    longest: Annotated[
        float, typer.Option(min=0, help="Leave out calls that must be expected to take longer, in seconds.")
    ] = 5.0,
    training: Annotated[bool, typer.Option(help="Also measure forward, backward and SGD step.")] = True,
    plots: Plots = True,
) -> None:
    """Time, memory and FLOPs of every upsampler along ratio, channels and image size, beside the published figures.

    Each point runs in a process of its own. Results are kept in OUTPUT/sweep.json as they come: Ctrl-C loses one point,
    and the same command goes on from there. Tables and plots are made at the end, also after Ctrl-C.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    where, names = inputs.choose_device(device), sweepable(_names(upsamplers))
    chosen = [_axis(name) for name in dict.fromkeys(axes or get_args(Axis))]
    values: dict[Axis, tuple[str, str]] = {
        "ratio": ("--ratios", ratios),
        "channels": ("--channels", channels),
        "size": ("--sizes", sizes),
    }
    inputs.choose_dtype(dtype)
    base = Point(names[0], image_side=image_side, grid=grid, dtype=dtype, device=str(where))
    lines = {
        (axis, name): along(axis, numbers(*values[axis]), replace(base, upsampler=name))
        for axis in chosen
        for name in names
    }
    folder, effort = inputs.output_folder(output), Effort(rounds, seconds, longest, training)
    about = machine(where)
    record = Record(folder / "sweep.json", Result.from_dict, about, {"rounds": rounds, "seconds": seconds})
    available = available_mib() if where.type == "cpu" else None
    interrupted = False
    with progress() as bar:
        task = bar.add_task("", total=None)

        def on_point(point: Point | None, done: int, total: int) -> None:
            label = "" if point is None else f"{point.upsampler} x{point.ratio}, {point.channels} ch, {point.side} px"
            bar.update(task, description=label, completed=done, total=total)

        try:
            limit = None if available is None else 0.9 * available
            sweep(list(lines.values()), record, effort, memory_mib=limit, on_point=on_point)
        except KeyboardInterrupt:
            interrupted = True
    known = {
        axis: [record.results[p] for name in names for p in lines[axis, name] if p in record.results] for axis in chosen
    }
    settings = (
        f"{dtype}, image {image_side} x {image_side}, features (1, D, {grid}, {grid}) unless the axis says otherwise."
    )
    text = sweep_tables([(axis, known[axis]) for axis in chosen if known[axis]], about, settings)
    write_atomically(folder / "sweep.md", text)
    made = [folder / "sweep.json", folder / "sweep.md"]
    if plots:
        made += [path for axis in chosen for path in plot_sweep(axis, known[axis], about, folder / f"sweep_{axis}")]
    _tell(made, interrupted)


def max_ratio_command(
    output: options.Output = Path("out/bench"),
    upsamplers: Upsamplers = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0.1, help="Memory for a call in GB (1e9 bytes). Default: 40 on CUDA; needed elsewhere."),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Channels of the features.")] = 384,
    image_side: ImageSide = 448,
    grid: Grid = 28,
    image_is_output: Annotated[
        bool, typer.Option("--image-is-output", help="Make the image as large as the output.")
    ] = False,
    ceiling: Annotated[int, typer.Option(min=1, help="Largest ratio that is tried.")] = CEILING,
    dtype: options.Dtype = "float32",
    device: options.Device = "cpu",
    threads: Threads = None,
    longest: Annotated[
        float, typer.Option(min=0, help="Make no probe that must be expected to take longer, in seconds.")
    ] = 120.0,
    plots: Plots = True,
) -> None:
    """The largest ratio at which one forward call of each upsampler fits a memory budget.

    Each probe is a fresh process; on CUDA its allocator is limited, on a CPU its resident memory is watched. Results
    are kept in OUTPUT/max_ratio.json as they come, and the same command goes on from there.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    where, names = inputs.choose_device(device), sweepable(_names(upsamplers))
    inputs.choose_dtype(dtype)
    if budget is None and where.type != "cuda":
        raise ValueError("--budget is missing, expected GB of memory: there is no default for this device")
    budget_mib = (40 if budget is None else budget) * 1e9 / (1 << 20)
    available = available_mib()
    if where.type == "cpu" and available is not None and budget_mib > available:
        raise ValueError(f"--budget is {budget_mib / 1024:.1f} GiB, but only {available / 1024:.1f} GiB are free")
    about, folder = machine(where), inputs.output_folder(output)
    record = Record(folder / "max_ratio.json", MaxRatio.from_dict, about, {})
    base = Point(names[0], channels=channels, image_side=image_side, grid=grid, dtype=dtype, device=str(where))
    found: list[MaxRatio] = []
    interrupted = False
    with progress() as bar:
        task = bar.add_task("", total=len(names))
        try:
            for name in names:
                point = replace(base, upsampler=name)
                key = search_key(point, budget_mib, follows_output=image_is_output)
                if key not in record.results or record.results[key].limited_by == "error":
                    record.add(
                        max_ratio(
                            point,
                            budget_mib,
                            follows_output=image_is_output,
                            longest=longest,
                            ceiling=ceiling,
                            on_probe=lambda ratio, name=name: bar.update(task, description=f"{name} x{ratio}"),  # type: ignore[misc]
                        )
                    )
                found.append(record.results[key])
                bar.advance(task)
        except KeyboardInterrupt:
            interrupted = True
    made = [record.path] if record.path.exists() else []
    if found:
        write_atomically(folder / "max_ratio.md", max_ratio_table(found, about))
        made += [folder / "max_ratio.md", *(plot_max_ratio(found, about, folder / "max_ratio") if plots else ())]
    _tell(made, interrupted)


def _names(given: str | None) -> list[str] | None:
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


def _axis(name: str) -> Axis:
    if name not in get_args(Axis):
        raise ValueError(f"axis is {name!r}, expected {', '.join(get_args(Axis))}")
    return cast("Axis", name)


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers separated by commas.

    Raises:
        ValueError: for anything else; names the option.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{option} is {text!r}, expected whole numbers separated by commas, e.g. 2,4,8")
    return [int(part) for part in parts]


def _tell(made: list[Path], interrupted: bool) -> None:
    for path in made:
        console.print(f"wrote {path}", markup=False)
    if interrupted:
        console.print("interrupted: the same command goes on from here")
        raise typer.Exit(INTERRUPTED)
