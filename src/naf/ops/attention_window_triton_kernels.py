"""Triton kernels of :mod:`naf.ops.attention_window_triton`: one program is a tile of positions and one head.

Forward and for the gradient of the queries, a program has a tile of queries and walks the keys of their windows. For
the gradients of keys and values it has a tile of keys and walks the queries whose windows hold them, so each gradient
is summed by one program and in one order. Windows follow from positions: no tables. What is walked is a rectangle, cut
into blocks of `block_n` in row-major order; a position of it that is not in a window has a score of minus infinity.

Scores are in units of ln 2. Names: y, x are a position on the whole grid; `down`, `right` count from the tile's first
position, `slot` counts the positions of the rectangle; `at` is an offset in memory; m and n are the positions of the
tile and of a block.
"""

# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

# Sizes that a new image changes: kernels for a size of 1 or a multiple of 16 would be compiled for nothing.
_SIZES = [
    *("row_tiles", "col_tiles", "rows", "cols", "row_kernel", "col_kernel"),
    *("row_start", "col_start", "out_rows", "out_cols"),
]


@triton.jit
def _window(position, kernel, size):
    """First position of the window of a position."""
    return tl.maximum(tl.minimum(position - (kernel - 1) // 2, size - kernel), 0)


@triton.jit
def _first_query(position, kernel):
    """First position whose window holds this one: each window starts where the one before does or one further on."""
    return tl.where(position < kernel, 0, position - kernel // 2)


@triton.jit
def _last_query(position, kernel, size):
    """Last position whose window holds this one."""
    return tl.where(position >= size - kernel, size - 1, position + (kernel - 1) // 2)


@triton.jit
def _program(heads: tl.constexpr, chunks: tl.constexpr, row_tiles, col_tiles):
    """Head, chunk of channels, tile along rows and columns, and image of the program."""
    pid = tl.program_id(0)
    head, pid = (pid % heads).to(tl.int64), pid // heads
    chunk, pid = pid % chunks, pid // chunks
    col, pid = pid % col_tiles, pid // col_tiles
    return head, chunk, pid % row_tiles, col, (pid // row_tiles).to(tl.int64)


@triton.jit
def _tile(row, col, rows, cols, tile_h: tl.constexpr, tile_w: tl.constexpr):
    """Positions of a tile on a grid of rows x cols: its first, the others from there, and which exist.

    Those that do not exist are moved to the last that do, so that no window begins outside the walked rectangle.
    """
    top, left = row * tile_h, col * tile_w
    position = tl.arange(0, tile_h * tile_w)
    down, right = position // tile_w, position % tile_w
    inside = (top + down < rows) & (left + right < cols)
    return top, left, tl.minimum(down, rows - 1 - top), tl.minimum(right, cols - 1 - left), inside


@triton.jit
def _block(first, height, width, block_n: tl.constexpr):
    """Positions of a block within the walked rectangle, and which exist."""
    slot = first + tl.arange(0, block_n)
    return slot // width, slot % width, slot < height * width


@triton.jit
def _holds(y_start, x_start, y, x, row_kernel, col_kernel):
    """Whether windows that begin at y_start, x_start hold y, x; arguments broadcast against each other."""
    down, right = y - y_start, x - x_start
    return (down >= 0) & (down < row_kernel) & (right >= 0) & (right < col_kernel)


@triton.jit
def _channels(x, at, exists, first, stride, known: tl.constexpr, block: tl.constexpr, operand: tl.constexpr):
    """Channels first … first + block - 1 at some places, (places, block); 0 where there are none."""
    channel = first + tl.arange(0, block)
    mask = exists[:, None] & (channel < known)[None, :]
    return tl.load(x + at[:, None] + channel[None, :] * stride, mask=mask, other=0.0).to(operand)


@triton.jit
def _add_products(
    sums, x, x_at, x_exists, x_stride, y, y_at, y_exists, y_stride, first, known: tl.constexpr, block: tl.constexpr,
    operand: tl.constexpr,
):  # fmt: skip
    left = _channels(x, x_at, x_exists, first, x_stride, known, block, operand)
    right = _channels(y, y_at, y_exists, first, y_stride, known, block, operand)
    return tl.dot(left, tl.trans(right), sums, input_precision="ieee")


@triton.jit
def _products(
    x, x_at, x_exists, x_stride, y, y_at, y_exists, y_stride, known: tl.constexpr, block: tl.constexpr,
    unrolled: tl.constexpr, operand: tl.constexpr,
):  # fmt: skip
    """Inner products of the channels at m and at n places, (m, n), in at most so many unrolled steps or in a loop."""
    sums = tl.zeros((x_at.shape[0], y_at.shape[0]), tl.float32)
    # What an unrolled step loads of the tile the compiler keeps in shared memory during the walk: few channels only.
    if known <= unrolled * block:
        for first in tl.static_range(0, known, block):
            sums = _add_products(
                sums, x, x_at, x_exists, x_stride, y, y_at, y_exists, y_stride, first, known, block, operand
            )  # fmt: skip
    else:
        for first in range(0, known, block):
            sums = _add_products(
                sums, x, x_at, x_exists, x_stride, y, y_at, y_exists, y_stride, first, known, block, operand
            )  # fmt: skip
    return sums


@triton.jit
def _weighted(sums, weights, values, used, all_finite, operand: tl.constexpr):
    """Weighted sum of a block's values, added to `sums`."""
    # 0 * NaN is NaN: what is not finite is left out, and then given to the pixels whose window holds it.
    above = (values == float("inf")) | (values != values)
    below = (values == float("-inf")) | (values != values)
    sums = tl.dot(weights, tl.where(above | below, 0.0, values).to(operand), sums, input_precision="ieee")
    if tl.load(all_finite) == 0:
        counted = tl.where(used, 1.0, 0.0).to(operand)
        plus = tl.dot(counted, tl.where(above, 1.0, 0.0).to(operand), input_precision="ieee")
        minus = tl.dot(counted, tl.where(below, 1.0, 0.0).to(operand), input_precision="ieee")
        sums += tl.where(plus > 0, float("inf"), 0.0)
        sums += tl.where(minus > 0, float("-inf"), 0.0)
    return sums


@triton.jit(do_not_specialize=_SIZES)
def attend(
    q, k, v, out, all_finite, row_tiles, col_tiles, rows, cols, row_kernel, col_kernel, row_start, col_start, out_rows,
    out_cols, scale, q_b, q_n, q_y, q_x, q_d, k_b, k_n, k_y, k_x, k_d, v_b, v_n, v_y, v_x, v_d, heads: tl.constexpr,
    dim: tl.constexpr, channels: tl.constexpr, is_shared: tl.constexpr, chunks: tl.constexpr, tile_h: tl.constexpr,
    tile_w: tl.constexpr, block_n: tl.constexpr, block_d: tl.constexpr, block_e: tl.constexpr, operand: tl.constexpr,
):  # fmt: skip
    """Forward pass; `out` is (B, Ho, Wo, n, e), contiguous. A program makes one chunk of block_e channels.

    Where the heads share the values it goes through all heads and takes the mean of what each gives.
    """
    value_heads: tl.constexpr = 1 if is_shared else heads
    head, chunk, row, col, image = _program(value_heads, chunks, row_tiles, col_tiles)
    top, left, down, right, inside = _tile(row, col, out_rows, out_cols, tile_h, tile_w)
    # The keys of the tile, from the first of its first window to the last of its last; windows from there.
    y_first, x_first = _window(row_start + top, row_kernel, rows), _window(col_start + left, col_kernel, cols)
    y_start = _window(row_start + top + down, row_kernel, rows) - y_first
    x_start = _window(col_start + left + right, col_kernel, cols) - x_first
    height, width = tl.max(y_start, 0) + row_kernel, tl.max(x_start, 0) + col_kernel
    # Offsets to what a program starts from take 64 bits; from there on 32 do.
    q += image * q_b + head * q_n + top.to(tl.int64) * q_y + left.to(tl.int64) * q_x
    k += image * k_b + head * k_n + y_first.to(tl.int64) * k_y + x_first.to(tl.int64) * k_x
    v += image * v_b + head * v_n + y_first.to(tl.int64) * v_y + x_first.to(tl.int64) * v_x
    out += (((image * out_rows + top) * out_cols + left) * value_heads + head) * channels
    q_at = down * q_y + right * q_x
    result = tl.zeros((tile_h * tile_w, block_e), tl.float32)
    for _ in range(heads // value_heads):
        best = tl.full((tile_h * tile_w,), float("-inf"), tl.float32)
        total = tl.zeros((tile_h * tile_w,), tl.float32)
        sums = tl.zeros((tile_h * tile_w, block_e), tl.float32)
        for first in range(0, height * width, block_n):
            y, x, exists = _block(first, height, width, block_n)
            used = exists[None, :] & _holds(
                y_start[:, None], x_start[:, None], y[None, :], x[None, :], row_kernel, col_kernel
            )
            scores = _products(q, q_at, inside, q_d, k, y * k_y + x * k_x, exists, k_d, dim, block_d, 4, operand)
            scores = tl.where(used, scores * scale, float("-inf"))
            higher = tl.maximum(best, tl.max(scores, 1))
            shift = tl.where(higher > float("-inf"), higher, 0.0)  # no key so far
            fade = tl.exp2(best - shift)
            weights = tl.exp2(scores - shift[:, None]).to(operand)
            # The sum of the rounded weights: what is used then sums to one in any precision.
            total = total * fade + tl.sum(weights.to(tl.float32), 1)
            values = _channels(v, y * v_y + x * v_x, exists, chunk * block_e, v_d, channels, block_e, operand)
            sums = _weighted(sums * fade[:, None], weights, values, used, all_finite, operand)
            best = higher
        result += sums / total[:, None]
        q += q_n
        k += k_n
    channel = chunk * block_e + tl.arange(0, block_e)
    at = (down * out_cols + right) * value_heads * channels
    mask = inside[:, None] & (channel < channels)[None, :]
    tl.store(out + at[:, None] + channel[None, :], result / (heads // value_heads), mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def attend_backward_queries(
    q, k, v, grad_out, grad_q, log_total, mean_grad, row_tiles, col_tiles, rows, cols, row_kernel, col_kernel,
    row_start, col_start, out_rows, out_cols, scale, q_b, q_n, q_y, q_x, q_d, k_b, k_n, k_y, k_x, k_d, v_b, v_n, v_y,
    v_x, v_d, g_b, g_n, g_y, g_x, g_e, slope, heads: tl.constexpr, dim: tl.constexpr, channels: tl.constexpr,
    is_shared: tl.constexpr, chunks: tl.constexpr, tile_h: tl.constexpr, tile_w: tl.constexpr, block_n: tl.constexpr,
    block_d: tl.constexpr, block_e: tl.constexpr, block_o: tl.constexpr, operand: tl.constexpr, needs_q: tl.constexpr,
    needs_k: tl.constexpr,
):  # fmt: skip
    """Gradient of the queries, and what the gradients of keys and values need of each query.

    log_total and mean_grad are (B, n, Ho, Wo) float32: ln2 of the sum that the softmax divides by, and the mean of the
    gradients of the weights. grad_q is (B, Ho, Wo, n, d), contiguous; a program makes one chunk of block_o channels of
    it. `scale` is in units of ln 2, `slope` is not.
    """
    head, chunk, row, col, image = _program(heads, chunks, row_tiles, col_tiles)
    top, left, down, right, inside = _tile(row, col, out_rows, out_cols, tile_h, tile_w)
    y_first, x_first = _window(row_start + top, row_kernel, rows), _window(col_start + left, col_kernel, cols)
    y_start = _window(row_start + top + down, row_kernel, rows) - y_first
    x_start = _window(col_start + left + right, col_kernel, cols) - x_first
    height, width = tl.max(y_start, 0) + row_kernel, tl.max(x_start, 0) + col_kernel
    value_head = head * 0 if is_shared else head
    share: tl.constexpr = 1 / heads if is_shared else 1.0
    q += image * q_b + head * q_n + top.to(tl.int64) * q_y + left.to(tl.int64) * q_x
    k += image * k_b + head * k_n + y_first.to(tl.int64) * k_y + x_first.to(tl.int64) * k_x
    v += image * v_b + value_head * v_n + y_first.to(tl.int64) * v_y + x_first.to(tl.int64) * v_x
    grad_out += image * g_b + value_head * g_n + top.to(tl.int64) * g_y + left.to(tl.int64) * g_x
    q_at, g_at = down * q_y + right * q_x, down * g_y + right * g_x
    best = tl.full((tile_h * tile_w,), float("-inf"), tl.float32)
    total = tl.zeros((tile_h * tile_w,), tl.float32)
    mean = tl.zeros((tile_h * tile_w,), tl.float32)
    for first in range(0, height * width, block_n):
        y, x, exists = _block(first, height, width, block_n)
        used = exists[None, :] & _holds(
            y_start[:, None], x_start[:, None], y[None, :], x[None, :], row_kernel, col_kernel
        )
        scores = _products(q, q_at, inside, q_d, k, y * k_y + x * k_x, exists, k_d, dim, block_d, 4, operand)
        scores = tl.where(used, scores * scale, float("-inf"))
        higher = tl.maximum(best, tl.max(scores, 1))
        shift = tl.where(higher > float("-inf"), higher, 0.0)  # no key so far
        fade = tl.exp2(best - shift)
        weights = tl.exp2(scores - shift[:, None])
        total = total * fade + tl.sum(weights, 1)
        if needs_q or needs_k:
            grad = _products(
                grad_out, g_at, inside, g_e, v, y * v_y + x * v_x, exists, v_d, channels, block_e, 2, operand
            )  # fmt: skip
            # What is not in the window may not be finite.
            mean = mean * fade + tl.sum(weights * tl.where(used, grad * share, 0.0), 1)
        best = higher
    mean = mean / total
    level = best + tl.log2(total)
    if chunk == 0:
        at = ((image * heads + head) * out_rows + top) * out_cols + left + down * out_cols + right
        tl.store(log_total + at, level, mask=inside)
        tl.store(mean_grad + at, mean, mask=inside)
    if needs_q:
        sums = tl.zeros((tile_h * tile_w, block_o), tl.float32)
        for first in range(0, height * width, block_n):
            y, x, exists = _block(first, height, width, block_n)
            used = exists[None, :] & _holds(
                y_start[:, None], x_start[:, None], y[None, :], x[None, :], row_kernel, col_kernel
            )
            k_at = y * k_y + x * k_x
            scores = _products(q, q_at, inside, q_d, k, k_at, exists, k_d, dim, block_d, 4, operand)
            grad = _products(
                grad_out, g_at, inside, g_e, v, y * v_y + x * v_x, exists, v_d, channels, block_e, 2, operand
            )  # fmt: skip
            slopes = tl.exp2(scores * scale - level[:, None]) * (grad * share - mean[:, None]) * slope
            slopes = tl.where(used, slopes, 0.0).to(operand)
            keys = _channels(k, k_at, exists, chunk * block_o, k_d, dim, block_o, operand)
            sums = tl.dot(slopes, keys, sums, input_precision="ieee")
        grad_q += (((image * out_rows + top) * out_cols + left) * heads + head) * dim
        channel = chunk * block_o + tl.arange(0, block_o)
        at = ((down * out_cols + right) * heads * dim)[:, None] + channel[None, :]
        tl.store(grad_q + at, sums, mask=inside[:, None] & (channel < dim)[None, :])


@triton.jit(do_not_specialize=_SIZES)
def attend_backward_keys(
    q, k, v, grad_out, grad_k, grad_v, log_total, mean_grad, row_tiles, col_tiles, rows, cols, row_kernel, col_kernel,
    row_start, col_start, out_rows, out_cols, scale, q_b, q_n, q_y, q_x, q_d, k_b, k_n, k_y, k_x, k_d, v_b, v_n, v_y,
    v_x, v_d, g_b, g_n, g_y, g_x, g_e, slope, heads: tl.constexpr, dim: tl.constexpr, channels: tl.constexpr,
    is_shared: tl.constexpr, chunks: tl.constexpr, tile_h: tl.constexpr, tile_w: tl.constexpr, block_n: tl.constexpr,
    block_d: tl.constexpr, block_e: tl.constexpr, block_o: tl.constexpr, block_p: tl.constexpr, operand: tl.constexpr,
    needs_k: tl.constexpr, needs_v: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values, from what :func:`attend_backward_queries` says of each query.

    grad_k is (B, h, w, n, d) and grad_v (B, h, w, n, e), contiguous; a program makes one chunk of each, block_o and
    block_p channels. Where the heads share the values it goes through all heads.
    """
    value_heads: tl.constexpr = 1 if is_shared else heads
    share: tl.constexpr = 1 / heads if is_shared else 1.0
    head, chunk, row, col, image = _program(value_heads, chunks, row_tiles, col_tiles)
    top, left, down, right, inside = _tile(row, col, rows, cols, tile_h, tile_w)
    # The queries of the tile: those of its first to those of its last position, within the band.
    y_first = tl.maximum(_first_query(top, row_kernel) - row_start, 0)
    x_first = tl.maximum(_first_query(left, col_kernel) - col_start, 0)
    y_last = tl.minimum(_last_query(tl.minimum(top + tile_h, rows) - 1, row_kernel, rows) - row_start, out_rows - 1)
    x_last = tl.minimum(_last_query(tl.minimum(left + tile_w, cols) - 1, col_kernel, cols) - col_start, out_cols - 1)
    height, width = tl.maximum(y_last - y_first + 1, 0), tl.maximum(x_last - x_first + 1, 0)
    q += image * q_b + head * q_n + y_first.to(tl.int64) * q_y + x_first.to(tl.int64) * q_x
    k += image * k_b + head * k_n + top.to(tl.int64) * k_y + left.to(tl.int64) * k_x
    v += image * v_b + head * v_n + top.to(tl.int64) * v_y + left.to(tl.int64) * v_x
    grad_out += image * g_b + head * g_n + y_first.to(tl.int64) * g_y + x_first.to(tl.int64) * g_x
    log_total += ((image * heads + head) * out_rows + y_first) * out_cols + x_first
    mean_grad += ((image * heads + head) * out_rows + y_first) * out_cols + x_first
    place = (image * rows + top) * cols + left
    grad_k += (place * heads + head) * dim
    grad_v += (place * value_heads + head) * channels
    k_at, v_at, place_at = down * k_y + right * k_x, down * v_y + right * v_x, down * cols + right
    sums_v = tl.zeros((tile_h * tile_w, block_p), tl.float32)
    for _ in range(heads // value_heads):
        sums_k = tl.zeros((tile_h * tile_w, block_o), tl.float32)
        for first in range(0, height * width, block_n):
            y, x, exists = _block(first, height, width, block_n)
            y_start = _window(row_start + y_first + y, row_kernel, rows)
            x_start = _window(col_start + x_first + x, col_kernel, cols)
            used = exists[None, :] & _holds(
                y_start[None, :], x_start[None, :], (top + down)[:, None], (left + right)[:, None], row_kernel,
                col_kernel,
            )  # fmt: skip
            q_at, g_at, at = y * q_y + x * q_x, y * g_y + x * g_x, y * out_cols + x
            scores = _products(k, k_at, inside, k_d, q, q_at, exists, q_d, dim, block_d, 4, operand)
            level = tl.load(log_total + at, mask=exists, other=0.0)
            weights = tl.exp2(tl.where(used, scores * scale - level[None, :], float("-inf")))
            if needs_v:
                outer = _channels(grad_out, g_at, exists, chunk * block_p, g_e, channels, block_p, operand)
                sums_v = tl.dot((weights * share).to(operand), outer, sums_v, input_precision="ieee")
            if needs_k:
                grad = _products(v, v_at, inside, v_d, grad_out, g_at, exists, g_e, channels, block_e, 2, operand)
                mean = tl.load(mean_grad + at, mask=exists, other=0.0)
                slopes = tl.where(used, weights * (grad * share - mean[None, :]) * slope, 0.0).to(operand)
                queries = _channels(q, q_at, exists, chunk * block_o, q_d, dim, block_o, operand)
                sums_k = tl.dot(slopes, queries, sums_k, input_precision="ieee")
        if needs_k:
            channel = chunk * block_o + tl.arange(0, block_o)
            mask = inside[:, None] & (channel < dim)[None, :]
            tl.store(grad_k + (place_at * heads * dim)[:, None] + channel[None, :], sums_k, mask=mask)
        q += q_n
        k += k_n
        log_total += out_rows * out_cols
        mean_grad += out_rows * out_cols
        grad_k += dim
    if needs_v:
        channel = chunk * block_p + tl.arange(0, block_p)
        mask = inside[:, None] & (channel < channels)[None, :]
        tl.store(grad_v + (place_at * value_heads * channels)[:, None] + channel[None, :], sums_v, mask=mask)
