"""Squares of images, labels and depth: equal to torchvision's transforms in every bit."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from naf.data.labelled import resize_depth, resize_image, resize_label

# Odd and even rests, sides that round down, images smaller and larger than the square, already fitting ones.
SIZES = [(375, 500), (500, 334), (97, 61), (61, 98), (48, 48), (96, 48), (48, 101), (31, 200), (20, 33)]
CASES = [(*shape, size) for shape in SIZES for size in (48, 37)]


def official(geometry, size, mode):
    resize = transforms.Resize(size if geometry == "crop" else (size, size), mode)
    return transforms.Compose([resize, transforms.CenterCrop(size)])


@pytest.mark.parametrize("geometry", ["crop", "square"])
@pytest.mark.parametrize(("height", "width", "size"), CASES)
def test_squares_are_those_of_torchvision(height, width, size, geometry):
    random = np.random.default_rng(height * width)
    image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    expected = transforms.ToTensor()(official(geometry, size, InterpolationMode.BILINEAR)(image))
    image01 = resize_image(image, size, geometry)
    assert (image01.dtype, image01.shape) == (torch.float32, (3, size, size))
    assert image01.is_contiguous()
    assert torch.equal(image01, expected)

    label = random.integers(0, 256, (height, width), dtype=np.uint8)
    nearest = official(geometry, size, InterpolationMode.NEAREST)
    resized = resize_label(label, size, geometry)
    assert resized.dtype == torch.int64
    assert np.array_equal(resized.numpy(), np.array(nearest(Image.fromarray(label))))

    depth = random.random((height, width), dtype=np.float32)
    resized = resize_depth(depth, size, geometry)
    assert resized.dtype == torch.float32
    assert np.array_equal(resized.numpy(), np.array(nearest(Image.fromarray(depth))))


@pytest.mark.parametrize("geometry", ["crop", "square"])
def test_image_and_label_show_the_same_place(geometry):
    label = np.zeros((90, 150), np.uint8)
    label[30:60, 45:90] = 1
    image = Image.fromarray(np.repeat(label[..., None] * 255, 3, axis=2))
    agree = (resize_image(image, 64, geometry)[0] > 0.5).long() == resize_label(label, 64, geometry)
    assert agree.float().mean() > 0.97


def test_missing_depth_stays_missing():
    depth = np.full((30, 40), 2, np.float32)
    depth[10:20, 10:20] = 0
    depth[20:, 20:] = np.nan
    assert set(resize_depth(depth, 17).nan_to_num(-1).unique().tolist()) == {-1, 0, 2}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: resize_image(Image.new("L", (8, 8)), 4), "image has mode L, expected RGB"),
        (lambda: resize_image(Image.new("RGB", (8, 8)), 0), "size is 0, expected at least 1"),
        (lambda: resize_image(Image.new("RGB", (8, 8)), 4, "pad"), "geometry is 'pad', expected 'crop' or 'square'"),
        (lambda: resize_label(np.zeros((8, 8), np.int64), 4), "label is int64 of shape (8, 8), expected uint8 (H, W)"),
        (lambda: resize_depth(np.zeros((1, 8, 8), np.float32), 4), "depth is float32 of shape (1, 8, 8), expected"),
    ],
)
def test_arguments_that_make_no_sense(call, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared below)
        call()
    assert expected in str(caught.value)
