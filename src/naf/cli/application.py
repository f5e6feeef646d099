"""`naf app`: the web application."""

from __future__ import annotations

import signal
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from naf.cli import inputs, options
from naf.cli.console import console


def application(
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets others in the network use this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: the first free one from 7860.", show_default=False)
    ] = None,
    backbone: options.BackboneName = "auto",
    weights: options.Weights = "auto",
    device: options.Device = "auto",
    max_megapixels: Annotated[
        float, typer.Option(min=0.01, max=1000, help="Larger photos are refused before they are decoded.")
    ] = 40,
    is_opened: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Look at the features of photos in the browser: upsample them, click pixels, compare methods, download.

    Everything runs on this machine; nothing is sent anywhere. What the page shows can also be had by programs, through
    gradio_client (the page's footer lists the calls).
    """
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(f"naf app needs {error.name}: pip install 'naf-upsampler[app]'") from error
    from naf.app.server import serving
    from naf.app.workbench import Workbench

    workbench = Workbench(
        device=inputs.choose_device(device),
        weights=weights,
        max_pixels=round(max_megapixels * 1e6),
        backbone=backbone,
    )
    try:
        with serving(workbench, host=host, port=port) as address, _ended_by_sigterm():
            console.print(f"naf app runs at {address}  (Ctrl-C stops it)", markup=False)
            if is_opened:
                webbrowser.open(address)
            threading.Event().wait()
    except KeyboardInterrupt:
        console.print("stopped", markup=False)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the work in order, as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
