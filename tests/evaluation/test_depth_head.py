"""Bins to metres: the formula, its gradient, memory, bad input."""

import pytest
import torch

from naf.evaluation import depth_head
from naf.evaluation.depth_head import decode_bins
from tests.helpers import randn


def by_definition(logits, low=0.001, high=10.0):
    p = torch.relu(logits) + 0.1
    p = p / p.sum(1, keepdim=True)
    centers = torch.linspace(low, high, logits.shape[1], dtype=logits.dtype)
    return torch.einsum("bkhw,k->bhw", p, centers)[:, None]


def test_it_is_the_mean_of_the_definition():
    logits = randn(2, 256, 5, 7, dtype=torch.float64) * 3
    torch.testing.assert_close(decode_bins(logits), by_definition(logits))
    torch.testing.assert_close(decode_bins(logits, min_depth=1, max_depth=80), by_definition(logits, 1, 80))


def test_without_evidence_the_depth_is_in_the_middle():
    torch.testing.assert_close(decode_bins(torch.full((1, 256, 1, 2), -4.0)), torch.full((1, 1, 1, 2), 5.0005))


def test_all_evidence_in_one_bin_pulls_there():
    logits = torch.zeros(1, 4, 1, 1, dtype=torch.float64)
    logits[:, 3] = 1e9
    assert decode_bins(logits).item() == pytest.approx(10)


def test_the_gradient_is_right():
    logits = randn(2, 5, 3, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(decode_bins, logits)


@pytest.mark.parametrize("band", [1, 2 * 8 * 5 * 3])  # one row, three rows of seven
def test_bands_of_rows_change_nothing(monkeypatch, band):
    monkeypatch.setattr(depth_head, "_BAND", band)
    logits = randn(2, 8, 7, 5, dtype=torch.float64).requires_grad_()
    reference = logits.detach().clone().requires_grad_()
    weight = randn(2, 1, 7, 5, seed=1, dtype=torch.float64)
    (decode_bins(logits) * weight).sum().backward()
    (by_definition(reference) * weight).sum().backward()
    torch.testing.assert_close(decode_bins(logits), by_definition(logits))
    torch.testing.assert_close(logits.grad, reference.grad)


def test_only_the_logits_and_small_maps_are_kept_for_the_gradient():
    logits = randn(1, 64, 4, 4).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        decode_bins(logits)
    assert [tensor.data_ptr() for tensor in kept if tensor.numel() == logits.numel()] == [logits.data_ptr()]
    assert len(kept) == 3


def test_half_precision_is_summed_in_float32():
    logits = randn(1, 256, 3, 3).bfloat16().requires_grad_()
    depth = decode_bins(logits)
    assert depth.dtype == torch.float32
    torch.testing.assert_close(depth, by_definition(logits.float()))
    depth.sum().backward()
    assert logits.grad.dtype == torch.bfloat16


def test_autocast_changes_nothing():
    logits = randn(1, 256, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        depth = decode_bins(logits)
    torch.testing.assert_close(depth, decode_bins(logits), rtol=0, atol=0)


def test_nan_is_not_hidden():
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 1, 0, 0] = torch.nan
    assert decode_bins(logits).isnan().flatten().tolist() == [True, False]


@pytest.mark.parametrize(
    "logits", [torch.zeros(4, 3, 3), torch.zeros(1, 1, 3, 3), torch.zeros(1, 8, 3, 3, dtype=torch.int64)]
)
def test_other_logits_are_refused(logits):
    with pytest.raises(ValueError, match=r"logits are .*expected floating numbers \(B, K, H, W\)"):
        decode_bins(logits)


@pytest.mark.parametrize(("low", "high"), [(10, 0.001), (-1, 10), (1, 1), (0, float("inf")), (0, float("nan"))])
def test_other_ranges_are_refused(low, high):
    with pytest.raises(ValueError, match="expected 0 <= min_depth < max_depth"):
        decode_bins(torch.zeros(1, 8, 3, 3), min_depth=low, max_depth=high)
