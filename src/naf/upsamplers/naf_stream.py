"""NAF in bands of rows, the image's encoding included: the guidance never exists as a whole.

First come the statistics of every group norm, one walk over the image each. Then one more walk makes queries: a
coarse row of keys is averaged as soon as its queries are there, rows attend as soon as the keys of their
neighborhoods are, and what no later row reads is dropped. About k coarse rows of queries are held at the top of the
output, half as many below. The result equals the whole-image one but for the order of float sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, MutableMapping
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from naf.ops.attention import neighborhood_attention
from naf.ops.buffers import new_buffer
from naf.ops.neighborhood import Neighborhood, make_neighborhood
from naf.ops.norm_act import NormActConv, adaptive_span
from naf.ops.norm_act_stream import Affine, RowWindow, next_affine, pooled_parts, stack_bands
from naf.ops.rope import rotate_in_place
from naf.upsamplers.execution import lean_dtype
from naf.upsamplers.naf_branch import EPS, GROUPS, Branch

if TYPE_CHECKING:
    from naf.upsamplers.naf import NAF

_STEP_ROWS = 32  # output rows made at once, about


class NAFStream:
    """A batch of images and their features, to be upsampled in bands.

    Args:
        naf: in evaluation mode; one that :attr:`NAF.can_stream`.
        image: (B, 3, H, W) as the encoder shall see it, or (B, dim, H, W) guidance where naf uses no encoder.
        features: (B, C, h, w).
        output_size: (Ho, Wo).
        state: scale and shift of each norm, (2, dim / branches) under "BRANCH.SAMPLE.NORM"; what is missing is added.
        on_progress: called with the share of the work done, 0 … 1.
    """

    def __init__(
        self,
        naf: NAF,
        image: Tensor,
        features: Tensor,
        output_size: tuple[int, int],
        state: MutableMapping[str, Tensor],
        on_progress: Callable[[float], object],
    ) -> None:
        self.naf, self.image, self.state, self.on_progress = naf, image, state, on_progress
        self.size, self.grid = output_size, (features.shape[2], features.shape[3])
        self.values = features.unflatten(1, (naf.heads_attn, -1)).permute(0, 1, 3, 4, 2)  # (B, n, h, w, C/n)
        self.neighborhood = make_neighborhood(self.grid, self.size, naf.kernel_size, naf.neighborhood)
        # The first coarse row that an output row, or one below it, attends to: tables need not be monotone.
        self.first_keys = self.neighborhood.rows.amin(1).flip(0).cummin(0).values.flip(0).tolist()
        self.step = step_rows(self.size[0], self.grid[0])
        branches = naf.image_encoder.branches.items() if naf.use_encoder else ()
        self.branches = {name: branch for name, branch in branches if isinstance(branch, Branch)}
        self.dtype = lean_dtype(naf, image.device) if naf.use_encoder else image.dtype
        layers = [branch.layers(self.dtype) for branch in self.branches.values()]
        self._last_walk = len(image) * (1 + sum(_walk_work(each, len(each[2])) for each in layers))
        walks = sum(_walk_work(each, count) for each in layers for count in range(len(each[2])))
        self._done, self._total = 0.0, len(image) * walks + self._last_walk

    def bands(self, rows: int, start: int) -> Iterator[tuple[slice, Tensor]]:
        """(output rows, band (B, C, rows, Wo)) from row `start` to the last, dtype of the features."""
        bands = self._bands(rows, start)
        while True:
            # For each band anew: what the caller does in between keeps its own modes.
            with torch.no_grad(), torch.autocast(self.image.device.type, enabled=False):
                item = next(bands, None)
            if item is None:
                return
            yield item

    def _bands(self, rows: int, start: int) -> Iterator[tuple[slice, Tensor]]:
        if start >= self.size[0]:
            return
        maps = self._maps_after_statistics()
        self._advance(self._last_walk * start / self.size[0])
        first_key = self.first_keys[start]
        first_query = min(start, self._query_span(first_key)[0])
        first_query -= first_query % self.step
        queries = RowWindow(self._queries(maps, first_query), first_query)
        keys = RowWindow(self._keys(queries, first_key), first_key)
        for top in range(start, self.size[0], rows):
            bottom = min(top + rows, self.size[0])
            shape = len(self.image), bottom - top, self.size[1], *self.values.shape[1::3]
            band = self.values.new_empty(shape)
            cuts = [top, *range(top - top % self.step + self.step, bottom, self.step), bottom]
            for low, high in pairwise(cuts):
                out = band[:, low - top : high - top].permute(0, 3, 1, 2, 4)
                out.copy_(self._attend(queries, keys, low, high))
                keys.drop(self.first_keys[min(high, self.size[0] - 1)])
                queries.drop(min(high, self._query_span(keys.stop)[0]))
                self._advance(self._last_walk * (high - low) / self.size[0])
            yield slice(top, bottom), band.flatten(3).permute(0, 3, 1, 2)

    def _attend(self, queries: RowWindow, keys: RowWindow, start: int, stop: int) -> Tensor:
        """Output rows start … stop - 1, (B, n, rows, Wo, C/n)."""
        table = self.neighborhood.rows[start:stop]
        first, last = int(table.min()), int(table.max()) + 1
        # Keys first: they pull the queries that they are the means of.
        k = self._by_head(keys.rows(first, last))
        q = self._by_head(queries.rows(start, stop))
        near = Neighborhood((last - first, self.grid[1]), table - first, self.neighborhood.cols)
        scale = 1 / math.sqrt(q.shape[-1])
        return neighborhood_attention(q, k, self.values[:, :, first:last], near, scale=scale, backend=self.naf.backend)

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, rows, W, dim) as (B, n, rows, W, d)."""
        split: Tensor = x.unflatten(-1, (self.naf.heads_attn, -1)).permute(0, 3, 1, 2, 4)
        return split

    def _query_span(self, key: int) -> tuple[int, int]:
        """Output rows whose queries a coarse row of keys is the mean of."""
        return adaptive_span(key, self.size[0], self.grid[0])

    def _keys(self, queries: RowWindow, first: int) -> Iterator[Tensor]:
        """Coarse rows of keys, each (B, 1, w, dim)."""
        for row in range(first, self.grid[0]):
            yield from pooled_parts(queries, self.size, self.grid, row, row + 1)

    def _queries(self, maps: Callable[[int], list[list[RowWindow]]], first: int) -> Iterator[Tensor]:
        """Bands (B, rows, Wo, dim) after RoPE, from row `first` on."""
        image_size = self.image.shape[2], self.image.shape[3]
        encoder, scales = self.naf.image_encoder, self.naf.coordinate_scales(self.grid)
        row_angles, col_angles = encoder.angles(self.size, self.dtype, scales)
        dtype = torch.promote_types(self.dtype, row_angles.dtype)
        windows = maps(adaptive_span(first, image_size[0], self.size[0])[0])
        for start in range(first, self.size[0], self.step):
            stop = min(start + self.step, self.size[0])
            band = new_buffer((len(windows), stop - start, self.size[1], self.naf.dim), dtype, self.image.device)
            for out, sample in zip(band, windows, strict=True):
                places = encoder.parts(out) if self.branches else (out,)
                for place_of_map, window in zip(places, sample, strict=True):
                    parts = pooled_parts(window, image_size, self.size, start, stop)
                    for part, place in zip(parts, place_of_map.split([len(part) for part in parts]), strict=True):
                        place.copy_(part)
                    window.drop(adaptive_span(stop, image_size[0], self.size[0])[0])
            rotate_in_place(band, row_angles[start:stop], col_angles, heads=self.naf.heads_rope)
            yield band

    def _maps_after_statistics(self) -> Callable[[int], list[list[RowWindow]]]:
        """What gives, for each sample, the maps whose channels together are the guidance, from an image row on."""
        if not self.branches:
            channels_last = self.image.permute(0, 2, 3, 1)
            return lambda first: [[RowWindow(iter([sample[first:]]), first)] for sample in channels_last]
        affines = [{name: self._affines(name, index) for name in self.branches} for index in range(len(self.image))]
        return lambda first: [
            [
                RowWindow(stack_bands(sample, *self.branches[name].layers(self.dtype), affine, first), first)
                for name, affine in by_branch.items()
            ]
            for sample, by_branch in zip(self.image, affines, strict=True)
        ]

    def _affines(self, name: str, sample: int) -> list[Affine]:
        """Scale and shift of each norm of a branch on one sample, from the state as far as it has them."""
        layers = self.branches[name].layers(self.dtype)
        affines: list[Affine] = []
        for index, step in enumerate(layers[2]):
            key = f"{name}.{sample}.{index}"
            if key in self.state:
                scale, shift = self.state[key].to(self.image.device)
                affines.append((scale, shift))
                self._advance(_walk_work(layers, index))
            else:
                bands = self._watched(stack_bands(self.image[sample], *layers, affines), _walk_work(layers, index))
                affines.append(next_affine(bands, step, groups=GROUPS, eps=EPS))
                self.state[key] = torch.stack(affines[-1]).cpu()
        return affines

    def _watched(self, bands: Iterator[Tensor], work: float) -> Iterator[Tensor]:
        """The bands (rows, W, D) of a walk over the image, reported as they come."""
        for band in bands:
            yield band
            self._advance(work * len(band) / self.image.shape[2])

    def _advance(self, work: float) -> None:
        self._done += work
        self.on_progress(min(1.0, self._done / self._total))


def held_bytes(naf: NAF, image_size: tuple[int, int], output_size: tuple[int, int], grid: tuple[int, int]) -> int:
    """Most bytes of queries and of the encoder's bands that exist at a time, for one image."""
    cell = -(-output_size[0] // grid[0])
    rows = min(output_size[0], naf.kernel_size * cell + 2 * step_rows(output_size[0], grid[0]))
    queries = 4 * naf.dim * output_size[1] * rows
    layers = sum(len(branch) for branch in naf.image_encoder.branches.values())
    # Of each layer a band, its padded copy and its rows from the layer below; what one output row averages.
    bands = 4 * naf.dim * image_size[1] * (16 * layers + -(-image_size[0] // output_size[0]))
    return queries + bands


def step_rows(fine: int, coarse: int) -> int:
    """Output rows made at once: about 32, whole cells where those are smaller, so that tiles stay whole."""
    cell = max(1, fine // coarse)
    return max(1, _STEP_ROWS // cell) * cell if cell <= _STEP_ROWS else _STEP_ROWS


def _walk_work(layers: tuple[Tensor, Tensor, list[NormActConv]], count: int) -> float:
    """Time of a walk over a branch's first convolution and `count` steps, for the progress: products of a channel."""
    return layers[0].shape[-1] ** 2 * (count + 0.2)
