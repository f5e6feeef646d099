"""K-means segments of the coarse map, found again at full resolution."""

import numpy as np
import pytest
import torch

import naf
from naf.visualization import FeatureView, Segments
from naf.visualization.segments import PALETTE
from tests.helpers import CHANNELS, randn, small

GRID = (6, 8)


def blobs():
    """Three clusters far apart, of 24, 16 and 8 cells."""
    label = torch.tensor([0] * 24 + [1] * 16 + [2] * 8)[torch.randperm(48, generator=torch.Generator().manual_seed(0))]
    centres = 20 * torch.eye(CHANNELS)[:3]
    features = centres[label] + 0.1 * randn(48, CHANNELS)
    return features.T.reshape(1, CHANNELS, *GRID), label.view(GRID)


def test_clusters_are_found_largest_first():
    features, label = blobs()
    segments = Segments.fit(features, 3)
    assert torch.equal(segments.labels(FeatureView.of_map(features)), label)


def test_labels_are_those_of_the_nearest_centre():
    image01 = randn(1, 3, 24, 32).sigmoid()
    features = randn(1, CHANNELS, *GRID)
    guidance = small("naf").encode(naf.normalize(image01), (24, 32), GRID)
    segments = Segments.fit(features, 5)
    full = guidance.upsample(features)[0].flatten(1).T
    distance = torch.cdist(full.double(), segments.centres.double())
    labels = segments.labels(FeatureView.of_guidance(guidance, features)).flatten()
    chosen = distance.gather(1, labels[:, None])[:, 0]
    assert torch.allclose(chosen, distance.min(1).values, atol=1e-4)


def test_a_seed_gives_the_same_segments_again():
    features = randn(1, CHANNELS, 20, 20)
    assert torch.equal(Segments.fit(features, 6).centres, Segments.fit(features, 6).centres)


def test_more_starts_or_clusters_never_spread_more():
    features = randn(1, CHANNELS, 20, 20)
    vectors = features[0].flatten(1).T
    spreads = []
    for k in (2, 5, 12):
        centres = Segments.fit(features, k).centres
        spreads.append(torch.cdist(vectors, centres).min(1).values.square().sum().item())
    assert spreads == sorted(spreads, reverse=True)


def test_the_same_cluster_has_the_same_colour_everywhere():
    features, label = blobs()
    segments = Segments.fit(features, 3)
    picture = np.asarray(segments.image(label))
    for index in range(3):
        colours = picture[label.numpy() == index]
        assert {"#" + "".join(f"{v:02x}" for v in colour) for colour in colours} == {PALETTE[index]}
    assert len(set(PALETTE)) == len(PALETTE)


@pytest.mark.parametrize(
    ("features", "k", "message"),
    [
        (randn(1, 4, 3, 3), 1, "k is 1, expected"),
        (randn(1, 4, 3, 3), 21, "k is 21, expected"),
        (randn(1, 4, 3, 3), 10, "k is 10, expected at most 9"),
        (torch.ones(1, 4, 3, 3), 2, "k is 2, expected at most 1"),
    ],
)
def test_bad_input_is_refused(features, k, message):
    with pytest.raises(ValueError, match=message):
        Segments.fit(features, k)
