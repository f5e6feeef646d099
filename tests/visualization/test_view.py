"""A view answers as the full map does, whether it keeps the map or not."""

import copy

import pytest
import torch

import naf
from naf.visualization import FeatureView
from tests.helpers import CHANNELS, NAMES, Tiny, randn, relative_error, small

SIZE, GRID = (24, 32), (6, 8)


def view_of(name):
    """A view of an upsampler's output, and the output itself."""
    upsampler, image01 = small(name), randn(1, 3, *SIZE).sigmoid()
    features = Tiny()(image01)
    guidance = upsampler.encode(naf.normalize(image01), SIZE, GRID)
    return FeatureView.of_guidance(guidance, features), guidance.upsample(features)


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_is_that_of_the_full_map(name):
    view, full = view_of(name)
    assert (view.size, view.channels) == (SIZE, CHANNELS)
    weight, bias = randn(3, CHANNELS, seed=1), randn(3, seed=2)
    expected = torch.einsum("kc,chw->khw", weight, full[0]) + bias[:, None, None]
    assert relative_error(view.project(weight, bias), expected) < 1e-4
    assert relative_error(view.norms(), full[0].norm(dim=0)) < 1e-4
    assert relative_error(view.vector(5, 7), full[0, :, 5, 7]) < 1e-4
    cosine = torch.cosine_similarity(full[0], full[0, :, 5, 7][:, None, None], dim=0)
    assert (view.similarity(view.vector(5, 7)) - cosine).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["naf", "loftup", None])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_heads_on_half_precision_do_not_overflow_or_round(name, dtype):
    features = (1000 * Tiny()(randn(1, 3, *SIZE).sigmoid())).to(dtype)
    guidance = small(name or "naf").encode(naf.normalize(randn(1, 3, *SIZE).sigmoid()), SIZE, GRID)
    views = [
        FeatureView.of_guidance(guidance, each) if name else FeatureView.of_map(each)
        for each in (features, features.float())
    ]
    weight, bias = 100 * randn(3, CHANNELS, seed=1), 1e5 * randn(3, seed=2)
    half, full = (view.project(weight, bias) for view in views)
    assert half.dtype == torch.float32
    assert relative_error(half, full) < (2e-2 if name == "loftup" else 1e-5)  # loftup's map is in half precision


def test_a_view_holds_no_graph():
    image01 = randn(1, 3, *SIZE).sigmoid()
    for name in ("naf", "loftup"):
        guidance = copy.deepcopy(small(name)).requires_grad_().encode(naf.normalize(image01), SIZE, GRID)
        assert not FeatureView.of_guidance(guidance, Tiny()(image01)).vector(0, 0).requires_grad


def test_a_map_is_viewed_as_it_is():
    features = randn(1, CHANNELS, 5, 7)
    view = FeatureView.of_map(features)
    assert torch.equal(view.vector(2, 3), features[0, :, 2, 3])
    assert view.similarity(view.vector(2, 3))[2, 3] == pytest.approx(1)
    assert view.similarity(-view.vector(2, 3))[2, 3] == pytest.approx(-1)


def test_similarity_has_no_scale():
    view, _ = view_of("naf")
    vector = view.vector(3, 3)
    assert torch.allclose(view.similarity(vector), view.similarity(100 * vector), atol=1e-6)


def test_features_without_length_are_similar_to_nothing():
    view = FeatureView.of_map(torch.zeros(1, CHANNELS, 3, 3))
    assert not view.similarity(torch.ones(CHANNELS)).any()
    assert not view.similarity(torch.zeros(CHANNELS)).any()


def test_the_full_map_is_not_made_where_a_head_passes_through(monkeypatch):
    upsampler, image01 = small("naf"), randn(1, 3, *SIZE).sigmoid()
    guidance = upsampler.encode(naf.normalize(image01), SIZE, GRID)
    monkeypatch.setattr(type(guidance), "_upsample", lambda *_: pytest.fail("the full map was made"))
    view = FeatureView.of_guidance(guidance, Tiny()(image01))
    assert view.similarity(view.vector(0, 0)).shape == SIZE


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda view: view.vector(24, 0), "row is 24"),
        (lambda view: view.vector(0, -1), "col is -1"),
        (lambda view: view.similarity(torch.zeros(3)), r"vector has shape \(3,\), expected \(8,\)"),
        (lambda _: FeatureView.of_map(torch.zeros(1, 3, 4, 4)).project(torch.zeros(2, 5)), r"weight .* \(2, 5\), exp"),
        (lambda _: FeatureView.of_map(torch.zeros(2, 3, 4, 4)), "expected .1, C, H, W.: one photo"),
    ],
)
def test_bad_input_is_refused(call, message):
    view, _ = view_of("bilinear")
    with pytest.raises(ValueError, match=message):
        call(view)
