"""One encoding serves several kernel sizes."""

import pytest
import torch

import naf
from naf.ops.neighborhood import make_neighborhood
from tests.helpers import CHANNELS, config_of, randn, small

SIZE, GRID = (24, 32), (6, 8)


@pytest.mark.parametrize("position", ["rope", "gaussian"])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_another_kernel_size_needs_no_other_encoding(position, kernel_size):
    image = naf.normalize(randn(1, 3, *SIZE).sigmoid())
    features = randn(1, CHANNELS, *GRID)
    upsampler = small("naf", position=position, kernel_size=9)
    other = naf.create("naf", weights=None, **config_of("naf", position=position, kernel_size=kernel_size)).eval()
    state = upsampler.state_dict()
    other.load_state_dict(state)
    guidance = upsampler.encode(image, SIZE, GRID)
    switched = guidance.with_neighborhood(make_neighborhood(GRID, SIZE, kernel_size, "official"))
    with torch.no_grad():
        assert torch.allclose(switched.upsample(features), other(image, features, SIZE), atol=1e-6)
    assert guidance.attention(3, 4).weights.shape[-1] == 8  # the first is as it was: 9, and the grid has 8 columns
    assert switched.attention(3, 4).weights.shape[-1] == kernel_size


def test_a_neighborhood_between_other_grids_is_refused():
    guidance = small("naf").encode(naf.normalize(randn(1, 3, *SIZE).sigmoid()), SIZE, GRID)
    with pytest.raises(ValueError, match="neighborhood is between"):
        guidance.with_neighborhood(make_neighborhood((6, 6), SIZE, 3, "official"))
