"""`naf bench`: what NAF and its peers cost on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from naf.benchmark.peers import OfficialCost, PeersReport
from naf.benchmark.peers import peers as measure_peers
from naf.benchmark.quick import quick as measure_quick
from naf.cli import inputs, options
from naf.cli.console import console, progress

Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's choice.")]
Rounds = Annotated[int, typer.Option(min=1, help="Measured rounds, after one of warm-up.")]
JSONFile = Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")]

app = typer.Typer(help="Measure time and memory.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure time and memory."""


@app.command()
def quick(
    threads: Threads = None,
    rounds: Rounds = 5,
    device: options.Device = "cpu",
    json_file: JSONFile = None,
) -> None:
    """Default NAF at 448x448 from 28x28, beside its eight inner convolutions alone: two ratios and the peak memory."""
    if threads is not None:
        torch.set_num_threads(threads)
    report = measure_quick(rounds=rounds, device=inputs.choose_device(device))
    setting = report.setting
    console.print(
        f"{setting['device']}, {setting['threads']} threads, torch {setting['torch']}, medians of {rounds} rounds"
    )
    console.print(f"eight bare convolutions  {report.yardstick_ms:8.1f} ms")
    console.print(f"encode                   {report.encode_ms:8.1f} ms   {report.encode_ratio:.2f}x")
    console.print(f"attention                {report.attention_ms:8.1f} ms   {report.attention_ratio:.2f}x")
    console.print(f"whole call               {report.forward_ms:8.1f} ms")
    console.print(f"peak memory of a call    {report.peak_mib:8.0f} MiB")
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n")


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
    side: Annotated[int, typer.Option(min=1, help="Rows and columns of image and output.")] = 448,
    grid: Annotated[int, typer.Option(min=1, help="Rows and columns of the features.")] = 28,
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
            rounds=rounds,
            device=inputs.choose_device(device),
            on_call=lambda label, done, total: bar.update(task, description=label, completed=done, total=total),
        )
    setting = report.setting
    console.print(
        f"{setting['device']}, {setting['threads']} threads, torch {setting['torch']}, medians of {rounds} rounds"
    )
    console.print(f"features (1, {channels}, {grid}, {grid}), image and output {side}x{side}, float32")
    console.print(_peers_table(report))
    if report.left_out:
        console.print(f"left out: {', '.join(report.left_out)} (they need a backbone or a fit to the image)")
    for line in report.failures:
        console.print(f"not measured: {line}", markup=False)
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n")


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
