"""A real browser on the application's page."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

WAIT_MS = 30_000  # after which something has gone wrong; a shared machine may be slow
_OPTIONS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
# Gradio asks how far an upload is that it then finds too large, and for parts of its own that are closed here.
_HARMLESS = ("upload_progress", "/monitoring/summary", "/mcp/schema")


def executable():
    """The system's Chromium, or a reason to skip."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium on this machine: `make browser` installs it")


@contextmanager
def browser():
    """Chromium, for any number of pages."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra test)")
    path = executable()
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=list(_OPTIONS))
        try:
            yield started
        finally:
            started.close()


@contextmanager
def opened(started, address, *, width=1280, height=860, scheme="light"):
    """The page of an address, which must ask no other host and report no error by the time the context ends."""
    context = started.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    foreign, errors = [], []
    page.on("request", lambda request: foreign.append(request.url) if is_foreign(request.url, address) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(said(message)) if message.type == "error" else None)
    try:
        page.goto(address)
        page.wait_for_selector("#naf-samples img")
        yield page
        assert foreign == []
        assert [error for error in errors if not any(each in error for each in _HARMLESS)] == []
    finally:
        context.close()


def is_foreign(url, address):
    return not url.startswith((address, "data:", "blob:"))


def said(message):
    return f"{message.text} {message.location.get('url', '')}"


def screenshot(page, name):
    """The page as it is, where NAF_SCREENSHOTS names a folder."""
    if folder := os.environ.get("NAF_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")
