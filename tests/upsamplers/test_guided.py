"""The guided filter against its definition, a ridge regression in every box."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

import naf
from naf.upsamplers.guided import Guided
from tests.helpers import randn, relative_error


def boxes(x, radius):
    """Each cell's box of (C, h, w), cut off at the border: rows of lists of (C, n)."""
    height, width = x.shape[1:]
    return [
        [
            x[:, max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1].flatten(1)
            for j in range(width)
        ]
        for i in range(height)
    ]


def averaged(x, radius):
    return torch.stack([torch.stack([box.mean(1) for box in row], 1) for row in boxes(x, radius)], 1)


def by_definition(image, features, output_size, radius, eps):
    """Box by box for one image (3, H, W) and features (C, h, w)."""
    grid = features.shape[1:]
    colors = F.adaptive_avg_pool2d(image[None], grid)[0]
    slope, constant = [], []
    for color_row, value_row in zip(boxes(colors, radius), boxes(features, radius), strict=True):
        for color, value in zip(color_row, value_row, strict=True):
            color_mean, value_mean = color.mean(1, keepdim=True), value.mean(1, keepdim=True)
            covariance = (color - color_mean) @ (color - color_mean).T / color.shape[1]
            joint = (color - color_mean) @ (value - value_mean).T / color.shape[1]  # (3, C)
            a = torch.linalg.solve(covariance + eps * torch.eye(3, dtype=image.dtype), joint)
            slope.append(a)
            constant.append(value_mean[:, 0] - a.T @ color_mean[:, 0])
    planes = torch.cat([torch.stack(slope, -1).flatten(0, 1), torch.stack(constant, -1)]).unflatten(1, grid)
    fine = F.interpolate(averaged(planes, radius)[None], size=output_size, mode="bilinear")[0].unflatten(0, (4, -1))
    guide = F.interpolate(image[None], size=output_size, mode="bilinear")[0]
    return (fine[:3] * guide[:, None]).sum(0) + fine[3]


@pytest.mark.parametrize(("radius", "eps"), [(2, 0.1), (1, 0.01), (9, 1.0)])
@pytest.mark.parametrize(
    ("grid", "output_size", "image_size"),
    [((6, 5), (41, 60), (30, 35)), ((8, 7), (5, 4), (16, 14)), ((1, 3), (9, 9), (2, 2))],
    ids=["up", "down", "row"],
)
def test_the_output_is_that_of_the_definition(grid, output_size, image_size, radius, eps):
    image, features = randn(2, 3, *image_size, dtype=torch.float64), randn(2, 4, *grid, seed=1, dtype=torch.float64)
    out = Guided(radius, eps)(image, features, output_size)
    expected = torch.stack(
        [by_definition(*pair, output_size, radius, eps) for pair in zip(image, features, strict=True)]
    )
    assert relative_error(out, expected) <= 1e-11


def test_features_that_are_linear_in_the_colors_are_found_again_at_full_resolution():
    image = F.interpolate(randn(1, 3, 40, 56, dtype=torch.float64), scale_factor=2.0, mode="bilinear")
    mix, shift = randn(5, 3, dtype=torch.float64), randn(5, seed=1, dtype=torch.float64)

    def features_at(size):
        return F.conv2d(F.adaptive_avg_pool2d(image, size), mix[:, :, None, None], shift)

    out = Guided(eps=1e-9)(image, features_at((10, 14)), (80, 112))
    torch.testing.assert_close(out, features_at((80, 112)), rtol=1e-5, atol=1e-5)


def test_an_image_of_one_color_gives_twice_averaged_features():
    features = randn(1, 3, 6, 7)
    out = Guided(radius=1)(torch.full((1, 3, 12, 14), 0.7), features, (12, 14))
    twice = averaged(averaged(features[0], 1), 1)[None]
    torch.testing.assert_close(out, F.interpolate(twice, size=(12, 14), mode="bilinear"), rtol=1e-5, atol=1e-5)


def test_edges_are_those_of_the_image():
    image = torch.full((1, 3, 64, 64), -1.0)
    image[..., 27:] = 1  # not at the border of a cell
    features = torch.zeros(1, 1, 8, 8)
    features[..., 4:] = 1
    features[..., 3] = 5 / 8
    out = Guided()(image, features, (64, 64))[0, 0]
    assert (out[:, 27] - out[:, 26]).min() > 0.5
    assert (out.diff(dim=1)[:, [*range(26), *range(27, 63)]]).abs().max() < 0.1


def test_a_large_eps_ignores_the_image():
    features = randn(1, 3, 6, 7)
    image = randn(1, 3, 12, 14)
    flat = Guided(eps=1e6)(torch.zeros_like(image), features, (12, 14))
    torch.testing.assert_close(Guided(eps=1e6)(image, features, (12, 14)), flat, rtol=1e-4, atol=1e-4)


def test_a_large_constant_beside_the_features_costs_no_digits():
    image, features = randn(1, 3, 20, 20), randn(1, 3, 5, 5)
    expected = Guided()(image, features, (20, 20))
    torch.testing.assert_close(Guided()(image, features + 1024, (20, 20)) - 1024, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_stays_near_its_cell(value):
    image, features = randn(1, 3, 40, 40), randn(1, 2, 20, 20)
    expected = Guided(radius=1)(image, features, (40, 40))
    features[0, 0, 5, 5] = value
    out = Guided(radius=1)(image, features, (40, 40))
    assert out[0, 0, 10, 10].isnan()
    torch.testing.assert_close(out[0, 1], expected[0, 1])
    assert out[0, 0, 20:].isfinite().all()


def test_gradients_of_image_and_features_pass_gradcheck():
    image = randn(1, 3, 4, 5, dtype=torch.float64).requires_grad_()
    features = randn(1, 2, 3, 3, seed=1, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda i, f: Guided(radius=1)(i, f, (5, 4)), (image, features))


def test_attention_sees_the_boxes_around_the_pixel():
    features = randn(2, 3, 14, 13)
    guidance = Guided(radius=1).encode(randn(2, 3, 40, 40), (56, 52), (14, 13))
    for row, col in ((0, 0), (28, 30), (55, 51)):
        weights, rows, cols = guidance.attention(row, col)
        assert weights.shape[2] <= 6  # two cells of the interpolation, two boxes on each side
        assert weights.shape[3] <= 6
        pixel = (weights * features[:, :, rows[:, None], cols]).sum((2, 3))
        torch.testing.assert_close(pixel, guidance.upsample(features)[:, :, row, col], rtol=1e-4, atol=1e-5)


def test_autocast_does_not_lower_the_precision():
    scene = randn(1, 3, 20, 20), randn(1, 3, 5, 5), (20, 20)
    expected = Guided()(*scene)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(Guided()(*scene), expected)


BAD = {
    "radius": ({"radius": 0}, "radius is 0, expected an integer of at least 1"),
    "eps": ({"eps": 0.0}, "eps is 0.0, expected a positive number"),
    "eps_nan": ({"eps": math.nan}, "eps is nan, expected a positive number"),
}


@pytest.mark.parametrize(("config", "message"), BAD.values(), ids=BAD)
def test_a_bad_configuration_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        naf.create("guided", weights=None, **config)
