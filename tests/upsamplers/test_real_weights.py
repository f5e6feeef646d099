"""AnyUp with its published multi-backbone weights, on real photos."""

from pathlib import Path

import pytest
import skimage.data
import torch.nn.functional as F

import naf
from naf.data import read_image
from tests.helpers import GOLDENS

WEIGHTS = GOLDENS.parent / "data" / "weights" / "official" / "anyup_multi_backbone.safetensors"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the published AnyUp weights are not there")


@pytest.fixture(scope="module")
def anyup():
    return naf.create("anyup", weights=WEIGHTS).requires_grad_(False)


def photo(name):
    image = read_image(Path(skimage.data.__file__).parent / f"{name}.png")[None]
    return F.interpolate(image, size=(224, 224), mode="bilinear", antialias=True).clamp(0, 1)


@needs_weights
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_upsampled_cells_find_the_edges_of_the_photo(anyup, name):
    image = photo(name)
    cells = F.avg_pool2d(image, 14)  # what each cell would say if its feature were its mean colour
    sharp = anyup(naf.normalize(image), cells, (224, 224))
    smooth = naf.create("bilinear")(None, cells, (224, 224))
    error, baseline = (sharp - image).square().mean(), (smooth - image).square().mean()
    assert error < 0.8 * baseline
    # Aligned: any shift of the result makes it worse.
    for dim in (2, 3):
        for step in (-2, 2):
            assert (sharp.roll(step, dim) - image).square().mean() > error
