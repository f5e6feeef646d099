"""NAF as a denoiser (arXiv 2511.18452, table 8): the noisy image is guidance and features at once.

Each output pixel is a weighted mean of the noisy pixels in the window around it, one weight for all three channels.
There is no residual: what the network learns are weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from naf.normalization import IMAGENET_MEAN, IMAGENET_STD, standardize
from naf.ops.attention import Backend
from naf.restoration.base import Restorer
from naf.restoration.registry import register
from naf.restoration.tiles import padded
from naf.upsamplers.naf import NAF, Coordinates


@register(
    "naf",
    paper="arXiv 2511.18452",
    summary="NAF with the image as its own features: a learned 15x15 filter",
)
class NAFRestorer(Restorer):
    """:class:`naf.upsamplers.naf.NAF` at ratio 1, where keys are the queries themselves.

    Arguments as there; two differ by default, as the paper's table says: a window of 15 pixels, and one attention
    head, since the heads share the values' channels out among them and there are three. The state dict is NAF's own.

    Args:
        dim: guidance channels, a multiple of 16, of heads_attn and of 4 * heads_rope.
        heads_attn: 1 or 3.
        heads_rope: RoPE heads.
        kernel_size: pixels of the window's side, odd, at least 3.
        rope_base: ratio between the longest and the shortest RoPE period.
        rope_rescale: bound of the random coordinate factor in training mode; 1 switches it off.
        img_layers: blocks a branch.
        backend: of the attention.
        coordinates: "image" (official) or "cells", in which a pixel is the same phase step in an image of any size.
        reference_cells: side of the image, in pixels, for which the two are the same.

    Raises:
        ValueError: for values outside the above.
    """

    smallest = 2  # of the encoder's reflect padding
    calling_options = ("backend", "coordinates", "kernel_size", "reference_cells", "rope_rescale")
    computed_buffers = NAF.computed_buffers
    _naf: NAF

    def __init__(
        self,
        dim: int = 256,
        heads_attn: int = 1,
        heads_rope: int = 4,
        kernel_size: int = 15,
        rope_base: float = 100.0,
        rope_rescale: float = 2.0,
        img_layers: int = 2,
        *,
        backend: Backend = "auto",
        coordinates: Coordinates = "image",
        reference_cells: float = 448.0,
    ) -> None:
        super().__init__()
        if heads_attn not in (1, 3):
            raise ValueError(f"heads_attn is {heads_attn!r}, expected 1 or 3: heads share out the three channels")
        naf = NAF(
            dim,
            heads_attn,
            heads_rope,
            kernel_size,
            rope_base=rope_base,
            rope_rescale=rope_rescale,
            img_layers=img_layers,
            backend=backend,
            coordinates=coordinates,
            reference_cells=reference_cells,
        )
        # Its parts are ours and it is none itself, so that the state dict keeps the official names.
        object.__setattr__(self, "_naf", naf)
        for name, part in naf.named_children():
            self.add_module(name, part)

    def __setattr__(self, name: str, value: Any) -> None:
        """As any module; NAF, which is no submodule, is told of training and evaluation here.

        Not all come by `train`: Lightning sets `training` module by module after a validation.
        """
        super().__setattr__(name, value)
        if name == "training":
            self._naf.training = value

    def memory(self, size: tuple[int, int]) -> int:
        """That of the guidance and its making."""
        return self._naf.memory(size, size)

    def _restore(self, noisy: Tensor) -> Tensor:
        out = self._naf(_guide(noisy), noisy, noisy.shape[2:])
        assert isinstance(out, Tensor)
        return out

    def _restore_large(
        self, noisy: Tensor, memory_budget: int, approximate: bool, on_progress: Callable[[float], object]
    ) -> Tensor:
        """In bands of rows: group norms see the whole image, so tiles would not give the same."""
        del approximate
        height, width = noisy.shape[2:]
        noisy = padded(noisy, self.multiple, self.smallest)
        size = (noisy.shape[2], noisy.shape[3])
        out = torch.empty_like(noisy)
        bands = self._naf.iter_rows(_guide(noisy), noisy, size, memory_budget=memory_budget, on_progress=on_progress)
        for rows, band in bands:
            out[:, :, rows] = band
        return out[:, :, :height, :width]


def _guide(noisy: Tensor) -> Tensor:
    """The noisy image as NAF's encoder sees it; noise may lie outside of what `naf.normalize` takes."""
    return standardize(noisy, IMAGENET_MEAN, IMAGENET_STD)
