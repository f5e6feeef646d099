"""From a click to the new heat map in the page of `naf app`: python benchmarks/app_latency.py --threads 2.

The application runs as a process of its own with the embedded backbone and NAF+, on a sample photo brought to 448x448,
whose features are there. Chromium clicks pixels of the photo; measured is, by the browser's own clock, the time from
the click to the frame after the upsampled heat map has been decoded. Needs the extras app and test, and Chromium.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import torch

from naf.benchmark.measure import machine

if TYPE_CHECKING:
    from playwright.sync_api import Page

_OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_PICTURES = {
    "first": ("#naf-photo img", "#naf-similarity-sharp img"),
    "similarity": ("#naf-similarity-sharp img", "#naf-similarity-sharp img"),
    "attention": ("#naf-attention-photo img", "#naf-attention-photo img"),
}
# Resolves with milliseconds once the picture has another source, is decoded and the next frame is drawn.
_WATCH = """
(selector) => {
  const before = document.querySelector(selector)?.src;
  window.nafTime = new Promise((resolve) => {
    addEventListener("click", () => {
      const start = performance.now();
      const look = async () => {
        const now = document.querySelector(selector);
        if (!now || now.src === before || !now.complete || !now.naturalWidth) return requestAnimationFrame(look);
        await now.decode();
        requestAnimationFrame(() => resolve(performance.now() - start));
      };
      look();
    }, { capture: true, once: true });
  });
}
"""


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clicks", type=int, default=20)
    options = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", "from naf.cli import main; main()", "app", "--no-open", "--backbone", "embedded"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:  # noqa: S603
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            found = re.search(r"http://\S+", said)
            if found is None:
                raise SystemExit(f"naf app did not start: {said}")
            times = in_browser(found.group(), options.clicks)
        finally:
            process.terminate()
    about = machine(torch.device("cpu"))
    print(
        f"{about['device']}, {options.threads} threads, torch {about['torch']}, 448x448, {options.clicks} clicks each"
    )
    for name, values in times.items():
        print(
            f"{name:12s} median {statistics.median(values):4.0f} ms, "
            f"from {min(values):4.0f} to {max(values):4.0f} ms, {len(values)} clicks"
        )


def in_browser(address: str, clicks: int) -> dict[str, list[float]]:
    """Milliseconds of each click, by view."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(_OPTIONS))
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(address)
        page.locator("#naf-samples button").first.click()
        page.wait_for_selector(".naf-facts", timeout=120_000)
        page.wait_for_selector("#naf-slider img")
        times = {"first click": [one_click(page, *_PICTURES["first"], 0.5, 0.5)]}
        times["similarity"] = many_clicks(page, *_PICTURES["similarity"], clicks)
        page.get_by_role("tab", name="Attention").last.click()
        page.wait_for_selector(_PICTURES["attention"][1])
        times["attention"] = many_clicks(page, *_PICTURES["attention"], clicks)
        browser.close()
    return times


def many_clicks(page: Page, clicked: str, watched: str, clicks: int) -> list[float]:
    """Clicks spread over a picture, each once the one before has been answered."""
    places = [((0.137 + 0.618 * number) % 1, (0.271 + 0.414 * number) % 1) for number in range(clicks)]
    return [one_click(page, clicked, watched, x, y) for x, y in places]


def one_click(page: Page, clicked: str, watched: str, x: float, y: float) -> float:
    """Milliseconds from a click at shares of a picture's sides to the new picture."""
    picture: Any = page.locator(clicked)
    box = picture.bounding_box()
    page.evaluate(_WATCH, watched)
    picture.click(position={"x": x * box["width"], "y": y * box["height"]})
    return float(page.evaluate("window.nafTime"))


if __name__ == "__main__":
    main()
