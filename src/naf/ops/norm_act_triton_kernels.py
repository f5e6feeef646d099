"""Triton kernels of :mod:`naf.ops.norm_act_triton`: one program is a tile of an image's pixels, all their channels.

Names: c counts channels, g groups; `inside` says which of a tile's places are pixels and channels of the map.
"""

# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

# Sizes that a new image changes: kernels for a size of 1 or a multiple of 16 would be compiled for nothing.
_SIZES = ["pixels", "tiles", "height", "width"]


@triton.jit
def _store_moments(
    values,
    inside,
    count,
    out,
    tiles,
    channels: tl.constexpr,
    groups: tl.constexpr,
    block_c: tl.constexpr,
    block_g: tl.constexpr,
):
    c, g = tl.arange(0, block_c), tl.arange(0, block_g)
    size: tl.constexpr = channels // groups
    member = (c[None, :] // size == g[:, None]) & (c < channels)[None, :]  # (groups, channels)
    mean = tl.sum(tl.where(member, tl.sum(values, 0)[None, :], 0.0), 1) / (count * size)
    centre = tl.sum(tl.where(member, mean[:, None], 0.0), 0)
    centred = tl.where(inside, values - centre[None, :], 0.0)
    square = tl.sum(tl.where(member, tl.sum(centred * centred, 0)[None, :], 0.0), 1)
    tl.store(out + g * tiles, mean, mask=g < groups)
    tl.store(out + (groups + g) * tiles, square, mask=g < groups)


@triton.jit(do_not_specialize=_SIZES)
def moments(
    x,
    out,
    pixels,
    tiles,
    tile: tl.constexpr,
    channels: tl.constexpr,
    groups: tl.constexpr,
    block_c: tl.constexpr,
    block_g: tl.constexpr,
):
    """Mean of each group and sum of squares about it, for each tile of pixels."""
    index, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pixel, c = index * tile + tl.arange(0, tile), tl.arange(0, block_c)
    inside = (pixel < pixels)[:, None] & (c < channels)[None, :]
    values = tl.load(x + (sample * pixels + pixel)[:, None] * channels + c[None, :], mask=inside, other=0.0)
    count = tl.minimum(pixels - index * tile, tile)
    target = out + sample * 2 * groups * tiles + index
    _store_moments(values.to(tl.float32), inside, count, target, tiles, channels, groups, block_c, block_g)


@triton.jit(do_not_specialize=_SIZES)
def statistics(
    moments, out, pixels, tiles, eps, tile: tl.constexpr, groups: tl.constexpr, size: tl.constexpr, block: tl.constexpr
):
    """Mean and reciprocal deviation of one group of one image, from those of its tiles."""
    group, sample = tl.program_id(0), tl.program_id(1)
    means = moments + (sample * 2 * groups + group) * tiles
    squares = means + groups * tiles
    pivot = tl.load(means)
    total = tl.zeros((block,), tl.float32)
    for start in range(0, tiles, block):
        index = start + tl.arange(0, block)
        count = tl.minimum(pixels - index * tile, tile).to(tl.float32)
        total += tl.where(index < tiles, count * (tl.load(means + index, mask=index < tiles, other=0.0) - pivot), 0.0)
    mean = pivot + tl.sum(total, 0) / pixels
    total = tl.zeros((block,), tl.float32)
    for start in range(0, tiles, block):
        index = start + tl.arange(0, block)
        count = tl.minimum(pixels - index * tile, tile).to(tl.float32)
        offset = tl.load(means + index, mask=index < tiles, other=0.0) - mean
        square = tl.load(squares + index, mask=index < tiles, other=0.0)
        total += tl.where(index < tiles, square + size * count * offset * offset, 0.0)
    variance = tl.sum(total, 0) / pixels / size
    tl.store(out + sample * 2 * groups + group, mean)
    tl.store(out + (sample * 2 + 1) * groups + group, 1 / tl.sqrt(variance + eps))


@triton.jit
def _channel_norm(stats, weight, bias, sample, c, channels: tl.constexpr, groups: tl.constexpr):
    """Mean, reciprocal deviation, weight and bias of each channel; 0 beyond the last."""
    known = c < channels
    group = c // (channels // groups)
    mean = tl.load(stats + sample * 2 * groups + group, mask=known, other=0.0)
    rate = tl.load(stats + (sample * 2 + 1) * groups + group, mask=known, other=0.0)
    gain = tl.load(weight + c, mask=known, other=0.0).to(tl.float32)
    offset = tl.load(bias + c, mask=known, other=0.0).to(tl.float32)
    return mean, rate, gain, offset


@triton.jit
def _activated(values, scale, shift):
    """SiLU of the normalised values."""
    values = values.to(tl.float32) * scale[None, :] + shift[None, :]
    return values * tl.sigmoid(values)


@triton.jit(do_not_specialize=_SIZES)
def norm_act(
    x,
    stats,
    weight,
    bias,
    out,
    height,
    width,
    padding: tl.constexpr,
    tile: tl.constexpr,
    channels: tl.constexpr,
    groups: tl.constexpr,
    block_c: tl.constexpr,
):
    """Group norm, SiLU and reflect padding of a tile of the padded map."""
    index, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pixel, c = index * tile + tl.arange(0, tile), tl.arange(0, block_c)
    pixels = (height + 2 * padding) * (width + 2 * padding)
    inside = (pixel < pixels)[:, None] & (c < channels)[None, :]
    source = pixel
    if padding:
        row, col = tl.abs(pixel // (width + 2) - 1), tl.abs(pixel % (width + 2) - 1)
        source = tl.minimum(row, 2 * height - 2 - row) * width + tl.minimum(col, 2 * width - 2 - col)
    address = x + (sample * height * width + source)[:, None] * channels + c[None, :]
    mean, rate, gain, offset = _channel_norm(stats, weight, bias, sample, c, channels, groups)
    values = _activated(tl.load(address, mask=inside, other=0.0), rate * gain, offset - mean * rate * gain)
    tl.store(out + (sample * pixels + pixel)[:, None] * channels + c[None, :], values, mask=inside)


@triton.jit(do_not_specialize=_SIZES)
def linear(
    x,
    stats,
    norm_weight,
    norm_bias,
    weight,
    bias,
    out,
    moments,
    pixels,
    tiles,
    tile: tl.constexpr,
    channels: tl.constexpr,
    groups: tl.constexpr,
    block_c: tl.constexpr,
    block_g: tl.constexpr,
    operand: tl.constexpr,
):
    """Group norm, SiLU and a 1x1 convolution, and the moments of the result unless None."""
    sample, c = tl.program_id(1).to(tl.int64), tl.arange(0, block_c)
    known = c < channels
    mean, rate, gain, offset = _channel_norm(stats, norm_weight, norm_bias, sample, c, channels, groups)
    scale, shift = rate * gain, offset - mean * rate * gain
    bias_row = tl.load(bias + c, mask=known, other=0.0).to(tl.float32)[None, :]
    matrix = tl.load(weight + c[None, :] * channels + c[:, None], mask=known[None, :] & known[:, None], other=0.0)
    matrix = matrix.to(operand)
    # Few programs go over all tiles: the matrix stays in shared memory while the next tiles are on their way.
    for index in tl.range(tl.program_id(0), tiles, tl.num_programs(0), num_stages=3):
        pixel = index * tile + tl.arange(0, tile)
        inside = (pixel < pixels)[:, None] & known[None, :]
        address = (sample * pixels + pixel)[:, None] * channels + c[None, :]
        values = _activated(tl.load(x + address, mask=inside, other=0.0), scale, shift)
        values = values.to(x.dtype.element_ty).to(operand)
        result = (tl.dot(values, matrix, input_precision="ieee") + bias_row).to(x.dtype.element_ty)
        tl.store(out + address, result, mask=inside)
        if moments is not None:
            count = tl.minimum(pixels - index * tile, tile)
            target = moments + sample * 2 * groups * tiles + index
            values = tl.where(inside, result.to(tl.float32), 0.0)
            _store_moments(values, inside, count, target, tiles, channels, groups, block_c, block_g)


@triton.jit
def _before_activation(
    grad,
    x,
    stats,
    weight,
    bias,
    sample,
    pixel,
    inside,
    c,
    height,
    width,
    padding: tl.constexpr,
    channels: tl.constexpr,
    groups: tl.constexpr,
):
    """Gradient before SiLU, and the normalised map (the norm's weight and bias not applied)."""
    total = tl.zeros((pixel.shape[0], c.shape[0]), tl.float32)
    if padding:
        # A pixel beside the border has copies in the padding: those in rows -1 and height, columns -1 and width.
        row, col = pixel // width, pixel % width
        base = sample * (height + 2) * (width + 2)
        for i in tl.static_range(3):
            for j in tl.static_range(3):
                y = row + 1 if i == 0 else (row * 0 if i == 1 else row * 0 + height + 1)
                z = col + 1 if j == 0 else (col * 0 if j == 1 else col * 0 + width + 1)
                has = pixel >= 0
                if i > 0:
                    has &= row == (1 if i == 1 else height - 2)
                if j > 0:
                    has &= col == (1 if j == 1 else width - 2)
                address = grad + (base + y * (width + 2) + z)[:, None] * channels + c[None, :]
                total += tl.load(address, mask=inside & has[:, None], other=0.0).to(tl.float32)
    else:
        address = grad + (sample * height * width + pixel)[:, None] * channels + c[None, :]
        total += tl.load(address, mask=inside, other=0.0).to(tl.float32)
    address = x + (sample * height * width + pixel)[:, None] * channels + c[None, :]
    values = tl.load(address, mask=inside, other=0.0).to(tl.float32)
    mean, rate, gain, offset = _channel_norm(stats, weight, bias, sample, c, channels, groups)
    normal = (values - mean[None, :]) * rate[None, :]
    values = normal * gain[None, :] + offset[None, :]
    gate = tl.sigmoid(values)
    return total * gate * (1 + values * (1 - gate)), normal


@triton.jit(do_not_specialize=_SIZES)
def gradient_sums(
    grad,
    x,
    stats,
    weight,
    bias,
    sums,
    tiles,
    height,
    width,
    padding: tl.constexpr,
    tile: tl.constexpr,
    channels: tl.constexpr,
    groups: tl.constexpr,
    block_c: tl.constexpr,
):
    """Sums over a tile for each channel: of the gradient before SiLU, and of that times the normalised map."""
    index, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pixel, c = index * tile + tl.arange(0, tile), tl.arange(0, block_c)
    inside = (pixel < height * width)[:, None] & (c < channels)[None, :]
    change, normal = _before_activation(
        grad, x, stats, weight, bias, sample, pixel, inside, c, height, width, padding, channels, groups
    )
    target = sums + (sample * tiles + index) * 2 * channels + c
    tl.store(target, tl.sum(change, 0), mask=c < channels)
    tl.store(target + channels, tl.sum(change * normal, 0), mask=c < channels)


@triton.jit(do_not_specialize=_SIZES)
def gradient(
    grad,
    x,
    stats,
    weight,
    bias,
    means,
    out,
    height,
    width,
    padding: tl.constexpr,
    tile: tl.constexpr,
    channels: tl.constexpr,
    groups: tl.constexpr,
    block_c: tl.constexpr,
):
    """Gradient of a tile of the input, from the group's means of the sums above."""
    index, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pixel, c = index * tile + tl.arange(0, tile), tl.arange(0, block_c)
    inside = (pixel < height * width)[:, None] & (c < channels)[None, :]
    change, normal = _before_activation(
        grad, x, stats, weight, bias, sample, pixel, inside, c, height, width, padding, channels, groups
    )
    _, rate, gain, _ = _channel_norm(stats, weight, bias, sample, c, channels, groups)
    # Through mean and deviation of the group: its mean gradient, and that along the normalised map.
    group = sample * 2 * groups + c // (channels // groups)
    level = tl.load(means + group, mask=c < channels, other=0.0)[None, :]
    slope = tl.load(means + groups + group, mask=c < channels, other=0.0)[None, :]
    values = rate[None, :] * (change * gain[None, :] - level - normal * slope)
    tl.store(out + (sample * height * width + pixel)[:, None] * channels + c[None, :], values, mask=inside)
