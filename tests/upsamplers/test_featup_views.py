"""Jittered views, their blur and the attention downsampler against their definitions."""

import pytest
import torch
import torch.nn.functional as F

from naf.upsamplers.featup_downsampler import AttentionDownsampler, make_patches
from naf.upsamplers.featup_pca import fit_pca
from naf.upsamplers.featup_views import Views, blur_matrix, draw_views, see
from tests.helpers import randn, relative_error


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def view_by_definition(image, flip, zoom, corner):
    """(C, H, W): flipped, zoomed, padded by reflection, cropped."""
    size = image.shape[1:]
    if flip:
        image = image.flip(2)
    zoomed = [round(side * zoom) for side in size]
    image = F.interpolate(image[None], size=zoomed, mode="bilinear", align_corners=False)
    padding = [min(30, side - 1) for side in size]
    image = F.pad(image, (padding[1], padding[1], padding[0], padding[0]), mode="reflect")[0]
    top, left = (
        int(share * (full - side + 1)) for share, full, side in zip(corner, image.shape[1:], size, strict=True)
    )
    return image[:, top : top + size[0], left : left + size[1]]


def blur_by_definition(x):
    """(B, C, H, W) under the Gaussian of 5 x 5 pixels."""
    offset = torch.arange(-2, 3, dtype=x.dtype)
    kernel = (-(offset[:, None].square() + offset.square()) / 2).exp()
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=x.shape[1])


@pytest.mark.parametrize("size", [(64, 64), (40, 56), (16, 24)], ids=str)
def test_views_are_flipped_zoomed_padded_and_cropped(size):
    image, views = randn(2, *size, dtype=torch.float64), draw_views(40, generator())
    drawn = zip(*(values.tolist() for values in views[:3]), strict=True)
    expected = torch.stack([view_by_definition(image, *view) for view in drawn])
    torch.testing.assert_close(see(image, views), expected, rtol=1e-9, atol=1e-9)


def test_views_are_drawn_over_the_whole_range():
    flip, zoom, corner, _ = draw_views(2000, generator())
    assert 0.45 < flip.double().mean() < 0.55
    assert 0.45 < (zoom == 1).double().mean() < 0.55
    assert 1.78 < zoom.max() <= 1.8
    assert zoom[zoom > 1].min() < 1.02
    assert corner.min() < 0.01
    assert 0.99 < corner.max() < 1
    assert all(
        torch.equal(a, b) for a, b in zip(draw_views(5, generator(3))[:3], draw_views(5, generator(3))[:3], strict=True)
    )


def test_the_blur_matrix_is_the_gaussian_with_reflected_border():
    x = randn(1, 2, 9, 14, dtype=torch.float64)
    torch.testing.assert_close(blur_matrix(9) @ x @ blur_matrix(14).mT, blur_by_definition(x), rtol=1e-9, atol=1e-9)


def cells_by_definition(downsampler, x, views, grid, kernel):
    """Every view of every channel, blurred, cut to patches; (n, h, w, C)."""
    size = x.shape[:2]
    blurred = blur_by_definition(see(x.permute(2, 0, 1), views)).permute(0, 2, 3, 1)
    starts = [
        [round(cell * (side - kernel) / (cells - 1)) for cell in range(cells)]
        for side, cells in zip(size, grid, strict=True)
    ]
    out = x.new_empty(len(views.zoom), *grid, x.shape[2])
    for view in range(len(views.zoom)):
        for i, top in enumerate(starts[0]):
            for j, left in enumerate(starts[1]):
                patch = blurred[view, top : top + kernel, left : left + kernel]
                logits = downsampler.logit(patch)[..., 0]
                logits = logits * downsampler.scale[:, 0] + downsampler.shift[:, 0]
                weights = logits.flatten().softmax(0).view(kernel, kernel, 1)
                out[view, i, j] = (weights * patch).sum((0, 1))
    return out


def perturbed(dim, kernel):
    downsampler = AttentionDownsampler(dim, kernel).double()
    for index, parameter in enumerate(downsampler.parameters()):
        parameter.data = parameter.data + 0.5 * randn(*parameter.shape, seed=index, dtype=torch.float64)
    return downsampler


@pytest.mark.parametrize(
    ("size", "grid", "kernel"), [((32, 32), (4, 4), 8), ((33, 48), (3, 5), 14), ((16, 40), (2, 3), 16)], ids=str
)
def test_cells_are_softmax_means_over_patches_of_the_blurred_view(size, grid, kernel):
    downsampler, x = perturbed(3, kernel), randn(*size, 3, dtype=torch.float64)
    views = draw_views(6, generator(1))
    patches = make_patches(views, size, grid, kernel, x)
    expected = cells_by_definition(downsampler, x, views, grid, kernel)
    torch.testing.assert_close(downsampler(x, patches), expected, rtol=1e-9, atol=1e-9)


def test_one_cell_takes_a_patch_in_the_middle():
    x = randn(20, 20, 1, dtype=torch.float64)
    downsampler = AttentionDownsampler(1, 10).double()
    downsampler.logit.weight.data.zero_()
    still = Views(torch.tensor([False]), torch.ones(1, dtype=torch.float64), torch.full((1, 2), 0.5).double())
    patches = make_patches(still, (20, 20), (1, 1), 10, x)
    # The middle one of 39 places of the crop is the image itself.
    expected = blur_by_definition(x.permute(2, 0, 1)[None])[0, 0, 5:15, 5:15].mean()
    torch.testing.assert_close(downsampler(x, patches)[0, 0, 0, 0], expected)


def test_gradients_of_the_downsampler_pass_gradcheck():
    downsampler, x = perturbed(2, 5), randn(9, 8, 2, dtype=torch.float64).requires_grad_()
    patches = make_patches(draw_views(2, generator(2)), (9, 8), (2, 2), 5, x)

    def run(x, *parameters):
        state = dict(zip(dict(downsampler.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(downsampler, state, (x, patches, generator(5)))

    assert torch.autograd.gradcheck(run, (x, *downsampler.parameters()))


def test_dropout_adds_to_a_logit_what_dropout_of_its_channels_would():
    kernel, x = 6, torch.tensor([1.0, -2.0, 0.5]).double().expand(24, 24, 3).contiguous()
    downsampler = perturbed(3, kernel)
    downsampler.scale.data.fill_(1)
    downsampler.shift.data.zero_()
    patches = make_patches(draw_views(60, generator()), (24, 24), (4, 4), kernel, x)
    logs = downsampler.attention(x, patches, generator(4)).log().transpose(3, 2).flatten(3).detach()  # (n, h, w, 36)
    deviations = logs.std(-1).flatten()
    is_dropped = deviations < 1e-9
    assert 0.15 < is_dropped.double().mean() < 0.25  # whole patches
    products = downsampler.logit.weight[0].detach() * x[0, 0]
    kept = (torch.rand(20000, 3, generator=generator(6)) >= 0.2) / 0.8
    expected = (kept * products).sum(1).std()
    assert deviations[~is_dropped].mean() == pytest.approx(expected.item(), rel=0.05)


def test_the_basis_is_orthonormal_and_takes_most_variance_first():
    x = randn(200, 6, dtype=torch.float64) @ torch.diag(torch.tensor([1.0, 5, 0.1, 3, 2, 0.5]).double()) + 7
    pca = fit_pca(x, 6)
    torch.testing.assert_close(pca.components @ pca.components.mT, torch.eye(6), rtol=0, atol=1e-5)
    reduced = pca.reduce(x.float())
    spread = reduced.std(0)
    assert (spread.diff() < 0).all()
    assert relative_error(reduced @ pca.components + pca.mean, x) < 1e-5
    torch.testing.assert_close(fit_pca(x, 2).components, pca.components[:2])
