"""FeatUp's attention downsampler: from sharp features back to what the backbone would see of a jittered view.

The official code makes each view of all channels, blurs it, and cuts it into overlapping patches. Here the views,
the blur and the cutting act on two maps of one channel, which give the attention; the attention is carried back onto
the pixels of the one sharp map, and each cell is then a weighted sum over a window of it. No view is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from naf.upsamplers.featup_views import Views, blur_matrix

_DROPOUT = 0.2
_PATCH_DROPOUT = 0.2


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches of n blurred views of an (H, W) map, as matrices along each axis.

    Attributes:
        rows: (n, h, k, H): rows of patch, pixel rows of the patch, rows of the map that they mix.
        cols: (n, w, k, W).
        windows: (n, h, k, P): `rows` where they are not zero, P rows from `starts` on.
        starts: first row of the window of each view and row of patches, n lists of h.
    """

    rows: Tensor
    cols: Tensor
    windows: Tensor
    starts: Sequence[Sequence[int]]


def make_patches(views: Views, size: tuple[int, int], grid: tuple[int, int], kernel: int, like: Tensor) -> Patches:
    """Patches of `kernel` x `kernel` pixels, one for each cell of `grid`, spread over the whole view.

    Args:
        views: of the map.
        size: of the map, (H, W), neither below `kernel`.
        grid: (h, w).
        kernel: k; patches overlap where it exceeds the distance of the cells.
        like: dtype and device of the result.
    """
    axes = [
        (blur_matrix(side) @ matrix)[:, _pixels_of_patches(side, cells, kernel)]
        for side, cells, matrix in zip(size, grid, views.matrices(size), strict=True)
    ]
    rows, cols = axes
    touched = rows.ne(0).any(2)  # (n, h, H)
    first = touched.int().argmax(2)
    last = size[0] - 1 - touched.flip(2).int().argmax(2)
    width = int((last - first).max()) + 1
    starts = first.clamp(max=size[0] - width)
    index = starts[:, :, None, None] + torch.arange(width)
    windows = rows.gather(3, index.expand(-1, -1, kernel, -1))
    rows, cols, windows = (table.to(like.dtype).to(like.device) for table in (rows, cols, windows))
    return Patches(rows, cols, windows, starts.tolist())


def _pixels_of_patches(side: int, cells: int, kernel: int) -> Tensor:
    """(cells, kernel): the first patch starts at the first pixel, the last ends at the last."""
    room = side - kernel
    starts = [round(cell * room / (cells - 1)) for cell in range(cells)] if cells > 1 else [room // 2]
    return torch.tensor(starts)[:, None] + torch.arange(kernel)


class AttentionDownsampler(nn.Module):
    """Each cell is a softmax-weighted mean of the pixels of its patch.

    A pixel's logit is linear in its (blurred) features, scaled and shifted by where it lies in the patch. In fitting,
    some patches' logits are zero, and dropout acts on the features behind the logits. The latter is drawn as what it
    adds to a logit: a normal number of the same variance, which a sum over many channels is close to. (Of the blur,
    the variance takes the mean of the squares for the square of the mean.)

    Args:
        dim: channels of the map.
        kernel: k.
    """

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.logit = nn.Linear(dim, 1)
        self.scale = nn.Parameter(torch.ones(kernel, 1, kernel))
        self.shift = nn.Parameter(torch.zeros(kernel, 1, kernel))

    def forward(
        self, x: Tensor, patches: Patches, generator: torch.Generator | None = None, values: Tensor | None = None
    ) -> Tensor:
        """Cells of the views of a map.

        Args:
            x: (H, W, dim), contiguous.
            patches: of the views.
            generator: of the dropout, on the CPU; None for none.
            values: what is averaged, (H, W, e), contiguous: a projection of x, say; None for x itself.

        Returns:
            (n, h, w, dim or e).
        """
        attention = self.attention(x, patches, generator)  # (n, h, k, w, k)
        height, kernel, width = attention.shape[1:4]
        # Back onto the map's own pixels: first the rows of each window, then all columns.
        mixed = patches.windows.mT @ attention.flatten(3)  # (n, h, P, w * k)
        mixed = mixed.unflatten(3, (width, kernel)).permute(0, 3, 1, 2, 4)  # (n, w, h, P, k)
        weights = mixed.flatten(2, 3) @ patches.cols  # (n, w, h * P, W)
        weights = weights.unflatten(2, (height, -1))
        sums: Tensor = _WindowSums.apply(weights, x if values is None else values, patches.starts)
        return sums

    def attention(self, x: Tensor, patches: Patches, generator: torch.Generator | None) -> Tensor:
        """(n, h, k, w, k), summing to one over both k; arguments as :meth:`forward`."""
        weight = self.logit.weight[0]
        logits = _cut((x @ weight + self.logit.bias)[None], patches)[:, 0]
        count, height, _, width, _ = logits.shape
        if generator is not None:
            variance = _DROPOUT / (1 - _DROPOUT) * _cut((x.square() @ weight.square())[None], patches)[:, 0]
            noise = torch.randn(logits.shape, generator=generator).to(x)
            kept = torch.rand(count, height, 1, width, 1, generator=generator).to(x) >= _PATCH_DROPOUT
            logits = (logits + variance.clamp(min=1e-12).sqrt() * noise) * kept
        logits = logits * self.scale + self.shift
        logits = logits - logits.amax((2, 4), keepdim=True).detach()
        weights = logits.exp()
        total: Tensor = weights.sum((2, 4), keepdim=True)
        return weights / total


def _cut(maps: Tensor, patches: Patches) -> Tensor:
    """Patches of maps (m, H, W): (n, m, h, k, w, k)."""
    rows, cols = patches.rows.flatten(1, 2)[:, None], patches.cols.flatten(1, 2)[:, None]
    cut = rows @ (maps @ cols.mT)
    sides = patches.rows.shape[1:3], patches.cols.shape[1:3]
    patched: Tensor = cut.unflatten(3, sides[1]).unflatten(2, sides[0])
    return patched


class _WindowSums(torch.autograd.Function):
    """Weighted sums over windows of whole rows of one map.

    Autograd's own slices would make a gradient of the whole map for each window; here they add up in one.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, x: Tensor, starts: Sequence[Sequence[int]]) -> Tensor:
        """(n, w, h, P, W) and (H, W, C) → (n, h, w, C); window (n, h) starts at row `starts[n][h]`."""
        ctx.save_for_backward(weights, x)
        ctx.starts = starts
        count, width, height, rows, _ = weights.shape
        sums = x.new_empty(count, height, width, x.shape[2])
        for view, row, start in _each(starts):
            torch.mm(weights[view, :, row].flatten(1), x[start : start + rows].flatten(0, 1), out=sums[view, row])
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of weights and map."""
        (grad,) = grads
        weights, x = ctx.saved_tensors
        grad_weights, grad_x = torch.empty_like(weights), torch.zeros_like(x)
        rows, cols = weights.shape[3:]
        for view, row, start in _each(ctx.starts):
            window = slice(start, start + rows)
            share = grad[view, row]
            grad_weights[view, :, row] = (share @ x[window].flatten(0, 1).mT).unflatten(1, (rows, cols))
            grad_x[window].flatten(0, 1).addmm_(weights[view, :, row].flatten(1).mT, share)
        return grad_weights, grad_x, None


def _each(starts: Sequence[Sequence[int]]) -> Iterator[tuple[int, int, int]]:
    return ((view, row, start) for view, line in enumerate(starts) for row, start in enumerate(line))
