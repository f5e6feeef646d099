"""Triton kernels of :mod:`naf.ops.attention_triton`: one program is a block of a tile's pixels and one head.

A tile's cells are few, so their weights stay in registers while the values pass by in tiles of channels. Where a tile
holds more cells than one block, the cells are walked over again instead, and nothing is kept. Scores are in units of
ln 2. Names: y, x are a pixel's place in the output, `slot` counts the cells of a tile, `at` is an offset in memory.
"""

# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

# Sizes that a new image changes: kernels for a size of 1 or a multiple of 16 would be compiled for nothing.
_SIZES = [
    *("row_tiles", "col_tiles", "chunks", "height", "width", "row_slots", "col_slots"),
    *("out_rows", "out_cols", "in_rows", "in_cols"),
]


@triton.jit
def _pixels(pid, row_bounds, col_bounds, row_tiles, col_tiles, chunks, width, block_m: tl.constexpr):
    """The program's image and tile, the tile's first pixel, the program's pixels from there, and which exist."""
    chunk, pid = pid % chunks, pid // chunks
    col, pid = pid % col_tiles, pid // col_tiles
    row, image = pid % row_tiles, (pid // row_tiles).to(tl.int64)
    top, left = tl.load(row_bounds + row).to(tl.int64), tl.load(col_bounds + col).to(tl.int64)
    pixel = chunk * block_m + tl.arange(0, block_m)
    down, right = pixel // width, pixel % width
    inside = (top + down < tl.load(row_bounds + row + 1)) & (left + right < tl.load(col_bounds + col + 1))
    return image, row, col, top, left, down, right, inside


@triton.jit
def _cells(
    first, row, col, down, right, row_keys, row_count, col_keys, col_count, height, width, row_slots, col_slots,
    has_row_count: tl.constexpr, has_col_count: tl.constexpr, block_n: tl.constexpr,
):  # fmt: skip
    """A block of the tile's cells: coarse rows and columns, which there are, and ln2 of how often each pixel uses each.

    The last is minus infinity where a pixel does not use a cell.
    """
    slot = first + tl.arange(0, block_n)
    valid = slot < row_slots * col_slots
    row_slot, col_slot = slot // col_slots, slot % col_slots
    y = tl.load(row_keys + row * row_slots + row_slot, mask=valid, other=0)
    x = tl.load(col_keys + col * col_slots + col_slot, mask=valid, other=0)
    here = (down < height)[:, None] & valid[None, :]
    bias = tl.where((down >= 0)[:, None] & valid[None, :], 0.0, float("-inf"))
    if has_row_count:
        at = (row * height + down)[:, None] * row_slots + row_slot[None, :]
        bias += tl.load(row_count + at, mask=here, other=0.0)
    if has_col_count:
        at = (col * width + right)[:, None] * col_slots + col_slot[None, :]
        bias += tl.load(col_count + at, mask=here, other=0.0)
    return y, x, valid, bias


@triton.jit
def _scores(
    q, k, q_at, k_at, inside, valid, bias, q_stride, k_stride, scale, dim: tl.constexpr, block_d: tl.constexpr,
    operand: tl.constexpr,
):  # fmt: skip
    """Scaled scores with their bias, (pixels, cells)."""
    scores = tl.zeros(bias.shape, tl.float32)
    for first in tl.static_range(0, dim, block_d):
        channel = first + tl.arange(0, block_d)
        known = channel < dim
        queries = tl.load(
            q + q_at[:, None] + channel[None, :] * q_stride, mask=inside[:, None] & known[None, :], other=0.0
        )
        keys = tl.load(k + k_at[None, :] + channel[:, None] * k_stride, mask=valid[None, :] & known[:, None], other=0.0)
        scores = tl.dot(queries.to(operand), keys.to(operand), scores, input_precision="ieee")
    return tl.where(bias > float("-inf"), scores * scale + bias, float("-inf"))


@triton.jit
def _weighted(
    out, weights, v, v_at, channel, valid, bias, all_finite, v_stride, channels, is_masked: tl.constexpr,
    operand: tl.constexpr,
):  # fmt: skip
    """Weighted sum of one tile of channels, added to `out`."""
    known = valid[:, None] & (channel < channels)[None, :]
    values = tl.load(v + v_at[:, None] + channel[None, :] * v_stride, mask=known, other=0.0).to(operand)
    if is_masked:
        # 0 * NaN is NaN: what is not finite is left out, and then given to the pixels that use its cell.
        above = (values == float("inf")) | (values != values)
        below = (values == float("-inf")) | (values != values)
        out = tl.dot(weights, tl.where(above | below, 0.0, values).to(operand), out, input_precision="ieee")
        if tl.load(all_finite) == 0:
            used = tl.where(bias > float("-inf"), 1.0, 0.0).to(operand)
            plus = tl.dot(used, tl.where(above, 1.0, 0.0).to(operand), input_precision="ieee")
            minus = tl.dot(used, tl.where(below, 1.0, 0.0).to(operand), input_precision="ieee")
            out += tl.where(plus > 0, float("inf"), 0.0)
            out += tl.where(minus > 0, float("-inf"), 0.0)
    else:
        out = tl.dot(weights, values, out, input_precision="ieee")
    return out


@triton.jit(do_not_specialize=_SIZES)
def attend(
    q, k, v, out, all_finite, row_bounds, row_keys, row_count, col_bounds, col_keys, col_count, row_tiles,
    col_tiles, chunks, height, width, row_slots, col_slots, out_rows, out_cols, scale, q_b, q_n, q_y, q_x, q_d, k_b,
    k_n, k_y, k_x, k_d, v_b, v_n, v_y, v_x, v_d, heads: tl.constexpr, dim: tl.constexpr, channels: tl.constexpr,
    is_shared: tl.constexpr, has_row_count: tl.constexpr, has_col_count: tl.constexpr, blocks: tl.constexpr,
    block_m: tl.constexpr, block_n: tl.constexpr, block_d: tl.constexpr, block_e: tl.constexpr,
    operand: tl.constexpr,
):  # fmt: skip
    """Forward pass; `out` is (B, Ho, Wo, n, e), contiguous. Values that the heads share need blocks = 1."""
    value_heads = 1 if is_shared else heads
    pid = tl.program_id(0)
    head, pid = (pid % value_heads).to(tl.int64), pid // value_heads
    image, row, col, top, left, down, right, inside = _pixels(
        pid, row_bounds, col_bounds, row_tiles, col_tiles, chunks, width, block_m
    )
    # Offsets to what a program starts from take 64 bits; from there on 32 do.
    q += image * q_b + head * q_n + top * q_y + left * q_x
    k += image * k_b + head * k_n
    v += image * v_b + head * v_n
    out += (((image * out_rows + top) * out_cols + left) * value_heads + head) * channels
    q_at, out_at = down * q_y + right * q_x, (down * out_cols + right) * value_heads * channels
    is_masked: tl.constexpr = has_row_count or has_col_count
    if blocks == 1:
        ky, kx, valid, bias = _cells(
            0, row, col, down, right, row_keys, row_count, col_keys, col_count, height, width,
            row_slots, col_slots, has_row_count, has_col_count, block_n,
        )  # fmt: skip
        k_at, v_at = ky * k_y + kx * k_x, ky * v_y + kx * v_x
        if is_shared:
            mean = tl.zeros((block_m, block_n), tl.float32)
            for _ in range(heads):
                scores = _scores(
                    q, k, q_at, k_at, inside, valid, bias, q_d, k_d, scale, dim, block_d, operand
                )  # fmt: skip
                each = tl.exp2(scores - tl.max(scores, 1)[:, None])
                mean += each / tl.sum(each, 1)[:, None]
                q += q_n
                k += k_n
            weights = mean.to(operand)
        else:
            scores = _scores(
                q, k, q_at, k_at, inside, valid, bias, q_d, k_d, scale, dim, block_d, operand
            )  # fmt: skip
            weights = tl.exp2(scores - tl.max(scores, 1)[:, None]).to(operand)
        # The sum of the rounded weights: what is used then sums to one in any precision.
        total = tl.sum(weights.to(tl.float32), 1)
        for first in range(0, channels, block_e):
            channel = first + tl.arange(0, block_e)
            sums = tl.zeros((block_m, block_e), tl.float32)
            sums = _weighted(
                sums, weights, v, v_at, channel, valid, bias, all_finite, v_d, channels, is_masked, operand
            )  # fmt: skip
            mask = inside[:, None] & (channel < channels)[None, :]
            tl.store(out + out_at[:, None] + channel[None, :], sums / total[:, None], mask=mask)
    else:
        best = tl.full((block_m,), float("-inf"), tl.float32)
        for block in range(blocks):
            ky, kx, valid, bias = _cells(
                block * block_n, row, col, down, right, row_keys, row_count, col_keys, col_count, height, width,
                row_slots, col_slots, has_row_count, has_col_count, block_n,
            )  # fmt: skip
            scores = _scores(
                q, k, q_at, ky * k_y + kx * k_x, inside, valid, bias, q_d, k_d, scale, dim, block_d, operand
            )  # fmt: skip
            best = tl.maximum(best, tl.max(scores, 1))
        for first in range(0, channels, block_e):
            channel = first + tl.arange(0, block_e)
            sums = tl.zeros((block_m, block_e), tl.float32)
            total = tl.zeros((block_m,), tl.float32)
            for block in range(blocks):
                ky, kx, valid, bias = _cells(
                    block * block_n, row, col, down, right, row_keys, row_count, col_keys, col_count, height, width,
                    row_slots, col_slots, has_row_count, has_col_count, block_n,
                )  # fmt: skip
                scores = _scores(
                    q, k, q_at, ky * k_y + kx * k_x, inside, valid, bias, q_d, k_d, scale, dim, block_d, operand
                )  # fmt: skip
                weights = tl.exp2(scores - best[:, None]).to(operand)
                total += tl.sum(weights.to(tl.float32), 1)
                here = ky * v_y + kx * v_x
                sums = _weighted(
                    sums, weights, v, here, channel, valid, bias, all_finite, v_d, channels, is_masked, operand
                )  # fmt: skip
            mask = inside[:, None] & (channel < channels)[None, :]
            tl.store(out + out_at[:, None] + channel[None, :], sums / total[:, None], mask=mask)


@triton.jit
def _weight_gradients(
    grad_out, v, grad_at, v_at, inside, valid, bias, grad_stride, v_stride, share, channels, block_e: tl.constexpr,
    operand: tl.constexpr,
):  # fmt: skip
    """Gradient of the weights, (pixels, cells), 0 where a pixel does not use a cell: its value may not be finite."""
    grad = tl.zeros(bias.shape, tl.float32)
    for first in range(0, channels, block_e):
        channel = first + tl.arange(0, block_e)
        known = channel < channels
        outer = tl.load(
            grad_out + grad_at[:, None] + channel[None, :] * grad_stride,
            mask=inside[:, None] & known[None, :],
            other=0.0,
        )
        values = tl.load(
            v + v_at[None, :] + channel[:, None] * v_stride, mask=valid[None, :] & known[:, None], other=0.0
        )
        grad = tl.dot(outer.to(operand), values.to(operand), grad, input_precision="ieee")
    return tl.where((bias > float("-inf")) & inside[:, None], grad * share, 0.0)


@triton.jit(do_not_specialize=_SIZES)
def attend_backward(
    q, k, v, grad_out, grad_q, grad_k, grad_v, row_bounds, row_keys, row_count, col_bounds, col_keys, col_count,
    row_tiles, col_tiles, chunks, height, width, row_slots, col_slots, out_rows, out_cols, scale, q_b, q_n, q_y,
    q_x, q_d, k_b, k_n, k_y, k_x, k_d, v_b, v_n, v_y, v_x, v_d, g_b, g_n, g_y, g_x, g_e, in_rows, in_cols, slope,
    share, heads: tl.constexpr, dim: tl.constexpr, channels: tl.constexpr, is_shared: tl.constexpr,
    has_row_count: tl.constexpr, has_col_count: tl.constexpr, blocks: tl.constexpr, block_m: tl.constexpr,
    block_n: tl.constexpr, block_d: tl.constexpr, block_e: tl.constexpr, operand: tl.constexpr,
    needs_q: tl.constexpr, needs_k: tl.constexpr, needs_v: tl.constexpr,
):  # fmt: skip
    """Gradients, from weights made anew: a pixel's own are written, those of cells added up in float32.

    grad_q is (B, Ho, Wo, n, d), float32 zeros where blocks > 1; grad_k (B, h, w, n, d) and grad_v (B, h, w, n, e) are
    float32 zeros; `scale` is in units of ln 2, `slope` is not; `share` is a
    head's in the weight of shared values. What is not needed may be anything.
    """
    pid = tl.program_id(0)
    head, pid = (pid % heads).to(tl.int64), pid // heads
    image, row, col, top, left, down, right, inside = _pixels(
        pid, row_bounds, col_bounds, row_tiles, col_tiles, chunks, width, block_m
    )
    value_heads = 1 if is_shared else heads
    value_head = 0 if is_shared else head
    q += image * q_b + head * q_n + top * q_y + left * q_x
    k += image * k_b + head * k_n
    v += image * v_b + value_head * v_n
    grad_out += image * g_b + value_head * g_n + top * g_y + left * g_x
    grad_q += (((image * out_rows + top) * out_cols + left) * heads + head) * dim
    grad_k += (image * in_rows * in_cols * heads + head) * dim
    grad_v += (image * in_rows * in_cols * value_heads + value_head) * channels
    q_at, grad_at = down * q_y + right * q_x, down * g_y + right * g_x
    best = tl.full((block_m,), float("-inf"), tl.float32)
    total = tl.zeros((block_m,), tl.float32)
    mean = tl.zeros((block_m,), tl.float32)
    if blocks > 1:
        for block in range(blocks):
            ky, kx, valid, bias = _cells(
                block * block_n, row, col, down, right, row_keys, row_count, col_keys, col_count, height, width,
                row_slots, col_slots, has_row_count, has_col_count, block_n,
            )  # fmt: skip
            scores = _scores(
                q, k, q_at, ky * k_y + kx * k_x, inside, valid, bias, q_d, k_d, scale, dim, block_d, operand
            )  # fmt: skip
            grad = _weight_gradients(
                grad_out, v, grad_at, ky * v_y + kx * v_x, inside, valid, bias, g_e, v_d, share, channels,
                block_e, operand,
            )  # fmt: skip
            higher = tl.maximum(best, tl.max(scores, 1))
            shift = tl.where(higher > float("-inf"), higher, 0.0)  # no cell so far
            fade = tl.exp2(best - shift)
            weights = tl.exp2(scores - shift[:, None])
            total = total * fade + tl.sum(weights, 1)
            mean = mean * fade + tl.sum(weights * grad, 1)
            best = higher
        mean = mean / total
    for block in range(blocks):
        ky, kx, valid, bias = _cells(
            block * block_n, row, col, down, right, row_keys, row_count, col_keys, col_count, height, width,
            row_slots, col_slots, has_row_count, has_col_count, block_n,
        )  # fmt: skip
        here_k, here_v = ky * k_y + kx * k_x, ky * v_y + kx * v_x
        scores = _scores(
            q, k, q_at, here_k, inside, valid, bias, q_d, k_d, scale, dim, block_d, operand
        )  # fmt: skip
        grad = _weight_gradients(
            grad_out, v, grad_at, here_v, inside, valid, bias, g_e, v_d, share, channels, block_e, operand
        )  # fmt: skip
        if blocks == 1:
            best = tl.max(scores, 1)
            weights = tl.exp2(scores - best[:, None])
            total = tl.sum(weights, 1)
            mean = tl.sum(weights * grad, 1) / total
        weights = tl.exp2(scores - best[:, None]) / total[:, None]
        cell = ky * in_cols + kx
        if needs_v:
            parts = tl.trans((weights * share).to(operand))
            sum_at = cell * value_heads * channels
            for first in range(0, channels, block_e):
                channel = first + tl.arange(0, block_e)
                known = (channel < channels)[None, :]
                outer = tl.load(
                    grad_out + grad_at[:, None] + channel[None, :] * g_e, mask=inside[:, None] & known, other=0.0
                )
                sums = tl.dot(parts, outer.to(operand), input_precision="ieee")
                at = grad_v + sum_at[:, None] + channel[None, :]
                tl.atomic_add(at, sums, mask=valid[:, None] & known, sem="relaxed")
        if needs_q or needs_k:
            slopes = weights * (grad - mean[:, None]) * slope
            slopes = tl.where(bias > float("-inf"), slopes, 0.0).to(operand)
            for first in tl.static_range(0, dim, block_d):
                channel = first + tl.arange(0, block_d)
                known = (channel < dim)[None, :]
                if needs_q:
                    keys = tl.load(k + here_k[:, None] + channel[None, :] * k_d, mask=valid[:, None] & known, other=0.0)
                    sums = tl.dot(slopes, keys.to(operand), input_precision="ieee")
                    at = grad_q + ((down * out_cols + right) * heads * dim)[:, None] + channel[None, :]
                    if blocks == 1:
                        tl.store(at, sums, mask=inside[:, None] & known)
                    else:
                        tl.atomic_add(at, sums, mask=inside[:, None] & known, sem="relaxed")
                if needs_k:
                    queries = tl.load(
                        q + q_at[:, None] + channel[None, :] * q_d, mask=inside[:, None] & known, other=0.0
                    )
                    sums = tl.dot(tl.trans(slopes), queries.to(operand), input_precision="ieee")
                    at = grad_k + (cell * heads * dim)[:, None] + channel[None, :]
                    tl.atomic_add(at, sums, mask=valid[:, None] & known, sem="relaxed")
