"""The weight-free descriptor."""

import pytest
import torch
from skimage import data

import naf


@pytest.fixture(scope="module")
def astronaut():
    return torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255


def test_output_carries_grid_stride_and_sizes(astronaut):
    result = naf.backbones.create("hog").extract(astronaut[:, :, :300, :451])
    assert (result.grid, result.stride) == ((19, 28), 16)
    assert (result.image_size, result.input_size) == ((300, 451), (304, 448))
    assert result.features.shape == (1, 16, 19, 28)
    assert result.features.isfinite().all()


def test_batches_are_described_one_by_one(astronaut):
    pair = torch.cat([astronaut[:, :, :128, :128], astronaut[:, :, -128:, -128:]])
    backbone = naf.backbones.create("hog")
    assert torch.equal(backbone(pair)[1:], backbone(pair[1:]))


def test_colour_channels_are_the_mean_colour_of_their_cell():
    from skimage.color import rgb2lab

    image = torch.zeros(1, 3, 64, 64)
    image[:, 0, :, 32:] = 1  # the right half is red
    features = naf.backbones.create("hog")(image)
    red = torch.from_numpy(rgb2lab([[[1.0, 0.0, 0.0]]])[0, 0]).float() / 100
    torch.testing.assert_close(features[0, :3, 1, 3], red * torch.tensor([1.0, 2.5, 2.5]), atol=1e-3, rtol=1e-3)
    assert features[0, :3, 1, 0].abs().max() < 1e-3


def test_orientation_channels_tell_vertical_from_horizontal_edges():
    stripes = (torch.arange(64) // 4 % 2).float().expand(1, 3, 64, 64)
    backbone = naf.backbones.create("hog")
    across, down = (backbone(x.contiguous())[0, 8:, 1:-1, 1:-1].mean((1, 2)) for x in (stripes, stripes.mT))
    assert across.argmax() != down.argmax()
    assert across.max() > 3 * across.median()


def test_max_side_limits_what_the_descriptor_sees(astronaut):
    result = naf.backbones.create("hog", max_side=128).extract(astronaut[:, :, :256])
    assert result.input_size == (64, 128)
    assert result.image_size == (256, 512)


def test_tiny_images_are_enlarged_to_one_cell():
    assert naf.backbones.create("hog")(torch.rand(1, 3, 3, 5)).shape == (1, 16, 1, 1)


def test_bad_images_are_refused():
    backbone = naf.backbones.create("hog")
    with pytest.raises(ValueError, match="expected 0 to 1"):
        backbone(torch.full((1, 3, 32, 32), 200.0))
    with pytest.raises(TypeError, match="uint8"):
        backbone(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="expected 3"):
        backbone(torch.zeros(1, 4, 32, 32))
    with pytest.raises(ValueError, match="stride is 2"):
        naf.backbones.create("hog", stride=2)
