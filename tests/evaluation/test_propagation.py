import pytest
import torch
import torch.nn.functional as F

from naf.evaluation import propagation
from naf.evaluation.propagation import propagate
from tests.helpers import randn

GOLDEN = [
    [0.0, 0.43132708, 0.57993515, 0.06053916],
    [0.53958594, 0.53916201, 0.0, 0.0],
    [0.47205205, 0.0, 0.43031862, 0.88626169],
    [0.0, 0.53879445, 0.54101363, 0.09032058],
]


def reference(target, contexts, radius, topk, temperature):
    """Dense, as published: all affinities, the box, the k-th value, the sum."""
    channels, height, width = target.shape
    unit = F.normalize(target.double().view(channels, -1).T, dim=1)
    sources = torch.cat([F.normalize(f.double().view(channels, -1).T, dim=1) for f, _ in contexts])
    labels = torch.cat([known.double().flatten(1).T for _, known in contexts])
    affinity = torch.exp(unit @ sources.T / temperature)
    rows, columns = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    inside = ((rows[:, None] - rows).abs() <= radius) & ((columns[:, None] - columns).abs() <= radius)
    affinity *= inside.repeat(1, len(contexts))
    kth = affinity.topk(min(topk, affinity.shape[1]), dim=1).values[:, -1:]
    affinity[affinity < kth] = 0
    return (affinity / affinity.sum(1, keepdim=True) @ labels).T.view(-1, height, width)


def example(height, width, count=3, channels=16, classes=3, seed=0):
    target = randn(channels, height, width, seed=seed)
    contexts = [
        (
            target + randn(channels, height, width, seed=seed + 1 + index),
            randn(classes, height, width, seed=seed + 50 + index).softmax(0),
        )
        for index in range(count)
    ]
    return target, contexts


def test_golden_value():
    cells, channels = torch.arange(16.0)[None], torch.arange(3.0)[:, None]
    frames = [torch.sin(0.7 * cells + 1.3 * channels + 0.5 * t).view(3, 4, 4) for t in range(3)]
    hits = [(torch.arange(16) + t) % 3 == 0 for t in range(2)]
    labels = [torch.stack([hit, ~hit]).float().view(2, 4, 4) for hit in hits]
    out = propagate(frames[2], list(zip(frames[:2], labels, strict=True)), radius=1, topk=3, temperature=0.1)
    assert (out[0] - torch.tensor(GOLDEN)).abs().max() < 1e-5
    assert (out.sum(0) - 1).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("height", "width", "count", "radius", "topk"),
    [
        (1, 1, 1, 0, 1),
        (5, 7, 1, 2, 1),
        (30, 26, 3, 4, 20),
        (13, 37, 8, 24, 20),
        (12, 24, 2, 1, 5),
        (9, 40, 2, 0, 20),  # fewer cells within reach than are to be kept
        (25, 11, 2, 100, 5),
        (3, 3, 1, 1, 50),  # fewer sources than are to be kept
    ],
)
def test_it_is_the_dense_definition(height, width, count, radius, topk):
    target, contexts = example(height, width, count)
    out = propagate(target, contexts, radius=radius, topk=topk, temperature=0.1)
    assert out.dtype == torch.float32
    assert (out - reference(target, contexts, radius, topk, 0.1)).abs().max() < 1e-5
    wide = propagate(
        target.double(), [(f.double(), known) for f, known in contexts], radius=radius, topk=topk, temperature=0.07
    )
    assert wide.dtype == torch.float64
    assert (wide - reference(target, contexts, radius, topk, 0.07)).abs().max() < 1e-12


def test_ties_with_the_kth_value_survive():
    # Eight copies of each frame: every affinity comes eight times, k of 3 keeps all eight of the largest.
    target, contexts = example(14, 9, 1)
    copies = [(contexts[0][0], randn(2, 14, 9, seed=9 + index).softmax(0)) for index in range(8)]
    out = propagate(target, copies, radius=3, topk=3, temperature=0.1)
    assert (out - reference(target, copies, 3, 3, 0.1)).abs().max() < 1e-5
    mean = torch.stack([known for _, known in copies]).mean(0)
    best = propagate(target, [(contexts[0][0], mean)], radius=3, topk=1, temperature=0.1)
    assert (out - best).abs().max() < 1e-5


def test_constant_features_average_the_box():
    labels = randn(1, 20, 15)
    flat = torch.ones(4, 20, 15)
    out = propagate(flat, [(flat, labels)], radius=2, topk=1, temperature=0.1)
    expected = F.avg_pool2d(labels, 5, 1, 2, count_include_pad=False)
    assert (out - expected).abs().max() < 1e-5


def test_little_memory_gives_the_same(monkeypatch):
    target, contexts = example(30, 31)
    whole = propagate(target, contexts, radius=6, topk=7, temperature=0.1)
    monkeypatch.setattr(propagation, "_BUDGET", 1)
    monkeypatch.setattr(propagation, "_TILE", 5)
    assert (propagate(target, contexts, radius=6, topk=7, temperature=0.1) - whole).abs().max() < 1e-5


def test_only_a_few_affinities_are_held_at_once(monkeypatch):
    held = []
    mix = propagation._mix
    monkeypatch.setattr(propagation, "_mix", lambda cosines, *rest: held.append(cosines.numel()) or mix(cosines, *rest))
    target, contexts = example(64, 80, channels=2)
    propagate(target, contexts, radius=2, topk=3, temperature=0.1)
    assert sum(held) < 64 * 80 * len(contexts) * (propagation._TILE + 4) ** 2  # not 64 · 80 each
    held.clear()
    monkeypatch.setattr(propagation, "_BUDGET", 1 << 17)
    propagate(target, contexts, radius=64, topk=3, temperature=0.1)
    assert max(held) <= propagation._TILE * 64 * 80 * len(contexts)  # one row of a tile


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_floats_are_compared_in_full(dtype):
    target, contexts = example(10, 12)
    target, contexts = 300 * target.to(dtype), [(300 * f.to(dtype), known) for f, known in contexts]
    out = propagate(target, contexts, radius=3, topk=5, temperature=0.1)
    assert out.dtype == torch.float32
    full = [(f.float(), known) for f, known in contexts]
    assert torch.equal(out, propagate(target.float(), full, radius=3, topk=5, temperature=0.1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(out, propagate(target, contexts, radius=3, topk=5, temperature=0.1))


def test_a_cold_temperature_does_not_overflow():
    target, contexts = example(6, 6)
    cold = propagate(target, contexts, radius=2, topk=5, temperature=1e-3)
    nearest = propagate(target, contexts, radius=2, topk=1, temperature=0.1)
    assert cold.isfinite().all()
    assert (cold - nearest).abs().mean() < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_same():
    target, contexts = example(40, 30, 5, 64)
    out = propagate(
        target.cuda(), [(f.cuda(), known.cuda()) for f, known in contexts], radius=9, topk=9, temperature=0.1
    )
    assert (out.cpu() - reference(target, contexts, 9, 9, 0.1)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": torch.zeros(4, 5)}, r"target is torch\.float32 \(4, 5\), expected float \(C, h, w\)"),
        ({"target": torch.zeros(4, 5, 5, dtype=torch.int64)}, r"target is torch\.int64"),
        ({"contexts": []}, "contexts is empty"),
        ({"contexts": [(torch.zeros(4, 5, 6), torch.zeros(2, 5, 5))]}, r"features of context 0 have shape \(4, 5, 6\)"),
        ({"contexts": [(torch.zeros(4, 5, 5), torch.zeros(2, 6, 5))]}, r"labels of context 0 .* expected \(2, 5, 5\)"),
        ({"radius": -1}, "radius is -1"),
        ({"topk": 0}, "topk 0"),
        ({"temperature": 0}, "temperature 0"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    fine = {
        "target": torch.zeros(4, 5, 5),
        "contexts": [(torch.zeros(4, 5, 5), torch.zeros(2, 5, 5))],
        "radius": 1,
        "topk": 1,
        "temperature": 0.1,
    }
    with pytest.raises(ValueError, match=message):
        propagate(**(fine | change))
