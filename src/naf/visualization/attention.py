"""The attention weights of one output pixel, over the photo."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from naf.upsamplers.base import Attention
from naf.upsamplers.checks import whole_number
from naf.visualization.heat import heat_image, mark
from naf.visualization.pca import to_image

_DIMMED = 0.45  # brightness of the photo outside the window
_OPACITY = 0.78  # of the weights inside
_ZOOMED = 640  # pixels of a zoomed picture's longer side


def attention_map(attention: Attention, grid: tuple[int, int], *, head: int | None = None) -> tuple[Tensor, Tensor]:
    """Weights on the coarse grid.

    Args:
        attention: of one image, weights (1, heads, kh, kw).
        grid: (h, w).
        head: 0 … heads - 1; None for the mean of all heads.

    Returns:
        The weights, (h, w), summing to one; and which cells the window holds, (h, w) bool. A cell that it holds
        twice has the sum of both weights.

    Raises:
        ValueError: for a head that is not there or more than one image.
    """
    weights = attention.weights
    if weights.shape[0] != 1:
        raise ValueError(f"attention has batch {weights.shape[0]}, expected 1")
    if head is None:
        window = weights[0].float().mean(0)
    else:
        window = weights[0, whole_number("head", head, 0, weights.shape[1] - 1)].float()
    h, w = grid
    index = (attention.rows[:, None] * w + attention.cols[None]).flatten().cpu()
    full = torch.zeros(h * w).index_add_(0, index, window.flatten().cpu())
    held = torch.zeros(h * w, dtype=torch.bool)
    held[index] = True
    return full.view(h, w), held.view(h, w)


def attention_image(
    image01: Tensor,
    attention: Attention,
    grid: tuple[int, int],
    position: tuple[int, int],
    output_size: tuple[int, int],
    *,
    head: int | None = None,
    zoom: bool = False,
) -> Image.Image:
    """The weights of the coarse cells that one output pixel attends to, over the photo.

    Bright cells weigh most; the brightest colour is the greatest weight of this window. The photo outside the window
    is dimmed.

    Args:
        image01: photo, (3, H, W), values from 0 to 1.
        attention: of one image.
        grid: coarse grid (h, w).
        position: output pixel (row, column).
        output_size: (Ho, Wo).
        head: 0 … heads - 1; None for the mean of all heads.
        zoom: show the window and a cell around it, 640 pixels on the longer side, instead of the whole photo.

    Raises:
        ValueError: as :func:`attention_map`; also for a position outside or an image of another shape.
    """
    for name, at, side in zip(("row", "column"), position, output_size, strict=True):
        whole_number(f"{name} of position", at, 0, side - 1)
    weights, held = attention_map(attention, grid, head=head)
    photo = to_image(image01)
    (h, w), (width, height) = grid, photo.size
    rows, cols = held.any(1).nonzero().flatten(), held.any(0).nonzero().flatten()
    window = (cols.min().item() / w, rows.min().item() / h, (cols.max().item() + 1) / w, (rows.max().item() + 1) / h)
    frame = (0.0, 0.0, 1.0, 1.0)
    if zoom:
        frame = (
            max(0.0, window[0] - 1 / w),
            max(0.0, window[1] - 1 / h),
            min(1.0, window[2] + 1 / w),
            min(1.0, window[3] + 1 / h),
        )
        across, down = (frame[2] - frame[0]) * width, (frame[3] - frame[1]) * height
        scale = _ZOOMED / max(across, down)
        size = max(1, round(across * scale)), max(1, round(down * scale))
        box = (frame[0] * width, frame[1] * height, frame[2] * width, frame[3] * height)
        photo = photo.resize(size, Image.Resampling.LANCZOS, box=box)
    grey = photo.convert("L").convert("RGB")
    dimmed = Image.blend(Image.new("RGB", grey.size), grey, _DIMMED)
    scale_box = (frame[0] * w, frame[1] * h, frame[2] * w, frame[3] * h)
    cells = heat_image(weights, 0.0, weights.max().item()).resize(grey.size, Image.Resampling.NEAREST, box=scale_box)
    mask = to_image(held.float().expand(3, -1, -1)).convert("L")
    mask = mask.resize(grey.size, Image.Resampling.NEAREST, box=scale_box)
    out = Image.composite(Image.blend(grey, cells, _OPACITY), dimmed, mask)
    stroke = max(1, round(max(out.size) / 320))
    corners = [
        ((x - frame[i]) / (frame[i + 2] - frame[i]) * side)
        for x, i, side in zip(window, (0, 1, 0, 1), out.size * 2, strict=True)
    ]
    ImageDraw.Draw(out).rectangle(
        (corners[0], corners[1], corners[2] - 1, corners[3] - 1), outline="#ffffff", width=stroke
    )
    return _mark_at(out, position, output_size, frame)


def _mark_at(
    picture: Image.Image,
    position: tuple[int, int],
    output_size: tuple[int, int],
    frame: tuple[float, float, float, float],
) -> Image.Image:
    """The mark of an output pixel on a picture that shows the part `frame` (left, top, right, bottom) of it."""
    row = ((position[0] + 0.5) / output_size[0] - frame[1]) / (frame[3] - frame[1]) * picture.height
    col = ((position[1] + 0.5) / output_size[1] - frame[0]) / (frame[2] - frame[0]) * picture.width
    return mark(picture, int(row), int(col), (picture.height, picture.width))
