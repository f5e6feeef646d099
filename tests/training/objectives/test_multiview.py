"""FeatUp's multi-view reconstruction against its definition."""

import pytest
import torch

from naf.training.objectives.multiview import MultiView, project, random_projection
from naf.upsamplers.featup_views import Jitter, Views, draw_views, see
from tests.helpers import randn
from tests.training.objectives.examples import photos
from tests.upsamplers.test_featup_views import cells_by_definition

JITTER = Jitter(zoom=(0.9, 1.1), zoomed=1.0, flipped=0.3, padding=3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_errors_are_those_of_the_projected_cells_of_every_view():
    multiview = MultiView(4, 8, 3, JITTER).double().eval()
    for index, parameter in enumerate(multiview.parameters()):
        parameter.data += 0.3 * randn(*parameter.shape, seed=index, dtype=torch.float64)
    hr, image01 = randn(2, 4, 32, 32, dtype=torch.float64), photos(32, 2).double()
    projection = random_projection(4, 6, generator(1), hr)
    mixing = randn(4, 3, dtype=torch.float64)

    def extract(seen):
        return torch.nn.functional.avg_pool2d(torch.einsum("kc,nchw->nkhw", mixing, seen), 8)

    errors = multiview(hr, image01, extract, projection, generator(2))
    views = draw_views(3, generator(2), JITTER)
    expected = torch.zeros(3, dtype=torch.float64)
    for sharp, image in zip(hr, image01, strict=True):
        targets = extract(see(image, views)).permute(0, 2, 3, 1)
        cells = cells_by_definition(multiview.downsampler, sharp.permute(1, 2, 0), views, (4, 4), 8)
        error = ((cells - targets) @ projection).square()  # projected at the end, as in the paper
        scale = (multiview.uncertainty(targets) + 0.1).exp()
        expected += (error / (2 * scale.square()) + scale.log()).mean((1, 2, 3)) / 2
    torch.testing.assert_close(errors, expected)


def test_dropout_acts_in_training_and_is_shared_by_the_images():
    multiview = MultiView(3, 8, 2, JITTER)
    multiview.downsampler.logit.weight.data.fill_(3)
    image01 = photos(32, 1).expand(2, -1, -1, -1)
    projection = random_projection(3, 2, generator(), image01)

    def run(images):
        return multiview(images, images, lambda seen: torch.nn.functional.avg_pool2d(seen, 8), projection, generator(3))

    in_training = run(image01)
    torch.testing.assert_close(run(image01[:1]), in_training)
    multiview.eval()
    assert not torch.allclose(run(image01), in_training, rtol=1e-4)


def test_columns_of_the_projection_have_length_one():
    projection = random_projection(20, 7, generator(), torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(projection.norm(dim=0), torch.ones(7, dtype=torch.float64))
    x = randn(2, 20, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(project(x, projection), torch.einsum("bchw,cd->bdhw", x, projection))


@pytest.mark.parametrize("size", [(40, 40), (224, 160)], ids=str)
def test_views_smaller_than_the_image_are_padded_as_far_as_the_crop_needs(size):
    count = 20
    views = Views(
        torch.zeros(count, dtype=torch.bool), torch.full((count,), 0.8).double(), torch.rand(count, 2).double(), 2
    )
    for axis, matrix in enumerate(views.matrices(size)):
        torch.testing.assert_close(matrix.sum(2), torch.ones(count, size[axis], dtype=torch.float64))
        ramp = matrix @ torch.arange(size[axis]).double()
        # No pixel of the image beyond the reflected border: values run from end to end, at 1 / zoom a pixel inside.
        assert ramp.amin(1).max() < 2
        assert ramp.amax(1).min() > size[axis] - 3
        assert ramp.diff(dim=1).abs().median().item() == pytest.approx(1.25, abs=0.01)


def test_bad_input_is_refused():
    multiview = MultiView(4, 16, 2, JITTER)
    with pytest.raises(ValueError, match="the features have 5 channels, the objective was made for 4"):
        multiview(randn(1, 5, 32, 32), photos(32, 1), None, None, generator())
    with pytest.raises(
        ValueError, match=r"the image has sides \(12, 12\), expected at least the downsampler's kernel, 16"
    ):
        multiview(randn(1, 4, 12, 12), photos(12, 1), None, None, generator())
    with pytest.raises(ValueError, match="views is 0, expected an integer of at least 1"):
        MultiView(4, 16, 0, JITTER)
