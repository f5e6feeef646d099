"""What the workbench is asked for and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

from PIL import Image
from torch import Tensor

from naf.backbones.base import FeatureMap
from naf.ops.neighborhood import Rule
from naf.upsamplers.base import Attention, Guidance
from naf.visualization.pca import PCAColors
from naf.visualization.sheet import Panel
from naf.visualization.view import FeatureView

Report = Callable[[float, str], None]
"""Told the share done, 0 … 1, and what is being done. It may raise :class:`Cancelled`, which passes through."""


class Cancelled(Exception):  # noqa: N818 (no error: somebody changed their mind)
    """Raised by a report callback: the work is no longer wanted."""


class WorkbenchError(ValueError):
    """What cannot be done, in one line for the user."""


def part(report: Report, low: float, high: float) -> Report:
    """The report callback of a step that takes the work from share `low` to share `high`."""
    return lambda share, step: report(low + (high - low) * share, step)


def parts(report: Report, low: float, high: float, count: int) -> list[Report]:
    """The callbacks of `count` steps that take the work from share `low` to share `high`."""
    step = (high - low) / max(1, count)
    return [part(report, low + number * step, low + (number + 1) * step) for number in range(count)]


def cost(seconds: float, mib: float) -> tuple[str, str]:
    """Time and memory in words: "1.3 s" or "42 ms", "+310 MiB"."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms", f"+{mib:.0f} MiB"


def silent(share: float, step: str) -> None:
    """The report callback of whoever does not want to be told."""
    del share, step


@dataclass(frozen=True)
class Settings:
    """What a photo is analysed with.

    Attributes:
        backbone: see `naf.backbones.create`.
        output_side: pixels of the output's longer side. Upsamplers are guided by the photo at this size.
        backbone_side: most pixels of the longer side that the backbone sees; smaller photos are not enlarged.
    """

    backbone: str = "auto"
    output_side: int = 448
    backbone_side: int = 448


@dataclass(frozen=True, eq=False)
class BackboneResult:
    """What a backbone sees in a photo; it does not depend on the output size.

    Attributes:
        name: of the backbone that ran.
        note: one line where that is another than asked for, else empty.
        channels: C.
        grid: (h, w).
        input_size: (H', W') pixels that the backbone saw.
        seconds: of the backbone.
        mib: most memory of the backbone's call above what was in use before, MiB.
        features: what it gave, with its place on the photo.
        colors: the PCA basis of all pictures of this photo and backbone.
        view: of the coarse map.
        cells: PCA colours, a pixel a cell.
    """

    name: str
    note: str
    channels: int
    grid: tuple[int, int]
    input_size: tuple[int, int]
    seconds: float
    mib: float
    features: FeatureMap
    colors: PCAColors
    view: FeatureView
    cells: Image.Image


@dataclass(frozen=True, eq=False)
class CoarseAnalysis(BackboneResult):
    """The same with pictures at the output size.

    Attributes:
        output_size: (Ho, Wo) that the settings mean for this photo; clicks are positions on it.
        picture: PCA colours, cells as squares.
        photo: the photo, which is clicked on.
    """

    output_size: tuple[int, int]
    picture: Image.Image
    photo: Image.Image


@dataclass(frozen=True, eq=False)
class MethodResult:
    """What an upsampler makes of a photo, without what further questions need.

    Attributes:
        upsampler: registered name.
        backbone: name of the one that ran.
        title: for people, e.g. "jafar (untrained)".
        weights: where its parameters come from, in words.
        licence: of the weights, where it is known.
        is_untrained: whether they are random.
        picture: PCA colours at the output size, in the coarse basis.
        output_size: (Ho, Wo).
        guide_size: (H, W) of the photo as the upsampler saw it.
        seconds: of one whole call, encoding included.
        mib: most memory of that call above what was in use before, MiB.
        note: one line that belongs beside the figures, else empty.
    """

    upsampler: str
    backbone: str
    title: str
    weights: str
    licence: str
    is_untrained: bool
    picture: Image.Image
    output_size: tuple[int, int]
    guide_size: tuple[int, int]
    seconds: float
    mib: float
    note: str = ""

    @property
    def figures(self) -> str:
        """Time and memory as a caption: "0.42 s, +310 MiB"."""
        return ", ".join(cost(self.seconds, self.mib))


@dataclass(frozen=True, eq=False)
class SharpAnalysis(MethodResult):
    """The same with what answers questions.

    Attributes:
        view: of the upsampled features.
        guidance: what was encoded.
        features: the full map (1, C, Ho, Wo), where it is kept; else None.
        rule: of NAF's neighborhood, else None.
        has_attention: whether :meth:`Workbench.attention` answers.
        kernel_size: of the neighborhood, where it can be chosen, else None.
        heads: of the attention; 1 where there is nothing to choose.
    """

    view: FeatureView = field(kw_only=True)
    guidance: Guidance = field(kw_only=True)
    features: Tensor | None = field(kw_only=True)
    rule: Rule | None = field(kw_only=True)
    has_attention: bool = field(kw_only=True)
    kernel_size: int | None = field(kw_only=True)
    heads: int = field(kw_only=True)

    @property
    def result(self) -> MethodResult:
        """Without what answers questions."""
        return MethodResult(**{each.name: getattr(self, each.name) for each in fields(MethodResult)})


@dataclass(frozen=True, eq=False)
class SimilarityResult:
    """Cosine similarity of every position with the chosen one, before and after, in one colour scale.

    Attributes:
        coarse: of the coarse features, at the output size, with a cross hair.
        sharp: of the upsampled features, likewise.
        low: cosine of the darkest colour.
        high: cosine of the brightest colour.
        row: of the output.
        col: of the output.
        cell: coarse (row, column) that was compared with.
        title: of the upsampler.
    """

    coarse: Image.Image
    sharp: Image.Image
    low: float
    high: float
    row: int
    col: int
    cell: tuple[int, int]
    title: str


@dataclass(frozen=True, eq=False)
class AttentionResult:
    """The weights of one output pixel over the photo.

    Attributes:
        picture: the photo at the output size under the weights.
        zoomed: the neighborhood alone, enlarged.
        caption: which pixel, kernel and head, and what they say.
        kernel_size: rows and columns of the neighborhood, as shown.
        heads: that there are to choose from.
        weights: what is shown.
    """

    picture: Image.Image
    zoomed: Image.Image
    caption: str
    kernel_size: tuple[int, int]
    heads: int
    weights: Attention


@dataclass(frozen=True, eq=False)
class SegmentsResult:
    """k-means segments before and after; the same cluster has the same colour.

    Attributes:
        coarse: at the output size, cells as squares.
        sharp: at the output size.
        k: clusters that were found: at most those asked for.
        title: of the upsampler.
    """

    coarse: Image.Image
    sharp: Image.Image
    k: int
    title: str


@dataclass(frozen=True, eq=False)
class CompareResult:
    """Upsamplers side by side.

    Attributes:
        methods: those that ran, in the order asked for.
        panels: photo, coarse features, then one a method, with time and memory.
        sheet: all panels as one picture.
        failures: one line for each method that did not run.
    """

    methods: tuple[MethodResult, ...]
    panels: tuple[Panel, ...]
    sheet: Image.Image
    failures: tuple[str, ...] = ()
