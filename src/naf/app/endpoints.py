"""The application without its page: named endpoints for `gradio_client` and other programs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api
from PIL import Image

from naf.app.analysis import Settings, WorkbenchError
from naf.app.failures import EXPECTED, told
from naf.app.photo import Photo
from naf.app.shelf import Shelf
from naf.app.workbench import MOST_COMPARED, Workbench


class Endpoints:
    """What programs may ask for; each method is one endpoint of its name.

    A photo is what `gradio_client.handle_file` makes of a path. Positions are pixels of the photo: x to the right,
    y down, from 0. An empty backbone is that of the server. Results that are pictures come as PNG files.

    Args:
        workbench: does the work.
        shelf: where results are put.
    """

    def __init__(self, workbench: Workbench, shelf: Shelf) -> None:
        self.workbench, self.shelf = workbench, shelf

    def register(self) -> None:
        """Add all endpoints to the `gr.Blocks` that is being made."""
        for endpoint in (
            self.methods,
            self.upsample,
            self.similarity,
            self.attention,
            self.segments,
            self.compare,
            self.report,
        ):
            api(_telling(endpoint), api_name=endpoint.__name__)

    def methods(self) -> list[dict[str, Any]]:
        """Upsamplers that can be named, and whether they are untrained."""
        return [{"name": name, "untrained": self.workbench.is_untrained(name)} for name in self.workbench.upsamplers]

    def upsample(
        self, photo: gr.FileData, upsampler: str = "naf+", backbone: str = "", output_side: int = 448
    ) -> tuple[gr.FileData, gr.FileData, gr.FileData, dict[str, Any]]:
        """Coarse and upsampled features as colours in one PCA basis, all channels as float16 safetensors, and facts."""
        opened, settings = self._opened(photo), self._settings(backbone, output_side)
        coarse = self.workbench.coarse(opened, settings)
        sharp = self.workbench.sharp(opened, settings, upsampler)
        features = self.workbench.save_features(opened, settings, upsampler, self.shelf.room())
        facts = {
            "backbone": coarse.name,
            "channels": coarse.channels,
            "grid": list(coarse.grid),
            "output_size": list(sharp.output_size),
            "upsampler": sharp.title,
            "weights": sharp.weights,
            "seconds": sharp.seconds,
            "mib": sharp.mib,
        }
        return (
            self._picture(coarse.picture, "coarse"),
            self._picture(sharp.picture, "upsampled"),
            _file(features),
            facts,
        )

    def similarity(
        self,
        photo: gr.FileData,
        x: float,
        y: float,
        upsampler: str = "naf+",
        backbone: str = "",
        output_side: int = 448,
    ) -> tuple[gr.FileData, gr.FileData, dict[str, Any]]:
        """Heat maps of the cosine similarity with one pixel, coarse and upsampled, in one scale, and that scale."""
        opened, settings = self._opened(photo), self._settings(backbone, output_side)
        row, col = self._pixel(opened, settings, x, y)
        found = self.workbench.similarity(opened, settings, upsampler, row, col)
        facts = {"row": found.row, "col": found.col, "cell": list(found.cell), "low": found.low, "high": found.high}
        return self._picture(found.coarse, "coarse"), self._picture(found.sharp, "upsampled"), facts

    def attention(
        self,
        photo: gr.FileData,
        x: float,
        y: float,
        upsampler: str = "naf+",
        kernel_size: int = 0,
        head: int = -1,
        backbone: str = "",
        output_side: int = 448,
    ) -> tuple[gr.FileData, gr.FileData, dict[str, Any]]:
        """Weights of the coarse cells that a pixel attends to: over the photo, enlarged, and as numbers.

        kernel_size 0 is the method's own; head -1 is the mean of all.
        """
        opened, settings = self._opened(photo), self._settings(backbone, output_side)
        row, col = self._pixel(opened, settings, x, y)
        found = self.workbench.attention(
            opened, settings, upsampler, row, col, kernel_size=kernel_size or None, head=head if head >= 0 else None
        )
        heads = found.weights.weights[0].float()
        facts = {
            "caption": found.caption,
            "kernel_size": list(found.kernel_size),
            "heads": found.heads,
            "weights": (heads[head] if head >= 0 else heads.mean(0)).tolist(),
            "rows": found.weights.rows.tolist(),
            "cols": found.weights.cols.tolist(),
        }
        return self._picture(found.picture, "attention"), self._picture(found.zoomed, "window"), facts

    def segments(
        self,
        photo: gr.FileData,
        k: int = 6,
        upsampler: str = "naf+",
        backbone: str = "",
        output_side: int = 448,
    ) -> tuple[gr.FileData, gr.FileData, dict[str, Any]]:
        """k-means segments of the features, coarse and upsampled; like clusters have like colours."""
        opened, settings = self._opened(photo), self._settings(backbone, output_side)
        found = self.workbench.segments(opened, settings, upsampler, k)
        return self._picture(found.coarse, "coarse"), self._picture(found.sharp, "upsampled"), {"k": found.k}

    def compare(
        self,
        photo: gr.FileData,
        upsamplers: list[str],
        backbone: str = "",
        output_side: int = 448,
    ) -> tuple[gr.FileData, list[dict[str, Any]]]:
        """Up to four upsamplers on one labelled sheet, with seconds and MiB of each, or why it failed."""
        opened, settings = self._opened(photo), self._settings(backbone, output_side)
        found = self.workbench.compare(opened, settings, _few(upsamplers))
        facts: list[dict[str, Any]] = [
            {"upsampler": each.upsampler, "untrained": each.is_untrained, "seconds": each.seconds, "mib": each.mib}
            for each in found.methods
        ]
        facts += [{"failure": why} for why in found.failures]
        return self._picture(found.sheet, "compare"), facts

    def report(
        self,
        photo: gr.FileData,
        upsamplers: list[str],
        x: float = -1.0,
        y: float = -1.0,
        k: int = 6,
        backbone: str = "",
        output_side: int = 448,
    ) -> gr.FileData:
        """One HTML file with everything; the first upsampler is looked at closely, at (x, y) or the photo's middle."""
        opened, settings = self._opened(photo), self._settings(backbone, output_side)
        height, width = opened.size
        point = self._pixel(opened, settings, x if x >= 0 else width / 2, y if y >= 0 else height / 2)
        return _file(self.workbench.save_report(opened, settings, _few(upsamplers), *point, k, self.shelf.room()))

    def _opened(self, photo: Any) -> Photo:
        path = self.shelf.uploaded(photo)
        return self.workbench.open(path, photo.get("orig_name") or path.name)

    def _settings(self, backbone: str, output_side: int) -> Settings:
        return Settings(backbone or self.workbench.defaults.backbone, output_side)

    def _pixel(self, photo: Photo, settings: Settings, x: float, y: float) -> tuple[int, int]:
        """A position on the photo as (row, column) of the output."""
        (height, width), (rows, cols) = photo.size, self.workbench.output_size(photo, settings)
        if not (0 <= x < width and 0 <= y < height):
            raise WorkbenchError(f"position ({x:g}, {y:g}) is outside the photo of {width} x {height} pixels")
        return int(y / height * rows), int(x / width * cols)

    def _picture(self, picture: Image.Image, name: str) -> gr.FileData:
        return _file(Path(self.shelf.put(picture, name)))


def _file(path: Path) -> gr.FileData:
    return gr.FileData(path=str(path), orig_name=path.name)


def _few(upsamplers: list[str]) -> list[str]:
    if not isinstance(upsamplers, list) or not all(isinstance(name, str) for name in upsamplers):
        raise WorkbenchError(f"upsamplers is {upsamplers!r}, expected a list of names")
    if not 1 <= len(upsamplers) <= MOST_COMPARED:
        raise WorkbenchError(f"upsamplers has {len(upsamplers)} names, expected 1 to {MOST_COMPARED}")
    return upsamplers


def _telling(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """The endpoint, its expected failures as messages for the caller."""

    @functools.wraps(endpoint)
    def answering(*args: Any, **kwargs: Any) -> Any:
        try:
            return endpoint(*args, **kwargs)
        except EXPECTED as error:
            raise told(error) from error

    # Gradio reads the types of the results there, and these annotations are strings.
    answering.__signature__ = inspect.signature(endpoint, eval_str=True)  # type: ignore[attr-defined]
    return answering
