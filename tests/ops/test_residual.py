"""Residual blocks on tokens against the same blocks written with PyTorch's layers."""

import pytest
import torch
import torch.nn.functional as F

from naf.ops import residual
from naf.ops.residual import NormActLinear, bands_of, residual_blocks_
from tests.helpers import randn, relative_error

GROUPS, EPS, CHANNELS = 4, 1e-5, 16


def blocks(count, dtype=torch.float32):
    def step(seed):
        norm = 1 + 0.3 * randn(CHANNELS, seed=seed, dtype=dtype), 0.3 * randn(CHANNELS, seed=seed + 1, dtype=dtype)
        return NormActLinear(*norm, randn(CHANNELS, CHANNELS, seed=seed + 2, dtype=dtype) / CHANNELS**0.5)

    return [(step(10 * index), step(10 * index + 5)) for index in range(count)]


def plain(x, steps):
    x = x.T[None, :, :, None]
    for first, second in steps:
        y = x
        for step in (first, second):
            y = F.silu(F.group_norm(y, GROUPS, step.norm_weight, step.norm_bias, EPS))
            y = F.conv2d(y, step.weight[:, :, None, None])
        x = x + y
    return x[0, :, :, 0].T


@pytest.mark.parametrize("band_bytes", [1, 300, 2 << 20])
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("tokens", [1, 37])
def test_blocks_in_bands_equal_plain_layers(monkeypatch, tokens, count, band_bytes):
    monkeypatch.setattr(residual, "_BAND_BYTES", band_bytes)
    x, steps = 3 + randn(tokens, CHANNELS), blocks(count)
    expected = plain(x.double(), blocks(count, torch.float64))
    inner = torch.empty_like(x)
    residual_blocks_(x, inner, steps, groups=GROUPS, eps=EPS)
    assert relative_error(x, expected) <= 2e-6


def test_bands_cover_each_token_once():
    x = torch.empty(1001, 1 << 12)
    bands = list(bands_of(x))
    assert len(bands) > 1
    assert [i for band in bands for i in range(band.start, band.stop)] == list(range(1001))
