"""`naf bench`: what NAF costs on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from naf.benchmark.quick import quick as measure_quick
from naf.cli import inputs, options
from naf.cli.console import console

app = typer.Typer(help="Measure time and memory.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure time and memory."""


@app.command()
def quick(
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's choice.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds, after one of warm-up.")] = 5,
    device: options.Device = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")] = None,
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
