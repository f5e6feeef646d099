"""The Triton backend of :mod:`naf.ops.attention`, for CUDA devices.

Tiles are those of :mod:`naf.ops.tiling`, chosen by what they cost on such a device. Tables lie on the device, made once
for each pair of grids, so a call launches kernels and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from naf.ops import attention_triton_kernels as kernels
from naf.ops.autograd import backward_pass
from naf.ops.neighborhood import Neighborhood
from naf.ops.tables import cached_table
from naf.ops.tiling import AxisTiles, plan_tables
from naf.ops.triton_device import LAUNCH

_MOST_KEYS = 256  # of a tile whose weights stay in registers
_MOST_MASKED_KEYS = 128  # likewise, beside the counts of its cells
_KEY_BLOCK = 64  # of a tile with more
_ELEMENTS = 1 << 14  # scores of a block in the simplest case
_HALF = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def is_interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on any device (TRITON_INTERPRET=1 before this is imported)."""
    return not isinstance(kernels.attend, triton.JITFunction)


class Blocks(NamedTuple):
    """How a tile is cut: blocks of `pixels`, each with `steps` blocks of `keys` cells."""

    pixels: int
    keys: int
    steps: int


def blocks_of(pixels: int, keys: int, elements: int, most_keys: int = _MOST_KEYS) -> Blocks:
    """Blocks for a tile of so many pixels and cells: at most `elements` scores, one block for up to `most_keys`."""
    block = max(16, triton.next_power_of_2(keys)) if keys <= most_keys else _KEY_BLOCK
    rows = max(16, min(128, elements // max(block, 128), triton.next_power_of_2(pixels)))
    return Blocks(rows, block, math.ceil(keys / block))


def device_work(pixels: int, keys: int) -> float:
    """Work of a tile, for the choice of tiles: products of whole blocks, and keys and values fetched for each block.

    Counts are taken into account, since most tiles that are chosen for their work are merged ones.
    """
    blocks = blocks_of(pixels, keys, _ELEMENTS, _MOST_MASKED_KEYS)
    padded = blocks.steps * blocks.keys
    scores = padded if blocks.steps == 1 else 2 * padded  # more than one block are scored twice
    return math.ceil(pixels / blocks.pixels) * (blocks.pixels * (scores + padded) / 2 + 64 * padded)


@dataclass(frozen=True, eq=False)
class DeviceTiles:
    """Tables of the tiles on a device, and their sizes.

    Attributes:
        tables: bounds, keys and log2 of the counts of the rows, then of the columns; int32, int32, float32. Counts that
            are all one are an empty table.
        counts: whether rows and whether columns have counts.
        tiles: tiles along the rows and along the columns.
        shape: rows and columns of a tile.
        slots: coarse rows and columns of a tile.
    """

    tables: tuple[Tensor, ...]
    counts: tuple[bool, bool]
    tiles: tuple[int, int]
    shape: tuple[int, int]
    slots: tuple[int, int]

    @property
    def keys(self) -> int:
        """Cells of a tile."""
        return self.slots[0] * self.slots[1]


def device_tiles(neighborhood: Neighborhood, device: torch.device) -> DeviceTiles:
    """The tiles of a neighborhood, copied to the device the first time."""
    return _device_tiles(neighborhood.rows, neighborhood.cols, device)


@cached_table(maxsize=64)  # by identity, as the tiles
def _device_tiles(rows: Tensor, cols: Tensor, device: torch.device) -> DeviceTiles:
    axes = plan_tables(rows, cols, work=device_work)
    return DeviceTiles(
        tables=tuple(table.to(device) for axis in axes for table in _tables(axis)),
        counts=(axes[0].log_count is not None, axes[1].log_count is not None),
        tiles=(len(axes[0].keys), len(axes[1].keys)),
        shape=(axes[0].queries.shape[1], axes[1].queries.shape[1]),
        slots=(axes[0].keys.shape[1], axes[1].keys.shape[1]),
    )


def _tables(axis: AxisTiles) -> tuple[Tensor, Tensor, Tensor]:
    counts = torch.empty(0) if axis.log_count is None else (axis.log_count / math.log(2)).float()
    return torch.tensor(axis.bounds, dtype=torch.int32), axis.keys.int(), counts.contiguous()


def serves(q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood) -> bool:
    """Whether the kernels take these operands; the blocked backend takes what they do not.

    float64 has no kernels. For values that all heads share, the weights of a tile are averaged in registers, so its
    cells must fit there: where each pixel attends to the whole grid, the blocked backend's products are large and
    few already.
    """
    if any(x.dtype not in (*_HALF, torch.float32) for x in (q, k, v)):
        return False
    return v.shape[1] == q.shape[1] or device_tiles(neighborhood, q.device).keys <= _MOST_KEYS


def attend(q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood, scale: float) -> Tensor:
    """Forward pass, arguments and result as :func:`naf.ops.attention.neighborhood_attention`."""
    k, v = _channels_last(k), _channels_last(v)
    tiles = device_tiles(neighborhood, q.device)
    operand = _operand(q, k, v)
    blocks = _cut(tiles, operand, must_fit=v.shape[1] != q.shape[1])
    batch, heads, rows, cols, _ = q.shape
    out = torch.empty(batch, rows, cols, v.shape[1], v.shape[-1], dtype=v.dtype, device=v.device)
    # Where tiles are masked, a weight of 0 must not meet a NaN. The kernel reads the answer: no wait for the device.
    all_finite = v.isfinite().all().view(torch.int8) if any(tiles.counts) else out
    grid, common = _launch(q, tiles, blocks, heads if v.shape[1] == heads else 1)
    with _current(q.device):
        kernels.attend[grid](
            q, k, v, out, all_finite, *common, scale / math.log(2), *q.stride(), *k.stride(), *v.stride(),
            **_constants(q, v, tiles, blocks, operand),
        )  # fmt: skip
    return out.permute(0, 3, 1, 2, 4)


def attend_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    neighborhood: Neighborhood,
    scale: float,
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of q, k and v, None where not needed.

    Gradients of cells are added up by atomic operations in float32, since a cell's pixels lie in many tiles and a
    pass over cells would read every query k x k times. The order of the sums is left to the device, so the dispatch
    takes the blocked backend where deterministic algorithms are asked for.
    """
    k, v = _channels_last(k), _channels_last(v)
    tiles = device_tiles(neighborhood, q.device)
    operand = tl.float32 if grad_out.dtype != v.dtype else _operand(q, k, v)
    blocks = _cut(tiles, operand, is_backward=True)
    heads, is_shared = q.shape[1], v.shape[1] != q.shape[1]
    like = dict.fromkeys(("q", "k", "v"), grad_out)  # what a kernel that does not need a gradient gets for it
    if needs[0]:
        batch, _, rows, cols, dim = q.shape
        # Blocks of cells each add their part.
        like["q"] = (
            torch.empty(batch, rows, cols, heads, dim, dtype=q.dtype, device=q.device)
            if blocks.steps == 1
            else torch.zeros(batch, rows, cols, heads, dim, device=q.device)
        )
    for name, x, is_needed in (("k", k, needs[1]), ("v", v, needs[2])):
        if is_needed:
            like[name] = torch.zeros(x.shape[0], *x.shape[2:4], x.shape[1], x.shape[-1], device=x.device)
    grid, common = _launch(q, tiles, blocks, heads)
    with _current(q.device):
        kernels.attend_backward[grid](
            q, k, v, grad_out, like["q"], like["k"], like["v"], *common, scale / math.log(2), *q.stride(), *k.stride(),
            *v.stride(), *grad_out.stride(), *k.shape[2:4], scale, 1 / heads if is_shared else 1.0,
            **_constants(q, v, tiles, blocks, operand), needs_q=needs[0], needs_k=needs[1], needs_v=needs[2],
        )  # fmt: skip
    return tuple(
        like[name].to(x.dtype).permute(0, 3, 1, 2, 4) if is_needed else None
        for name, x, is_needed in zip("qkv", (q, k, v), needs, strict=True)
    )


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Makes the device the current one: kernels run there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class TritonAttention(torch.autograd.Function):
    """Forward and backward by kernels; the backward pass makes the weights anew."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.neighborhood, ctx.scale = neighborhood, scale
        return attend(q, k, v, neighborhood, scale)

    @staticmethod
    @backward_pass
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        grads = attend_backward(grad_out, q, k, v, ctx.neighborhood, ctx.scale, ctx.needs_input_grad[:3])
        return (*grads, None, None)

    gradients = staticmethod(attend_backward)


def _cut(tiles: DeviceTiles, operand: Any, *, is_backward: bool = False, must_fit: bool = False) -> Blocks:
    """Blocks that keep what a program holds in registers, by what the compiler reports for compute capability 9.0.

    Counts, gradients and float32 operands, which tensor cores do not take, need registers of their own. `must_fit`
    asks for one block of cells.
    """
    is_masked, is_exact = any(tiles.counts), operand == tl.float32
    most_keys = _MOST_MASKED_KEYS if is_masked and not must_fit else _MOST_KEYS
    is_tight = is_masked and _MOST_MASKED_KEYS < tiles.keys <= most_keys
    halvings = (is_masked or is_backward or is_exact) + 2 * (is_exact and is_backward) + is_tight
    return blocks_of(math.prod(tiles.shape), tiles.keys, _ELEMENTS >> halvings, most_keys)


def _launch(q: Tensor, tiles: DeviceTiles, blocks: Blocks, heads: int) -> tuple[tuple[int], tuple[Any, ...]]:
    """The number of programs, and the arguments that both kernels take in the same order."""
    chunks = math.ceil(math.prod(tiles.shape) / blocks.pixels)
    programs = q.shape[0] * math.prod(tiles.tiles) * chunks * heads
    return (programs,), (*tiles.tables, *tiles.tiles, chunks, *tiles.shape, *tiles.slots, *q.shape[2:4])


def _constants(q: Tensor, v: Tensor, tiles: DeviceTiles, blocks: Blocks, operand: Any) -> dict[str, Any]:
    dim, channels = q.shape[-1], v.shape[-1]
    widths = (16,) if operand == tl.float32 else (64, 32, 16)
    return {
        "heads": q.shape[1],
        "dim": dim,
        "channels": channels,
        "is_shared": v.shape[1] != q.shape[1],
        "has_row_count": tiles.counts[0],
        "has_col_count": tiles.counts[1],
        "blocks": blocks.steps,
        "block_m": blocks.pixels,
        "block_n": blocks.keys,
        "block_d": _width(dim, widths),
        "block_e": _width(channels, widths),
        "operand": operand,
        # A warpgroup takes 64 pixels; where there are fewer of them, or no tensor cores, registers ask for two.
        "num_warps": 8 if blocks.pixels == 128 or blocks.keys == _MOST_KEYS or operand == tl.float32 else 4,
        "num_stages": 2 if blocks.steps == 1 else 1,
        **LAUNCH,
    }


def _width(channels: int, widths: tuple[int, ...]) -> int:
    """The width of channel tiles that pads the least, of these the widest."""
    return min(widths, key=lambda width: (-channels % width, -width))


def _operand(*tensors: Tensor) -> Any:
    """What products multiply: half precision where all operands are of one, else float32, exactly."""
    dtypes = {x.dtype for x in tensors}
    if len(dtypes) > 1 or (is_interpreted() and torch.bfloat16 in dtypes):  # NumPy knows no bfloat16
        return tl.float32
    return _HALF.get(dtypes.pop(), tl.float32)


def _channels_last(x: Tensor) -> Tensor:
    """A coarse map whose channels lie side by side: cells are read many times, and the copy is small."""
    return x if x.stride(-1) == 1 else x.contiguous()
