"""ImageNet normalisation."""

import pytest
import torch

import naf
from naf.normalization import IMAGENET_MEAN, IMAGENET_STD
from tests.helpers import randn


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_each_channel_loses_its_mean_and_is_divided_by_its_deviation(shape, dtype):
    image = randn(*shape, dtype=torch.float64).sigmoid().to(dtype)
    out = naf.normalize(image)
    assert out.dtype == dtype
    mean, std = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(out.double() * std + mean, image.double(), rtol=1e-2, atol=1e-2)


def test_constants_are_those_of_imagenet():
    assert IMAGENET_MEAN == (0.485, 0.456, 0.406)
    assert IMAGENET_STD == (0.229, 0.224, 0.225)
    assert naf.normalize(torch.tensor(IMAGENET_MEAN)[:, None, None]).abs().max() < 1e-6


def test_the_image_is_left_as_it_was():
    image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    naf.normalize(image)
    assert torch.equal(image, before)


def test_a_small_overshoot_of_resizing_is_taken():
    assert naf.normalize(torch.full((3, 2, 2), 1.2)).isfinite().all()
    assert naf.normalize(torch.full((3, 2, 2), -0.2)).isfinite().all()
