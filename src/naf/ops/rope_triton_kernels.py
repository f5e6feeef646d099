"""Triton kernels of :mod:`naf.ops.rope_triton`: one program is a block of pixels and one head.

Names: j counts the channel pairs of a head, `split` is the number of channels of the first map, `dim` that of all.
With `interleave` the channels of two maps alternate. The columns' periods lie `apart` elements behind the rows', which
is 0 where they are the same.
"""

# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

# Sizes that a new image changes: kernels for a size of 1 or a multiple of 16 would be compiled for nothing.
_SIZES = ["height", "width", "cell_height", "cell_width"]


@triton.jit
def _angle(index, size, period):
    return tl.div_rn(6.283185307179586 * (2.0 * tl.div_rn(index + 0.5, size * 1.0) - 1.0), period)


@triton.jit
def _load_half(
    map0,
    map1,
    pixel,
    inside,
    start,
    split: tl.constexpr,
    dim: tl.constexpr,
    interleave: tl.constexpr,
    half: tl.constexpr,
    block: tl.constexpr,
):
    """`half` channels from `start` on of the pixels that are `inside`, (pixels, block); they may lie in either map."""
    if interleave:
        k = tl.arange(0, block // 2)
        mask = inside[:, None] & (k < half // 2)[None, :]
        place = pixel[:, None] * split + start // 2 + k[None, :]
        first = tl.load(map0 + place, mask=mask, other=0.0).to(tl.float32)
        values = tl.interleave(first, tl.load(map1 + place, mask=mask, other=0.0).to(tl.float32))
    else:
        j = tl.arange(0, block)
        mask, channel = inside[:, None] & (j < half)[None, :], start + j
        if split == dim:
            values = tl.load(map0 + pixel[:, None] * dim + channel[None, :], mask=mask, other=0.0)
        else:
            low, rest = channel[None, :] < split, channel - split
            values = tl.load(map0 + pixel[:, None] * split + channel[None, :], mask=mask & low, other=0.0)
            values += tl.load(map1 + pixel[:, None] * (dim - split) + rest[None, :], mask=mask & (low == 0), other=0.0)
    return values.to(tl.float32)


@triton.jit
def _store_half(
    map0,
    map1,
    pixel,
    inside,
    start,
    values,
    split: tl.constexpr,
    dim: tl.constexpr,
    interleave: tl.constexpr,
    half: tl.constexpr,
    block: tl.constexpr,
):
    if interleave:
        k = tl.arange(0, block // 2)
        mask = inside[:, None] & (k < half // 2)[None, :]
        place = pixel[:, None] * split + start // 2 + k[None, :]
        first, second = tl.split(tl.reshape(values, (values.shape[0], block // 2, 2)))
        tl.store(map0 + place, first, mask=mask)
        tl.store(map1 + place, second, mask=mask)
    else:
        j = tl.arange(0, block)
        mask, channel = inside[:, None] & (j < half)[None, :], start + j
        if split == dim:
            tl.store(map0 + pixel[:, None] * dim + channel[None, :], values, mask=mask)
        else:
            low, rest = channel[None, :] < split, channel - split
            tl.store(map0 + pixel[:, None] * split + channel[None, :], values, mask=mask & low)
            tl.store(map1 + pixel[:, None] * (dim - split) + rest[None, :], values, mask=mask & (low == 0))


@triton.jit(do_not_specialize=_SIZES)
def rotate(
    map0,
    map1,
    periods,
    queries,
    keys,
    height,
    width,
    cell_height,
    cell_width,
    split: tl.constexpr,
    dim: tl.constexpr,
    heads: tl.constexpr,
    interleave: tl.constexpr,
    quarter: tl.constexpr,
    apart: tl.constexpr,
    block: tl.constexpr,
    cells: tl.constexpr,
    span: tl.constexpr,
):
    """`cells` cells beside each other, one head of them; `span` columns of each at a time."""
    sample, head = (tl.program_id(2) // heads).to(tl.int64), tl.program_id(2) % heads
    across, down = tl.program_id(0) * cells, tl.program_id(1)
    j, lane = tl.arange(0, block), tl.arange(0, cells * span)
    half: tl.constexpr = 2 * quarter
    base = head * 2 * half
    channel, known, by_row = base + j, j < half, (j < quarter)[None, :]
    period = tl.load(periods + j % quarter + j // quarter * apart, mask=known, other=1.0)
    first_sum = tl.zeros((cells * span, block), tl.float32)
    second_sum = tl.zeros((cells * span, block), tl.float32)
    for start in range(0, cell_width, span):
        place = start + lane % span
        col = (across + lane // span) * cell_width + place
        angle = _angle(col[:, None], width, period[None, :])
        col_cos, col_sin = tl.cos(angle), tl.sin(angle)
        for row in range(down * cell_height, tl.minimum((down + 1) * cell_height, height)):
            row_angle = _angle(row, height, period)
            cos = tl.where(by_row, tl.cos(row_angle)[None, :], col_cos)
            sin = tl.where(by_row, tl.sin(row_angle)[None, :], col_sin)
            inside = (place < cell_width) & (col < width)
            mask = inside[:, None] & known[None, :]
            pixel = (sample * height + row) * width + col
            first = _load_half(map0, map1, pixel, inside, base, split, dim, interleave, half, block)
            second = _load_half(map0, map1, pixel, inside, base + half, split, dim, interleave, half, block)
            first, second = first * cos - second * sin, second * cos + first * sin
            address = queries + pixel[:, None] * dim + channel[None, :]
            tl.store(address, first, mask=mask)
            tl.store(address + half, second, mask=mask)
            if keys is not None:
                first_sum += first  # 0 where there is no pixel
                second_sum += second
    if keys is not None:
        columns, area = width // cell_width, cell_height * cell_width
        cell = across + tl.arange(0, cells)
        place = (sample * (height // cell_height) + down) * columns + cell
        mask = (cell < columns)[:, None] & known[None, :]
        address = keys + place[:, None] * dim + channel[None, :]
        tl.store(address, tl.sum(tl.reshape(first_sum, (cells, span, block)), 1) / area, mask=mask)
        tl.store(address + half, tl.sum(tl.reshape(second_sum, (cells, span, block)), 1) / area, mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def rotate_back(
    grad_queries,
    grad_keys,
    periods,
    map0,
    map1,
    height,
    width,
    cell_height,
    cell_width,
    split: tl.constexpr,
    dim: tl.constexpr,
    heads: tl.constexpr,
    interleave: tl.constexpr,
    quarter: tl.constexpr,
    apart: tl.constexpr,
    block: tl.constexpr,
    rows: tl.constexpr,
    span: tl.constexpr,
):
    """A tile of `rows` x `span` pixels, one head of them."""
    sample, head = (tl.program_id(2) // heads).to(tl.int64), tl.program_id(2) % heads
    j, col = tl.arange(0, block), tl.program_id(0) * span + tl.arange(0, span)
    half: tl.constexpr = 2 * quarter
    base = head * 2 * half
    channel, known, by_row = base + j, j < half, (j < quarter)[None, :]
    inside = col < width
    mask = inside[:, None] & known[None, :]
    period = tl.load(periods + j % quarter + j // quarter * apart, mask=known, other=1.0)
    angle = _angle(col[:, None], width, period[None, :])
    col_cos, col_sin = tl.cos(angle), tl.sin(angle)
    for row in range(tl.program_id(1) * rows, tl.minimum(tl.program_id(1) * rows + rows, height)):
        row_angle = _angle(row, height, period)
        cos = tl.where(by_row, tl.cos(row_angle)[None, :], col_cos)
        sin = tl.where(by_row, tl.sin(row_angle)[None, :], col_sin)
        pixel = (sample * height + row) * width + col
        address = grad_queries + pixel[:, None] * dim + channel[None, :]
        first = tl.load(address, mask=mask, other=0.0).to(tl.float32)
        second = tl.load(address + half, mask=mask, other=0.0).to(tl.float32)
        if grad_keys is not None:
            cell = (sample * (height // cell_height) + row // cell_height) * (width // cell_width) + col // cell_width
            address = grad_keys + cell[:, None] * dim + channel[None, :]
            share = 1.0 / (cell_height * cell_width)
            first += tl.load(address, mask=mask, other=0.0).to(tl.float32) * share
            second += tl.load(address + half, mask=mask, other=0.0).to(tl.float32) * share
        first, second = first * cos + second * sin, second * cos - first * sin
        _store_half(map0, map1, pixel, inside, base, first, split, dim, interleave, half, block)
        _store_half(map0, map1, pixel, inside, base + half, second, split, dim, interleave, half, block)
