"""Answers to questions about a photo that has been analysed: no network runs here, but for the attention's weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from PIL import Image
from torch import Tensor

from naf.app.analysis import (
    AttentionResult,
    BackboneResult,
    CoarseAnalysis,
    CompareResult,
    MethodResult,
    SegmentsResult,
    SharpAnalysis,
    SimilarityResult,
    cost,
)
from naf.app.photo import Photo
from naf.benchmark.measure import machine
from naf.ops.neighborhood import make_neighborhood
from naf.upsamplers.checks import whole_number
from naf.upsamplers.naf_guidance import NeighborhoodGuidance
from naf.visualization.attention import attention_image, attention_map
from naf.visualization.heat import heat_image, heat_range, mark
from naf.visualization.segments import Segments
from naf.visualization.sheet import Panel, comparison_sheet

LARGEST_KERNEL = 31


def squares(cells: Image.Image, output_size: tuple[int, int]) -> Image.Image:
    """A picture of the coarse grid at the output size, cells as squares."""
    return cells.resize((output_size[1], output_size[0]), Image.Resampling.NEAREST)


def similarity(seen: BackboneResult, sharps: Iterable[SharpAnalysis], row: int, col: int) -> list[SimilarityResult]:
    """Cosine with the output pixel (row, col), and on the coarse map with the cell that holds it.

    One answer for each upsampler, of which there is at least one, all in one colour scale.
    """
    titles, maps = [], []
    for sharp in sharps:
        titles.append(sharp.title)
        maps.append(sharp.view.similarity(sharp.view.vector(row, col)))
    size, (h, w) = (maps[0].shape[0], maps[0].shape[1]), seen.grid
    cell = int((row + 0.5) * h / size[0]), int((col + 0.5) * w / size[1])
    before = seen.view.similarity(seen.view.vector(*cell))
    low, high = heat_range(before, *maps)
    coarse = mark(squares(heat_image(before, low, high), size), row, col, size)
    return [
        SimilarityResult(coarse, mark(heat_image(values, low, high), row, col, size), low, high, row, col, cell, title)
        for title, values in zip(titles, maps, strict=True)
    ]


def attention(
    shown: Tensor,
    seen: BackboneResult,
    sharp: SharpAnalysis,
    row: int,
    col: int,
    kernel_size: int | None,
    head: int | None,
) -> AttentionResult:
    """The weights of the output pixel (row, col), over the photo at the output size, (3, Ho, Wo).

    Raises:
        ValueError: if the method has none, or not this kernel size or head.
    """
    guidance, size = sharp.guidance, sharp.output_size
    if not sharp.has_attention:
        raise ValueError(
            "this method has no attention weights to show; naf, anyup, jafar and bilinear have, among others"
        )
    if kernel_size is not None and kernel_size != sharp.kernel_size:
        if sharp.kernel_size is None or sharp.rule is None or not isinstance(guidance, NeighborhoodGuidance):
            raise ValueError("this method has no kernel size to choose; naf and naf+ have")
        if whole_number("kernel_size", kernel_size, 1, LARGEST_KERNEL) % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}, expected an odd number")
        guidance = guidance.with_neighborhood(make_neighborhood(seen.grid, size, kernel_size, sharp.rule))
    if head is not None:
        whole_number("head", head, 0, sharp.heads - 1)
    weights = guidance.attention(row, col, seen.features.features.float())
    whole, zoomed = (
        attention_image(shown, weights, seen.grid, (row, col), size, head=head, zoom=zoom) for zoom in (False, True)
    )
    share, _ = attention_map(weights, seen.grid, head=head)
    kernel = len(weights.rows), len(weights.cols)
    heads = f", head {head + 1} of {sharp.heads}" if head is not None else ", mean of the heads" * (sharp.heads > 1)
    caption = (
        f"{sharp.title}, pixel ({col}, {row}): {kernel[0]} × {kernel[1]} cells{heads}. The heaviest has "
        f"{100 * share.max().item():.2g} % of the weight"
    )
    if share.min() >= 0:
        # exp of the entropy: as many cells of equal weight would be as undecided.
        caption += f"; as if {torch.special.entr(share).sum().exp().item():.1f} cells shared it evenly."
    else:
        caption += "; some weigh less than nothing."
    return AttentionResult(whole, zoomed, caption, kernel, sharp.heads, weights)


def segments(seen: BackboneResult, sharp: SharpAnalysis, clusters: Segments) -> SegmentsResult:
    """The clusters of the coarse map, on both maps."""
    before, after = clusters.image(clusters.labels(seen.view)), clusters.image(clusters.labels(sharp.view))
    return SegmentsResult(squares(before, sharp.output_size), after, len(clusters.centres), sharp.title)


def comparison(
    photo: Photo,
    coarse: CoarseAnalysis,
    methods: Sequence[MethodResult],
    failures: Sequence[str],
    device: torch.device,
) -> CompareResult:
    """Panels and the sheet of them."""
    panels = [
        Panel(coarse.photo, "photo", _size(photo.size)),
        Panel(coarse.cells, "coarse features", _caption(coarse.grid, coarse.seconds, coarse.mib), is_coarse=True),
        *(Panel(it.picture, it.title, _caption(it.output_size, it.seconds, it.mib)) for it in methods),
    ]
    about = machine(device)
    setting = f"backbone {coarse.name}, {coarse.channels} channels · {about['device']}, {about['threads']} threads"
    sheet = comparison_sheet(panels, title=photo.name, subtitle=f"{setting} · one call each, encoding included")
    return CompareResult(tuple(methods), tuple(panels), sheet, tuple(failures))


def _caption(size: tuple[int, int], seconds: float, mib: float) -> str:
    return "\t".join([_size(size), *cost(seconds, mib)])


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
