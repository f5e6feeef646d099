"""Label propagation by affinity of features (Jabri et al., NeurIPS 2020; Caron et al., ICCV 2021).

Each position of a frame takes the labels of the positions in earlier frames that look most like it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_TILE = 12  # side of the squares of target positions that are done at once
_BUDGET = 1 << 24  # affinities held at once


def propagate(
    target: Tensor, contexts: Sequence[tuple[Tensor, Tensor]], *, radius: int, topk: int, temperature: float
) -> Tensor:
    """Labels of a frame, from those of others.

    For each position: cosines to all positions of all contexts within `radius` rows and columns, those below the
    k-th largest dropped (ties with it stay), exp(cosine / temperature), divided by their sum: weights of the labels.
    Only affinities within reach are computed, a square of target positions at a time. Float32, or float64 if the
    features are, whatever autocast says.

    Args:
        target: features of the frame, (C, h, w), float.
        contexts: features (C, h, w) and labels (K, h, w), float, of other frames.
        radius: in cells, at least 0.
        topk: k, at least 1, over all contexts together.
        temperature: above 0.

    Returns:
        (K, h, w), on the device of the features; labels that sum to one do so here.

    Raises:
        ValueError: if a shape or option does not fit.
    """
    _check(target, contexts, radius, topk, temperature)
    height, width = target.shape[1:]
    with torch.autocast(target.device.type, enabled=False):
        queries = _unit(target)
        keys = torch.stack([_unit(features) for features, _ in contexts])  # (S, h, w, C)
        labels = torch.stack([known.movedim(0, -1) for _, known in contexts]).to(keys)  # (S, h, w, K)
        out = labels.new_empty(height, width, labels.shape[-1])
        reach = [min(length, _TILE + 2 * radius) for length in (height, width)]
        step = max(1, min(_TILE, _BUDGET // (_TILE * len(contexts) * reach[0] * reach[1])))
        for top in range(0, height, step):
            rows, near_rows, far_rows = _reach(top, step, height, radius, target.device)
            for left in range(0, width, _TILE):
                columns, near_columns, far_columns = _reach(left, _TILE, width, radius, target.device)
                known = labels[:, near_rows, near_columns]
                tile = queries[rows, columns].flatten(0, 1) @ keys[:, near_rows, near_columns].flatten(0, 2).T
                cosines = tile.view(*out[rows, columns].shape[:2], *known.shape[:3])
                cosines += far_rows[:, None, None, :, None] + far_columns[:, None, None, :]
                mixed = _mix(tile, known.flatten(0, 2), topk, temperature)
                out[rows, columns] = mixed.view_as(out[rows, columns])
    return out.movedim(-1, 0).contiguous()


def _mix(cosines: Tensor, labels: Tensor, topk: int, temperature: float) -> Tensor:
    """Labels (M, K) of the sources, weighted for each of N targets: (N, K). Cosines (N, M) are -inf out of reach."""
    best, where = cosines.topk(min(topk + 1, cosines.shape[1]), dim=1)
    weights = F.softmax(best[:, :topk] / temperature, dim=1)
    mixed = torch.einsum("nm,nmk->nk", weights, labels[where[:, :topk]])
    if best.shape[1] > topk:
        tied = (best[:, topk] == best[:, topk - 1]) & best[:, topk].isfinite()
        if tied.any():
            kth = best[tied, topk - 1, None]
            kept = cosines[tied].masked_fill_(cosines[tied] < kth, -torch.inf)
            mixed[tied] = F.softmax(kept / temperature, dim=1) @ labels
    return mixed


def _unit(features: Tensor) -> Tensor:
    """Features of length one, channels last: (h, w, C)."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    return F.normalize(wide, dim=0).movedim(0, -1).contiguous()


def _reach(start: int, step: int, length: int, radius: int, device: torch.device) -> tuple[slice, slice, Tensor]:
    """Along one axis: positions of a tile, those within reach of any, and 0 or -inf for each pair, (tile, near)."""
    stop = min(length, start + step)
    low, high = max(0, start - radius), min(length, stop + radius)
    positions, near = torch.arange(start, stop, device=device), torch.arange(low, high, device=device)
    is_far = (positions[:, None] - near).abs() > radius
    penalty = torch.zeros(is_far.shape, device=device).masked_fill_(is_far, -torch.inf)
    return slice(start, stop), slice(low, high), penalty


def _check(
    target: Tensor, contexts: Sequence[tuple[Tensor, Tensor]], radius: int, topk: int, temperature: float
) -> None:
    if target.ndim != 3 or not target.is_floating_point():
        raise ValueError(f"target is {target.dtype} {tuple(target.shape)}, expected float (C, h, w)")
    if not contexts:
        raise ValueError("contexts is empty, expected at least one frame with labels")
    for index, (features, labels) in enumerate(contexts):
        if features.shape != target.shape:
            raise ValueError(
                f"features of context {index} have shape {tuple(features.shape)}, expected {tuple(target.shape)}"
            )
        expected = (len(contexts[0][1]), *target.shape[1:])
        if labels.shape != expected:
            raise ValueError(f"labels of context {index} have shape {tuple(labels.shape)}, expected {expected}")
    if radius < 0 or topk < 1 or not temperature > 0:
        given = f"radius is {radius}, topk {topk}, temperature {temperature}"
        raise ValueError(f"{given}, expected at least 0, at least 1 and a number above 0")
