"""The backbone that the package carries."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from skimage import data

import naf
from naf.backbones.embedded import WEIGHTS

CAMVID = (Path(__file__).parents[2] / ".." / "shared" / "data" / "CamVid").resolve()


def photo(name):
    return torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module", params=[16, 8])
def backbone(request):
    return naf.backbones.create("embedded", stride=request.param)


@pytest.fixture(scope="module")
def coarse():
    return naf.backbones.create("embedded")


def test_the_file_is_small_half_precision_and_says_how_it_was_made():
    assert WEIGHTS.stat().st_size <= 4_000_000
    with safe_open(WEIGHTS, "pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"F16"}  # noqa: SIM118
        about = file.metadata()
    assert "distill_backbone.py" in about["command"]
    assert about["teachers"].count("google-coral") == 2
    card = WEIGHTS.with_suffix(".md").read_text()
    assert about["command"] in card
    assert "non-commercial" in card


@pytest.mark.parametrize("size", [(300, 451), (64, 48), (3, 5), (72, 104)])
def test_any_image_size_gives_whole_cells(backbone, size):
    result = backbone.extract(torch.rand(2, 3, *size))
    grid = tuple(max(1, round(side / backbone.stride)) for side in size)
    assert result.features.shape == (2, {16: 384, 8: 192}[backbone.stride], *grid)
    assert result.features.isfinite().all()
    assert result.input_size == tuple(backbone.stride * side for side in grid)


def test_cells_are_centred_on_their_pixels(backbone):
    # Only if all paddings are symmetric, turned kernels on a turned image give the turned map, borders included.
    turned = copy.deepcopy(backbone)
    for parameter in turned.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.flip(2, 3).contiguous()
    image = photo("astronaut")[:, :, 64:192, 128:288]
    torch.testing.assert_close(turned(image.flip(2, 3)), backbone(image).flip(2, 3), atol=1e-4, rtol=1e-4)


def test_a_cell_sees_most_of_what_it_stands_for(backbone):
    image = photo("astronaut")[:, :, :320, :320].requires_grad_()
    row = 160 // backbone.stride
    features = backbone(image)
    features[0, :, row, row].square().sum().backward()
    influence = image.grad.square().sum((0, 1))
    pixels = torch.arange(320.0)
    centre = backbone.stride * row + (backbone.stride - 1) / 2
    for axis in (0, 1):
        mean = (influence.sum(axis) * pixels).sum() / influence.sum()
        assert abs(mean - centre) < backbone.stride


def test_features_are_the_same_each_time_and_for_each_image_of_a_batch(backbone):
    pair = torch.cat([photo("astronaut")[:, :, :96, :128], photo("chelsea")[:, :, :96, :128]])
    assert torch.equal(backbone(pair), backbone(pair))
    for index in range(2):
        alone = backbone(pair[index : index + 1])
        torch.testing.assert_close(backbone(pair)[index : index + 1], alone, atol=1e-4, rtol=1e-4)


def test_channels_are_about_standardised_on_photos(backbone):
    values = torch.cat([backbone(photo(name)).flatten(2) for name in ("astronaut", "chelsea", "coffee")], dim=2)
    assert values.mean().abs() < 0.3
    assert 0.5 < values.std((0, 2)).mean() < 1.5


def test_stride_8_tells_more_places_apart_than_stride_16():
    image = photo("astronaut")[:, :, :256, :256]
    fine = naf.backbones.create("embedded", stride=8)(image)
    smooth = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(fine, 2), scale_factor=2, mode="nearest")
    assert (fine - smooth).square().mean() > 0.05 * fine.square().mean()


def test_eyes_of_a_cat_are_nearer_to_each_other_than_to_other_places(coarse):
    features = torch.nn.functional.normalize(coarse(photo("chelsea"))[0], dim=0)  # 300 x 451 pixels, 19 x 28 cells
    left, right, fur, background = (features[:, row, column] for row, column in ((7, 11), (9, 18), (15, 11), (2, 25)))
    assert left @ right > left @ fur + 0.1
    assert left @ right > left @ background + 0.1


def test_max_side_limits_what_the_network_sees(coarse):
    limited = naf.backbones.create("embedded", max_side=128)
    assert limited.extract(photo("astronaut")[:, :, :256]).input_size == (64, 128)


def test_images_of_other_precision_are_taken(coarse):
    image = photo("chelsea")[:, :, :64, :64]
    torch.testing.assert_close(coarse(image.double()), coarse(image))


def test_weights_are_frozen_and_gradients_reach_the_image(coarse):
    assert not any(parameter.requires_grad for parameter in coarse.parameters())
    image = photo("chelsea")[:, :, :64, :64].requires_grad_()
    coarse(image).sum().backward()
    assert image.grad.abs().sum() > 0


def test_wrong_settings_and_images_are_refused(coarse):
    with pytest.raises(ValueError, match="stride is 4, expected 16 or 8"):
        naf.backbones.create("embedded", stride=4)
    with pytest.raises(TypeError, match="pretrained"):
        naf.backbones.create("embedded", pretrained=False)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        coarse(torch.full((1, 3, 32, 32), 200.0))


def cells_and_labels(backbone, split, count):
    """Features of a street's cells, (N, C), and the class at the centre of each cell, (N,)."""
    paths = sorted((CAMVID / split).glob("*.jpg"))
    features, labels = [], []
    for path in paths[:: len(paths) // count][:count]:
        label = np.array(Image.open(CAMVID / f"{split}annot" / f"{path.stem}.png"))[4:356]
        image = naf.data.read_image(path)[None, :, 4:356]
        features.append(backbone(image)[0].flatten(1).T)
        labels.append(torch.from_numpy(label[8::16, 8::16].flatten()).long())
    return torch.cat(features), torch.cat(labels)


@pytest.mark.skipif(not CAMVID.is_dir(), reason="../shared/data/CamVid is not there")
def test_a_linear_probe_reads_more_from_it_than_from_hog(coarse):
    accuracy = {}
    for backbone in (coarse, naf.backbones.create("hog")):
        x, label = cells_and_labels(backbone, "train", 20)
        mean, std = x.mean(0), x.std(0)
        x, one_hot = (x - mean) / std, torch.nn.functional.one_hot(label, 12).float()
        center = one_hot.mean(0)
        weight = torch.linalg.solve(x.T @ x + 300 * torch.eye(x.shape[1]), x.T @ (one_hot - center))
        x, label = cells_and_labels(backbone, "test", 10)
        score = ((x - mean) / std @ weight + center)[:, :11]
        known = label != 11
        accuracy[backbone.name] = (score.argmax(1) == label)[known].float().mean().item()
    assert accuracy["embedded"] > accuracy["hog"] + 0.05
