"""The report: all that is known of a photo as one HTML file, which needs no other and asks for none."""

from __future__ import annotations

import base64
import io
import platform
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import naf
from naf.app.analysis import (
    AttentionResult,
    CoarseAnalysis,
    CompareResult,
    MethodResult,
    SegmentsResult,
    Settings,
    SimilarityResult,
    cost,
)
from naf.app.photo import Photo
from naf.app.saving import file_name, place
from naf.benchmark.measure import machine
from naf.data.atomic import replace_file
from naf.registry import entry
from naf.visualization.heat import heat_colors, mark
from naf.visualization.theme import THEMES
from naf.visualization.typography import FONTS

_TEMPLATE = "report.html.jinja"
_PACKAGES = ("timm", "transformers", "pillow", "numpy")


@dataclass(frozen=True, eq=False)
class Findings:
    """What a report tells.

    Attributes:
        photo: that was analysed.
        settings: with these.
        coarse: what the backbone sees.
        compared: upsamplers side by side; the first is looked at closely.
        similar: of one pixel, for each upsampler; empty where none was chosen.
        attended: its attention, if the first upsampler has one.
        segmented: segments, if they were asked for.
        device: where the networks ran.
        weights: as the workbench was given.
    """

    photo: Photo
    settings: Settings
    coarse: CoarseAnalysis
    compared: CompareResult
    similar: tuple[SimilarityResult, ...]
    attended: AttentionResult | None
    segmented: SegmentsResult | None
    device: torch.device
    weights: str


def write_report(folder: Path, findings: Findings) -> Path:
    """Write PHOTO_BACKBONE_report.html; returns where.

    Raises:
        OSError: if the folder cannot be written to.
    """
    path = place(folder, file_name(findings.photo.name, findings.coarse.name, "report", suffix=".html"))
    page = render(findings)
    replace_file(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return path


def render(findings: Findings) -> str:
    """The page. All pictures and fonts lie in it; whatever the photo is called, it stays text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"picture": _picture, "grid": _grid, "signed": _signed, "aspect": _aspect}
    coarse, methods = findings.coarse, findings.compared.methods
    most_seconds = max(each.seconds for each in methods)
    most_mib = max(1.0, *(each.mib for each in methods))
    rows = [_row(each, most_seconds, most_mib) for each in methods]
    similar = findings.similar
    chosen = None
    if similar:
        chosen = mark(coarse.photo, similar[0].row, similar[0].col, coarse.output_size)
    return environment.get_template(_TEMPLATE).render(
        findings=findings,
        photo=findings.photo,
        coarse=coarse,
        coarse_cost=cost(coarse.seconds, coarse.mib),
        methods=methods,
        rows=rows,
        chosen=chosen,
        heat=_heat(),
        facts=list(_facts(findings)),
        machine=list(_machine(findings.device)),
        command=_command(findings),
        is_reduced=any(each.guide_size != findings.photo.size for each in methods),
        themes=THEMES,
        fonts={weight: _base64((FONTS / f"Inter-{weight}.ttf").read_bytes()) for weight in ("Regular", "SemiBold")},
        made=datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
        version=naf.__version__,
    )


def _row(method: MethodResult, most_seconds: float, most_mib: float) -> dict[str, Any]:
    """A line of the table."""
    about = entry(method.upsampler)
    time, memory = cost(method.seconds, method.mib)
    return {
        "title": method.title,
        "summary": about.summary,
        "paper": "" if about.paper == "-" else about.paper,
        "weights": method.weights,
        "licence": method.licence,
        "time": time,
        "time_share": 100 * method.seconds / most_seconds,
        "memory": memory,
        "memory_share": 100 * method.mib / most_mib,
        "note": method.note,
    }


def _facts(findings: Findings) -> Iterator[tuple[str, str]]:
    """The settings, and what they came to."""
    photo, settings, coarse = findings.photo, findings.settings, findings.coarse
    yield "Photo", f"{photo.name}, {photo.format}, {_grid(photo.size)} pixels"
    yield "SHA-256", photo.key
    asked = "" if coarse.name == settings.backbone else f" (asked for: {settings.backbone})"
    yield "Backbone", f"{coarse.name}{asked}, {_source(coarse.name)}"
    if coarse.note:
        yield "Remark", coarse.note
    yield "Backbone's input", f"{_grid(coarse.input_size)} pixels (longer side at most {settings.backbone_side})"
    yield "Coarse features", f"{_grid(coarse.grid)} cells, {coarse.channels} channels"
    yield "Output", f"{_grid(coarse.output_size)} (longer side {settings.output_side})"
    guides = dict.fromkeys(_grid(each.guide_size) for each in findings.compared.methods)
    yield "Upsamplers saw", f"the photo at {' or '.join(guides)} pixels"
    if findings.similar:
        first = findings.similar[0]
        yield "Chosen pixel", f"({first.col}, {first.row}); cell ({first.cell[1]}, {first.cell[0]})"
    if findings.segmented:
        yield "Segments", f"{findings.segmented.k}, k-means on the coarse features"


def _source(backbone: str) -> str:
    """Where a backbone's weights come from."""
    if backbone in ("embedded", "hog"):
        return "weights carried by the package" if backbone == "embedded" else "which has no weights"
    kinds = {"hf": "from the Hugging Face Hub or a folder", "hub": "from torch.hub"}
    return kinds.get(backbone.partition(":")[0], "timm's pretrained weights")


def _machine(device: torch.device) -> Iterator[tuple[str, str]]:
    """Where it was made, and with what."""
    about = machine(device)
    threads = f", {about['threads']} threads" if device.type == "cpu" else ""
    yield "Device", f"{about['device']}{threads}"
    yield "naf", naf.__version__
    yield "torch", torch.__version__
    yield "Python", platform.python_version()
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
    yield "System", f"{platform.system()} {platform.machine()}"


def _command(findings: Findings) -> str:
    """What gives the comparison again."""
    settings, coarse = findings.settings, findings.coarse
    height, width = coarse.output_size
    parts = [
        *("naf", "compare", findings.photo.name),
        *("--upsamplers", ",".join(each.upsampler for each in findings.compared.methods)),
        *("--backbone", settings.backbone, "--max-side", str(settings.backbone_side)),
        *("--size", f"{height}x{width}"),
        *(() if findings.weights == "auto" else ("--weights", findings.weights)),
    ]
    return shlex.join(parts)


def _grid(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _aspect(image: Image.Image) -> str:
    """Width over height: pictures side by side get widths by it, and so one height."""
    return f"{image.width / image.height:.4f}"


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _heat() -> Image.Image:
    """The colours of similarity, from the least at the left to the greatest."""
    ramp = (heat_colors(torch.linspace(0, 1, 256)[None]) * 255).round().byte()
    return Image.fromarray(ramp.permute(1, 2, 0).numpy())


def _picture(image: Image.Image, kind: str = "PNG") -> str:
    """A picture as a data address."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"quality": 90, "subsampling": 0} if kind == "JPEG" else {"optimize": True}
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{_base64(buffer.getvalue())}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
