"""Neighborhood attention at ratio 1 on CUDA devices: kernels for sliding windows (:mod:`naf.ops.sliding`).

The tiles of :mod:`naf.ops.attention_triton` are made for pixels that share cells; at ratio 1 each pixel has a window of
its own. Here a tile of 8 x 8 pixels walks the keys of its windows with a running softmax. The backward pass walks
twice: tiles of queries through their keys, then tiles of keys through their queries. Nothing is added up by atomic
operations, so gradients are the same bits each time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from naf.ops import attention_window_triton_kernels as kernels
from naf.ops.autograd import backward_pass
from naf.ops.neighborhood import Neighborhood
from naf.ops.sliding import sliding_window
from naf.ops.triton_device import LAUNCH, product_dtype

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_TILE = (8, 8)  # 64 positions are what a warpgroup multiplies at once; a square shares the most keys
_ROOM = 160 << 10  # bytes of shared memory of a program: A100, H100 and their like; others have some 100 KiB


class Cut(NamedTuple):
    """How a program takes positions and channels.

    Attributes:
        block_n: positions of a step of the walk.
        block_d: channels of queries and keys multiplied at once.
        block_e: channels of values multiplied at once.
        widest: channels of a result that stay in registers, at most; more are made by further programs.
        warps: of a program.
    """

    block_n: int
    block_d: int
    block_e: int
    widest: int
    warps: int


def serves(q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood) -> bool:
    """Whether the kernels take these operands: windows that slide, float32 or half precision, heads of any width."""
    return all(x.dtype in _DTYPES for x in (q, k, v)) and sliding_window(neighborhood) is not None


def attend(q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood, scale: float) -> Tensor:
    """Forward pass, arguments and result as :func:`naf.ops.attention.neighborhood_attention`."""
    k, v = _channels_last(k), _channels_last(v)
    batch, _, rows, cols, _ = q.shape
    operand = _operand(q, k, v)
    cut = _cut(q, v, operand)
    block, chunks = _chunks(v.shape[-1], cut)
    out = torch.empty(batch, rows, cols, v.shape[1], v.shape[-1], dtype=v.dtype, device=v.device)
    # A weight of 0 must not meet a NaN. The kernel reads the answer: no wait for the device.
    all_finite = v.isfinite().all().view(torch.int8)
    tiles = _tiles(rows, cols)
    with torch.cuda.device_of(q):
        kernels.attend[(batch * math.prod(tiles) * chunks * v.shape[1],)](
            q, k, v, out, all_finite, *tiles, *_sizes(neighborhood), scale / math.log(2), *q.stride(), *k.stride(),
            *v.stride(), **_constants(q, v, operand, cut), chunks=chunks, block_e=block,
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
    """Gradients of q, k and v, None where not needed; nothing of the forward pass is kept for them."""
    needs_q, needs_k, needs_v = needs
    k, v = _channels_last(k), _channels_last(v)
    batch, heads, rows, cols, dim = q.shape
    operand = _operand(q, k, v, grad_out)
    cut = _cut(q, v, operand, is_backward=True)
    # What a kernel that does not need a gradient gets for it is never written.
    grad_q, grad_k, grad_v = (
        x.new_empty(x.shape[0], *x.shape[2:4], x.shape[1], x.shape[-1]) if needed else grad_out
        for x, needed in zip((q, k, v), needs, strict=True)
    )
    # Of the softmax of each query: ln2 of the sum it divides by, and the mean gradient of its weights.
    log_total, mean_grad = q.new_empty(2, batch, heads, rows, cols, dtype=torch.float32)
    sizes = _sizes(neighborhood)
    numbers = (scale / math.log(2), *q.stride(), *k.stride(), *v.stride(), *grad_out.stride(), scale)
    constants = _constants(q, v, operand, cut)
    block_d, chunks_d = _chunks(dim, cut)
    block_e, chunks_e = _chunks(v.shape[-1], cut)
    with torch.cuda.device_of(q):
        tiles, chunks = _tiles(rows, cols), chunks_d if needs_q else 1
        kernels.attend_backward_queries[(batch * math.prod(tiles) * chunks * heads,)](
            q, k, v, grad_out, grad_q, log_total, mean_grad, *tiles, *sizes, *numbers, **constants, chunks=chunks,
            block_e=cut.block_e, block_o=block_d, needs_q=needs_q, needs_k=needs_k,
        )  # fmt: skip
        if needs_k or needs_v:
            tiles, chunks = _tiles(*k.shape[2:4]), max(chunks_d if needs_k else 1, chunks_e if needs_v else 1)
            kernels.attend_backward_keys[(batch * math.prod(tiles) * chunks * v.shape[1],)](
                q, k, v, grad_out, grad_k, grad_v, log_total, mean_grad, *tiles, *sizes, *numbers, **constants,
                chunks=chunks, block_e=cut.block_e, block_o=block_d, block_p=block_e, needs_k=needs_k, needs_v=needs_v,
            )  # fmt: skip
    return tuple(
        grad.permute(0, 3, 1, 2, 4) if needed else None
        for grad, needed in zip((grad_q, grad_k, grad_v), needs, strict=True)
    )


class WindowTritonAttention(torch.autograd.Function):
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


def _tiles(rows: int, cols: int) -> tuple[int, int]:
    """Tiles along the rows and along the columns."""
    return math.ceil(rows / _TILE[0]), math.ceil(cols / _TILE[1])


def _sizes(neighborhood: Neighborhood) -> tuple[int, ...]:
    """What the kernels need to know of the windows: size, kernel, start and number of positions of both axes."""
    window = sliding_window(neighborhood)
    assert window is not None, "serves() says which neighborhoods are taken"
    fields = [(axis.size, axis.kernel, axis.start, axis.stop - axis.start) for axis in window]
    return tuple(size for pair in zip(*fields, strict=True) for size in pair)


def _cut(q: Tensor, v: Tensor, operand: Any, *, is_backward: bool = False) -> Cut:
    """What keeps a program in registers, by what the compiler reports for compute capability 9.0.

    Tensor cores take half precision 64 positions at a time. They do not take float32: there the operands of a product
    lie in registers whole, so steps are short where a result is wide.
    """
    dim, channels = q.shape[-1], v.shape[-1]
    if operand == tl.float32:
        return Cut(64 if channels <= 16 and not is_backward else 16, 16, 16, 128, 8)
    return Cut(
        block_n=64,
        block_d=_width(dim, (64, 32, 16)),
        block_e=_width(channels, (32, 16)),
        widest=256 if min(dim, channels) <= 64 else 128,
        warps=4 if channels <= 16 and not is_backward else 8,
    )


def _chunks(channels: int, cut: Cut) -> tuple[int, int]:
    """Channels of a result that one program makes, a power of two, and how many programs make all."""
    block = min(cut.widest, max(16, triton.next_power_of_2(channels)))
    return block, math.ceil(channels / block)


def _constants(q: Tensor, v: Tensor, operand: Any, cut: Cut) -> dict[str, Any]:
    return {
        "heads": q.shape[1],
        "dim": q.shape[-1],
        "channels": v.shape[-1],
        "is_shared": v.shape[1] != q.shape[1],
        "tile_h": _TILE[0],
        "tile_w": _TILE[1],
        "block_n": cut.block_n,
        "block_d": cut.block_d,
        "operand": operand,
        "num_warps": cut.warps,
        "num_stages": _stages(q.device),
        **LAUNCH,
    }


def _stages(device: torch.device) -> int:
    """Steps of a walk in shared memory at once.

    As the compiler reports, two take up to 169 KiB for compute capability 9.0 and 129 for 8.0; one takes 80 for 8.6.
    """
    if device.type != "cuda":
        return 1
    return 2 if torch.cuda.get_device_properties(device).shared_memory_per_block_optin >= _ROOM else 1


def _width(channels: int, widths: tuple[int, ...]) -> int:
    """The width of channel tiles that pads the least, of these the widest."""
    return min(widths, key=lambda width: (-channels % width, -width))


def _operand(*tensors: Tensor) -> Any:
    """What products multiply: half precision where all operands are of one, else float32, exactly."""
    return product_dtype(tensors[0]) if len({x.dtype for x in tensors}) == 1 else tl.float32


def _channels_last(x: Tensor) -> Tensor:
    """A map whose channels lie side by side: each is read many times, and the copy is small."""
    return x if x.stride(-1) == 1 else x.contiguous()
