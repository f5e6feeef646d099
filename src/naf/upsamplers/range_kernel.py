"""The learned joint bilateral kernel of FeatUp (arXiv 2403.10516), which JBU takes over.

Every pixel compares learned projections of the image in its window (range), weights them by distance (space) and may
correct the result by a small network that sees kernel and image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.adaptive_conv import cell_weights, cell_weights_in_bands
from naf.ops.window_scores import window_scores
from naf.ops.windows import Windows, reflected
from naf.upsamplers.execution import wants_grad, working_dtype

_DROPOUT = 0.1
_CORRECTION = 0.1  # share of the correction
_LEAST_SUM = 1e-7


class RangeKernel(nn.Module):
    """Kernels over windows of (2 * radius + 1) squared pixels; names are those of the official release.

    Args:
        radius: of the window.
        dim: channels of the projection.
        corrects: whether the correction is applied; its parameters exist either way.
    """

    def __init__(self, radius: int, dim: int, *, corrects: bool) -> None:
        super().__init__()
        self.radius, self.corrects = radius, corrects
        offsets = (2 * radius + 1) ** 2
        self.range_temp = nn.Parameter(torch.tensor(0.0))
        self.sigma_spatial = nn.Parameter(torch.tensor(1.0))
        self.range_proj = _two_layers(3, dim, dim)
        self.fixup_proj = _two_layers(offsets + 3, offsets, offsets)

    def forward(self, guide: Tensor, start: int, stop: int) -> Tensor:
        """Kernels of some rows, (B, stop - start, W, k * k), row-major.

        Args:
            guide: (B, H, W, 3), sides above radius.
            start: first row.
            stop: last row + 1.
        """
        first, last = max(start - self.radius, 0), min(stop + self.radius, guide.shape[1])
        projected = self._layers(self.range_proj, guide[:, first:last])
        padded = self._pad(projected, start - first, stop - start, guide.shape[1] - first)
        scores = window_scores(padded, self.radius)
        temperature = self.range_temp.to(scores.dtype).exp().clamp(1e-4, 1e4)
        kernels = (scores * temperature).softmax(-1) * self._spatial(scores)
        kernels = kernels / kernels.sum(-1, keepdim=True).clamp(min=_LEAST_SUM)
        if not self.corrects:
            return kernels
        seen = torch.cat([kernels, guide[:, start:stop]], dim=-1)
        return kernels + _CORRECTION * self._layers(self.fixup_proj, seen)

    def cell_weights(self, guide: Tensor, windows: Windows) -> Tensor:
        """The kernels of a whole map as weights of coarse cells, see :func:`naf.ops.adaptive_conv.cell_weights`.

        Args:
            guide: (B, 3, H, W), any float dtype.
            windows: of a map of that size.
        """
        guide = guide.to(working_dtype(self, guide.device)).permute(0, 2, 3, 1)
        with torch.autocast(guide.device.type, enabled=False):
            if self.training or wants_grad(self, guide):  # dropout is drawn once, and autograd keeps the kernels anyway
                return cell_weights(self(guide, 0, guide.shape[1]), windows)
            return cell_weights_in_bands(lambda start, stop: self(guide, start, stop), windows, guide)

    def _layers(self, layers: nn.Sequential, x: Tensor) -> Tensor:
        """1x1 convolution → GELU → dropout of whole channels → 1x1 convolution, channels last."""
        hidden = F.gelu(_linear(layers[0], x))
        if self.training:
            kept = F.dropout2d(hidden.new_ones(len(hidden), hidden.shape[-1], 1, 1), _DROPOUT)
            hidden = hidden * kept.permute(0, 2, 3, 1)
        return _linear(layers[3], hidden)

    def _pad(self, x: Tensor, start: int, rows: int, size: int) -> Tensor:
        """Rows start - radius … start + rows + radius - 1 of (B, rows, W, D), whose full height is `size`, padded."""
        row = torch.arange(start - self.radius, start + rows + self.radius, device=x.device)
        col = torch.arange(-self.radius, x.shape[2] + self.radius, device=x.device)
        return x.index_select(1, reflected(row, size)).index_select(2, reflected(col, x.shape[2]))

    def _spatial(self, like: Tensor) -> Tensor:
        """Gaussian of the distance, in units of the radius, (k * k,)."""
        offset = torch.linspace(-1, 1, 2 * self.radius + 1, dtype=like.dtype, device=like.device)
        distance = (offset[:, None].square() + offset.square()).flatten()
        return torch.exp(-distance / (2 * self.sigma_spatial.to(like.dtype).square()))


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, hidden, 1), nn.GELU(), nn.Dropout2d(_DROPOUT), nn.Conv2d(hidden, outputs, 1))


def _linear(conv: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    return F.linear(x, conv.weight.flatten(1).to(x.dtype), conv.bias.to(x.dtype))
