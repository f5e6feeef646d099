"""`naf bench`: what NAF and its peers cost on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from naf.benchmark.denoise import MEMORY_MIB, TRAINING_BATCH, TRAINING_SIDE
from naf.benchmark.denoise import denoise as measure_denoise
from naf.benchmark.peers import OfficialCost, PeersReport
from naf.benchmark.peers import peers as measure_peers
from naf.benchmark.pixel_cost import pixel_cost
from naf.benchmark.quick import TARGETS
from naf.benchmark.quick import quick as measure_quick
from naf.benchmark.report import machine_line
from naf.benchmark.results import write_atomically
from naf.cli import bench_sweep, inputs, options
from naf.cli.console import console, progress

Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's choice.")]
Rounds = Annotated[int, typer.Option(min=1, help="Measured rounds, after one of warm-up.")]
JSONFile = Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")]

app = typer.Typer(help="Measure time and memory.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure time and memory."""


app.command("sweep")(bench_sweep.sweep_command)
app.command("max-ratio")(bench_sweep.max_ratio_command)


@app.command()
def quick(
    threads: Threads = None,
    rounds: Rounds = 5,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    json_file: JSONFile = None,
) -> None:
    """Default NAF at 448x448 from 28x28, beside its eight inner convolutions alone, and a linear head on 4096 channels.

    What is aimed at on two CPU threads stands behind the figures. Bench in bfloat16 where the machine computes in it:
    the yardstick is then in bfloat16 too.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    report = measure_quick(rounds=rounds, device=inputs.choose_device(device), dtype=inputs.choose_dtype(dtype))
    console.print(f"{machine_line(report.setting)}, {dtype}, medians of {rounds} rounds")
    console.print(f"eight bare convolutions  {report.yardstick_ms:8.1f} ms")
    console.print(f"encode                   {report.encode_ms:8.1f} ms   {report.encode_ratio:.2f}x")
    console.print(f"attention                {report.attention_ms:8.1f} ms   {report.attention_ratio:.2f}x")
    aim = _aim("forward_ratio", dtype, "x")
    console.print(f"whole call               {report.forward_ms:8.1f} ms   {report.forward_ratio:.2f}x{aim}")
    console.print(f"peak memory of a call    {report.peak_mib:8.0f} MiB")
    aim = _aim("above_output_mib", dtype, " MiB")
    console.print(f"the same above output    {report.above_output_mib:8.0f} MiB{aim}")
    console.print(f"84 channels              {report.narrow_ms:8.1f} ms")
    console.print(f"4096 channels, 21 heads  {report.head_ms:8.1f} ms   {report.head_ratio:.2f}x the 84 channels")
    _write_json(json_file, report.as_dict())


@app.command()
def denoise(
    size: Annotated[int, typer.Option(min=2, help="Rows and columns of the image.")] = 448,
    dim: Annotated[int, typer.Option(min=16, help="Guidance channels, a multiple of 16.")] = 256,
    kernel: Annotated[int, typer.Option(min=3, help="Pixels of the window's side, odd.")] = 15,
    threads: Threads = None,
    rounds: Rounds = 5,
    json_file: JSONFile = None,
) -> None:
    """NAF as a denoiser, beside eight bare convolutions: its sliding window by two backends, and memory of a call."""
    if threads is not None:
        torch.set_num_threads(threads)
    report = measure_denoise(side=size, dim=dim, kernel=kernel, rounds=rounds)

    def line(label: str, time: float, ratio: str) -> None:
        console.print(f"{label:24} {time:8.1f} ms   {ratio}")

    def beside(time: float) -> str:
        return f"{time / report.yardstick_ms:.2f}x"

    console.print(f"{machine_line(report.setting)}, float32, medians of {rounds} rounds")
    console.print(f"image {size}x{size}, {dim} guidance channels, kernel {kernel}")
    line("eight bare convolutions", report.yardstick_ms, "")
    line("encode", report.encode_ms, beside(report.encode_ms))
    line("attention, window", report.window_ms, beside(report.window_ms))
    ratio = report.blocked_ms / report.window_ms
    line("attention, blocked", report.blocked_ms, f"{beside(report.blocked_ms)}  ({ratio:.2f}x the window's time)")
    line("whole call", report.forward_ms, beside(report.forward_ms))
    aim = f"  (aim: at most {MEMORY_MIB:g} MiB)" if (size, dim, kernel) == (448, 256, 15) else ""
    console.print(f"{'memory of a call':24} {report.peak_mib:8.0f} MiB{aim}")
    console.print(f"attention of {TRAINING_BATCH} crops of {TRAINING_SIDE}x{TRAINING_SIDE}, forward and backward:")
    line("window", report.training_window_ms, "")
    ratio = report.training_blocked_ms / report.training_window_ms
    line("blocked", report.training_blocked_ms, f"{ratio:.2f}x the window's time")
    _write_json(json_file, report.as_dict())


@app.command()
def pixels(
    sides: Annotated[str, typer.Option(help="Sides of image and output, multiples of 16.")] = "448,1024,2048",
    threads: Threads = None,
    rounds: Rounds = 1,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    json_file: JSONFile = None,
) -> None:
    """Default NAF's cost per output pixel at several sizes; at 2048 some 11 GB and a minute on two cores."""
    if threads is not None:
        torch.set_num_threads(threads)
    report = pixel_cost(
        bench_sweep.numbers("--sides", sides),
        rounds=rounds,
        device=inputs.choose_device(device),
        dtype=inputs.choose_dtype(dtype),
    )
    console.print(f"{machine_line(report.setting)}, {dtype}")
    for side, time, cost, peak, size in zip(
        report.sides, report.forward_ms, report.nanoseconds, report.peak_mib, report.bytes_per_pixel, strict=True
    ):
        console.print(f"{side:5d}  {time:9.1f} ms  {cost:7.0f} ns a pixel  {peak:8.0f} MiB  {size:6.0f} bytes a pixel")
    console.print(f"largest over smallest cost of a pixel: {report.ratio:.2f}")
    _write_json(json_file, report.as_dict())


@app.command()
def peers(
    upsamplers: Annotated[
        str | None, typer.Option("--upsamplers", "-u", help="Names, separated by commas. Default: all.")
    ] = None,
    official: Annotated[
        list[Path] | None,
        typer.Option(
            help="Checkout of an authors' repository, to be measured beside ours: its code is run. Repeatable."
        ),
    ] = None,
    module: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODULE:CLASS",
            help="Where an unknown repository has an upsampler, called (image, features, output_size). Repeatable.",
        ),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Channels of the features.")] = 384,
    side: Annotated[int, typer.Option(min=1, help="Rows and columns of the output.")] = 448,
    grid: Annotated[int, typer.Option(min=1, help="Rows and columns of the features.")] = 28,
    image_side: Annotated[
        int | None,
        typer.Option(min=1, help="Rows and columns of the image; the paper keeps 448. Default: as the output."),
    ] = None,
    threads: Threads = None,
    rounds: Rounds = 5,
    device: options.Device = "cpu",
    json_file: JSONFile = None,
) -> None:
    """Time and peak memory of every upsampler at the setting of the paper's efficiency table.

    With --official the authors' own code runs at the same setting with the same weights: ratios official / ours, and
    the greatest relative difference of the outputs.
    """
    names = None if upsamplers is None else [name.strip() for name in upsamplers.split(",") if name.strip()]
    modules = dict(_split_module(item) for item in module or ())
    if threads is not None:
        torch.set_num_threads(threads)
    with progress() as bar:
        task = bar.add_task("", total=None)
        report = measure_peers(
            names,
            official=official or (),
            modules=modules,
            channels=channels,
            side=side,
            grid=grid,
            image_side=image_side,
            rounds=rounds,
            device=inputs.choose_device(device),
            on_call=lambda label, done, total: bar.update(task, description=label, completed=done, total=total),
        )
    console.print(f"{machine_line(report.setting)}, medians of {rounds} rounds")
    seen = side if image_side is None else image_side
    console.print(f"features (1, {channels}, {grid}, {grid}), image {seen}x{seen}, output {side}x{side}, float32")
    console.print(_peers_table(report))
    if report.left_out:
        console.print(f"left out: {', '.join(report.left_out)} (they need a backbone or a fit to the image)")
    for line in report.failures:
        console.print(f"not measured: {line}", markup=False)
    _write_json(json_file, report.as_dict())


def _aim(name: str, dtype: str, unit: str) -> str:
    target = TARGETS[name].get(dtype)
    return "" if target is None else f"  (aim: at most {target:g}{unit})"


def _write_json(path: Path | None, report: dict[str, Any]) -> None:
    if path is not None:
        write_atomically(path, json.dumps(report, indent=2, allow_nan=False) + "\n")


def _split_module(item: str) -> tuple[str, str]:
    name, _, reference = item.partition("=")
    if not (name and all(reference.partition(":"))):
        raise ValueError(f"--module is {item!r}, expected NAME=MODULE:CLASS, e.g. jafar=package.module:JAFAR")
    return name, reference


def _peers_table(report: PeersReport) -> Table:
    """A row for each upsampler, or for each repository that has it."""
    has_official = any(result.official for result in report.results)
    headings = ["upsampler", "parameters", "ms", "MiB"]
    if has_official:
        headings += ["official", "ms", "MiB", "time", "memory", "difference"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("upsampler", "official") else "right", no_wrap=True)
    for result in report.results:
        ours = result.ours
        cells = [result.upsampler, f"{ours.parameters:,}", f"{ours.time_ms:,.1f}", f"{ours.peak_mib:,.0f}"]
        for other in result.official or (None,):
            table.add_row(*cells, *(_official_cells(other) if has_official else ()))
    return table


def _official_cells(other: OfficialCost | None) -> list[str]:
    if other is None:
        return ["-"] * 6
    return [
        other.repository,
        f"{other.cost.time_ms:,.1f}",
        f"{other.cost.peak_mib:,.0f}",
        f"{other.time_ratio:.2f}x",
        "-" if other.memory_ratio is None else f"{other.memory_ratio:.2f}x",
        "other weights" if other.difference is None else f"{other.difference:.1e}",
    ]
