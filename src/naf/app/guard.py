"""What the web server answers: the page's own routes, files of its own folder, bodies of a bounded size."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_API = "/gradio_api"
_PAGES = {"/", "/config", "/config/", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json"}
_CALLS = {
    *("/info", "/info/", "/app_id", "/theme.css", "/startup-events", "/openapi.json"),
    *("/upload", "/upload_progress", "/queue/join", "/queue/data", "/cancel", "/reset", "/reset/"),
}
_PREFIXES = ("/assets/", "/static/", f"{_API}/heartbeat/", f"{_API}/call/", f"{_API}/run/", f"{_API}/api/")
_FILE = f"{_API}/file="
_UPLOAD = f"{_API}/upload"
_JSON_BYTES = 1 << 20  # of a call: names, numbers and paths
_FORM_BYTES = 64 << 10  # that multipart adds to a file
_QUOTA = 4 << 30  # bytes of the folder beyond which nothing more is taken
_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)  # a path on Windows, no address

# The browser itself then refuses whatever would leave this machine.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob:; "
    "form-action 'self'; base-uri 'self'; frame-ancestors 'self'; object-src 'none'"
)


class Guard:
    """ASGI middleware that closes what the application does not need.

    Gradio's server can fetch addresses for its callers, pass requests on to other servers and serve several folders.
    None of that is wanted here: a route that the page does not use is not found, a file is served from one folder
    only, and an address in place of an uploaded file is refused. So is what a page of another site sends, directly or
    under a name of its own for this machine.

    Args:
        app: what answers.
        folder: the only one that files are served from.
        max_bytes: of an upload.
        hosts: names that the server may be called by; None for any.
        quota: bytes in the folder beyond which uploads are refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        folder: Path,
        max_bytes: int,
        hosts: Collection[str] | None = None,
        quota: int = _QUOTA,
    ) -> None:
        self.app, self.folder, self.max_bytes = app, folder.resolve(), max_bytes
        self.hosts, self.quota = hosts, quota

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None  # the page needs no websocket
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if self.hosts is not None and _host_name(host) not in self.hosts:
            return await _answer(send, 403, "This machine is not called that; naf app --host opens it to others.")
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith(_FILE):
            if not self._is_ours(path.removeprefix(_FILE)):
                return await _answer(send, 403, "This file is not served.")
        elif not _is_open(path):
            return await _answer(send, 404, "There is nothing here.")
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return await self.app(scope, receive, _with_policy(send))
        if b"origin" in headers and urlsplit(headers[b"origin"]).netloc != host:
            return await _answer(send, 403, "Another site's page may not ask this.")
        most = self.max_bytes + _FORM_BYTES if path == _UPLOAD else _JSON_BYTES
        stated = headers.get(b"content-length", "0")
        if not stated.isdecimal() or int(stated) > most:
            return await _answer(send, 413, f"More than the maximum allowed size of {most >> 20} MiB.")
        if path == _UPLOAD:
            if _bytes_in(self.folder) + int(stated) > self.quota:
                return await _answer(send, 413, "The application's folder is full; a restart empties it.")
            return await _Bounded(receive, send, most).run(self.app, scope)
        body = await _read(receive, most)
        if body is None:
            return await _answer(send, 413, f"More than the maximum allowed size of {most >> 20} MiB.")
        if names_address(body):
            return await _answer(send, 400, "Files are uploaded here, not fetched from an address.")
        return await self.app(scope, _replay(body, receive), send)

    def _is_ours(self, name: str) -> bool:
        try:
            return Path(name).resolve().is_relative_to(self.folder)
        except (OSError, ValueError, RuntimeError):  # a name too long, with a zero byte, or a loop of links
            return False


def _host_name(host: str) -> str:
    """NAME of NAME:PORT, also of [::1]:PORT; empty for what is neither."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone since
            total += path.stat().st_size if path.is_file() else 0
    return total


def _is_open(path: str) -> bool:
    if path in _PAGES or path.startswith(_PREFIXES):
        return True
    return path.startswith(f"{_API}/") and path.removeprefix(_API) in _CALLS


def names_address(body: bytes) -> bool:
    """Whether a JSON body has an address where the path of an uploaded file is expected."""
    try:
        content = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return False  # Gradio refuses it
    paths = (entry["path"] for entry in _maps(content))
    return any(isinstance(path, str) and _ADDRESS.match(path) and not _DRIVE.match(path) for path in paths)


def _maps(content: Any) -> Iterator[dict[str, Any]]:
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if "path" in value:
                yield value
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


class _Bounded:
    """An upload that is cut off where it has more bytes than allowed, whatever it says of itself."""

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self._receive, self._send, self._left, self._has_begun = receive, send, most, False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self.receive, self.send)
        except _TooLargeError:
            if not self._has_begun:
                await _answer(self._send, 413, "More than the maximum allowed size.")

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _TooLargeError
        return message

    async def send(self, message: Message) -> None:
        self._has_begun = True
        await self._send(message)


class _TooLargeError(Exception):
    pass


async def _read(receive: Receive, most: int) -> bytes | None:
    """The whole body, or None where it is too long."""
    parts, size, is_more = [], 0, True
    while is_more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return None
        is_more = message.get("more_body", False)
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A body that has been read, once more; what follows comes from the connection."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


def _with_policy(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [
                (b"content-security-policy", _POLICY.encode()),
                (b"referrer-policy", b"no-referrer"),
                (b"x-content-type-options", b"nosniff"),
            ]
            message = {**message, "headers": [*message.get("headers", []), *headers]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
