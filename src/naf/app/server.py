"""The web server: its own temporary folder, its limits, no word to anyone else."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw

from naf.app.workbench import Workbench
from naf.data.samples import SAMPLES

HOST = "127.0.0.1"
_PORTS = range(7860, 7960)
_OWN_NAMES = ("127.0.0.1", "::1", "localhost")


@contextmanager
def serving(workbench: Workbench, *, host: str = HOST, port: int | None = None) -> Iterator[str]:
    """Serve the application while the context lasts.

    Uploads, pictures and downloads lie in a temporary folder that goes when the context ends. Gradio's telemetry and
    its links to the outside are off.

    Args:
        workbench: does the work.
        host: address to listen at; another than this machine's own opens the application to the network.
        port: None for the first free one from 7860.

    Yields:
        The application's address.

    Raises:
        OSError: if the address cannot be listened at.
    """
    port = _free_port(host, port)
    with tempfile.TemporaryDirectory(prefix="naf-app-", ignore_cleanup_errors=True) as made:
        folder = Path(made).resolve()
        with _environment(folder):
            from starlette.middleware import Middleware

            from naf.app import look
            from naf.app.events import build
            from naf.app.guard import Guard

            samples = [Path(shutil.copy(each.path, folder)) for each in SAMPLES]
            blocks, sessions = build(workbench, folder, samples)
            hosts = _OWN_NAMES if host in _OWN_NAMES else None  # opened to others, it has names that are not known here
            guard = Middleware(Guard, folder=folder, max_bytes=workbench.max_bytes, hosts=hosts)
            try:
                _, address, _ = blocks.launch(
                    server_name=host,
                    server_port=port,
                    prevent_thread_lock=True,
                    quiet=True,
                    share=False,
                    inline=False,
                    show_error=False,
                    max_file_size=workbench.max_bytes,
                    run_history=False,
                    enable_monitoring=False,
                    ssr_mode=False,
                    mcp_server=False,
                    pwa=False,
                    footer_links=["api"],
                    favicon_path=_favicon(folder / "favicon.png"),
                    app_kwargs={"middleware": [guard]},
                    theme=look.theme(),
                    css=look.style(),
                )
                yield address
            finally:
                sessions.close_all()
                blocks.close(verbose=False)


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """Gradio's settings; those that would open or share something are taken away."""
    wanted = {
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GRADIO_ALLOWED_PATHS": None,
        "GRADIO_DEBUG": None,
        "GRADIO_NUM_WORKERS": None,
    }
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _free_port(host: str, port: int | None) -> int:
    """A port that can be listened at."""
    failure = OSError("no port")
    for each in _PORTS if port is None else [port]:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, each, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                return int(listener.getsockname()[1])
        except OSError as error:
            failure = error
    where = f"port {port} of {host}" if port is not None else f"ports {_PORTS.start} to {_PORTS.stop - 1} of {host}"
    raise OSError(f"cannot listen at {where}: {failure.strerror or failure}")


def _favicon(path: Path) -> Path:
    """Cells on the left, the same colours smooth on the right."""
    image = Image.new("RGB", (4, 4))
    image.putdata([(60 + 50 * x, 40 + 20 * (x + y), 90 + 45 * y) for y in range(4) for x in range(4)])
    icon = image.resize((64, 64), Image.Resampling.NEAREST)
    icon.paste(image.resize((64, 64), Image.Resampling.BICUBIC).crop((32, 0, 64, 64)), (32, 0))
    corners = Image.new("L", icon.size)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, 63, 63), 14, fill=255)
    icon.putalpha(corners)
    icon.save(path)
    return path
