"""What every restorer must do: any size, in one call, of photos of any size; and what it refuses."""

import copy
import math

import pytest
import torch

import naf.restoration
from naf.restoration.tiled import TiledRestorer
from naf.restoration.tiles import padded
from tests.helpers import TOLERANCE, relative_error
from tests.restoration.networks import NAMES, noisy_image, small

by_name = pytest.mark.parametrize("name", NAMES)
by_exact = pytest.mark.parametrize("name", [name for name in NAMES if name != "restormer"])


@by_name
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 14), (16, 8), (23, 17)])
def test_any_size_gives_an_image_of_that_size(name, size):
    noisy = noisy_image(2, 3, *size)
    kept = noisy.clone()
    restored = small(name)(noisy)
    assert restored.shape == noisy.shape
    assert restored.dtype == noisy.dtype
    assert restored.isfinite().all()
    assert torch.equal(noisy, kept)


@by_name
def test_images_of_a_batch_do_not_mix(name):
    restorer, noisy = small(name), noisy_image(3, 3, 16, 24)
    together = restorer(noisy)
    for index in range(3):
        assert relative_error(restorer(noisy[index : index + 1]), together[index : index + 1]) <= 1e-5
    changed = restorer(torch.cat([noisy[:1], 1 - noisy[1:]]))
    assert relative_error(changed[:1], together[:1]) <= 1e-5


@by_name
def test_the_result_depends_on_the_image_and_on_all_parameters(name):
    restorer, noisy = small(name).requires_grad_(), noisy_image(2, 3, 16, 16).requires_grad_()
    restorer.train()
    (restorer(noisy) * noisy_image(2, 3, 16, 16, seed=9)).sum().backward()
    assert noisy.grad.abs().max() > 0
    for key, parameter in restorer.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@by_name
def test_a_padded_image_is_restored_and_cut(name):
    restorer, noisy = small(name), noisy_image(1, 3, 13, 19)
    whole = padded(noisy, restorer.multiple, restorer.smallest)
    assert torch.equal(restorer(noisy), restorer(whole)[:, :, :13, :19])
    assert whole.shape[2] % restorer.multiple == whole.shape[3] % restorer.multiple == 0


@by_name
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_close_to_float32(name, dtype):
    noisy = noisy_image(1, 3, 16, 16)
    expected = small(name)(noisy)
    restored = small(name).to(dtype)(noisy.to(dtype))
    assert restored.dtype == dtype
    assert relative_error(restored, expected) <= 4 * TOLERANCE[dtype]


@by_name
def test_autocast_keeps_the_dtype_of_the_image(name):
    restorer, noisy = small(name), noisy_image(1, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        restored = restorer(noisy)
    assert restored.dtype == torch.float32
    assert relative_error(restored, restorer(noisy)) <= 5e-2


@by_name
def test_copies_stand_by_themselves(name):
    restorer, noisy = small(name), noisy_image(1, 3, 16, 16)
    expected = restorer(noisy)
    other = copy.deepcopy(restorer)
    for parameter in other.parameters():
        parameter.zero_()
    assert torch.equal(restorer(noisy), expected)
    assert not torch.allclose(other(noisy), expected, atol=1e-3)
    other.train()
    assert not restorer.training


@by_name
def test_the_state_dict_names_the_parameters_as_they_are(name):
    restorer = small(name)
    assert {key for key, _ in restorer.named_parameters()} <= restorer.state_dict().keys()
    assert len(list(restorer.parameters())) == len({id(parameter) for parameter in restorer.parameters()})


# Large images --------------------------------------------------------------------------------------------------------


# Sides that are no multiple of anything, several tiles of the least size on each axis.
@by_exact
def test_parts_equal_the_whole_image(name):
    restorer, noisy = small(name).double(), noisy_image(2, 3, 103, 78, dtype=torch.float64)
    expected = restorer(noisy)
    shares = []
    restored = restorer.restore(noisy, memory_budget=0, on_progress=shares.append)
    assert relative_error(restored, expected) <= 1e-12
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 4  # so that there were parts


@by_name
def test_an_image_that_fits_is_restored_whole(name):
    restorer, noisy = small(name), noisy_image(2, 3, 24, 30)
    shares = []
    restored = restorer.restore(noisy.requires_grad_(), on_progress=shares.append)
    assert relative_error(restored, restorer(noisy)) <= 1e-5
    assert not restored.requires_grad
    assert shares[-1] == 1


def test_tiles_grow_with_the_memory_they_may_take():
    restorer, noisy = small("dncnn"), noisy_image(1, 3, 90, 90)
    calls = {}
    for budget in (0, restorer.memory((60, 60)), restorer.memory((90, 90))):
        sizes = calls[budget] = []
        with torch.no_grad():
            handle = restorer.model.register_forward_pre_hook(lambda _, x, sizes=sizes: sizes.append(x[0].shape[2:]))
            restorer.restore(noisy, memory_budget=budget)
            handle.remove()
        assert max(math.prod(size) for size in sizes) * restorer.bytes_per_pixel <= max(
            budget, restorer.memory((20, 20))
        )
    assert [len(sizes) for sizes in calls.values()] == [81, 4, 1]


@pytest.mark.parametrize("name", ["dncnn", "ircnn", "rednet"])
def test_an_output_pixel_sees_as_far_as_is_said_and_no_farther(name):
    restorer = small(name).double()
    for parameter in restorer.parameters():
        parameter.abs_()  # so that no ReLU cuts a path
    reach, seen = restorer.reach, 0
    for row in (reach + 2, reach + 3):
        noisy = torch.rand(1, 3, 2 * reach + 8, 4, dtype=torch.float64).requires_grad_()
        restorer(noisy)[0, 0, row, 1].backward()
        rows = noisy.grad.abs().amax((0, 1, 3)).nonzero()[:, 0]
        seen = max(seen, row - rows.min().item(), rows.max().item() - row)
    assert seen == reach


def test_restormer_works_in_tiles_only_when_it_is_asked_to():
    restorer, noisy = small("restormer"), noisy_image(1, 3, 300, 40)
    with pytest.raises(ValueError, match=r"each output pixel depends on the whole image: .*approximate=True"):
        restorer.restore(noisy, memory_budget=0)
    expected, shares = restorer(noisy), []
    restored = restorer.restore(noisy, memory_budget=0, approximate=True, on_progress=shares.append)
    assert restored.shape == noisy.shape
    assert len(shares) == 3
    assert not torch.allclose(restored, expected, atol=1e-4)
    assert relative_error(restored, expected) < 0.2


def test_what_is_exact_is_not_made_approximate():
    restorer, noisy = small("ircnn").double(), noisy_image(1, 3, 80, 40, dtype=torch.float64)
    restored = restorer.restore(noisy, memory_budget=0, approximate=True)
    assert relative_error(restored, restorer(noisy)) <= 1e-12


@by_name
def test_the_memory_said_grows_with_the_image(name):
    restorer = small(name)
    assert 0 < restorer.memory((64, 64)) < restorer.memory((64, 128)) < restorer.memory((256, 256))
    if isinstance(restorer, TiledRestorer):
        assert restorer.memory((30, 40)) == 1200 * restorer.bytes_per_pixel


# Bad input -----------------------------------------------------------------------------------------------------------


BAD = {
    "no_tensor": ([[0.5]], TypeError, "noisy is a list, expected a torch.Tensor"),
    "one_image": (torch.rand(3, 16, 16), ValueError, r"noisy has shape \(3, 16, 16\), expected four dimensions"),
    "grey": (torch.rand(1, 1, 16, 16), ValueError, "noisy has 1 channels .*, expected 3"),
    "empty": (torch.rand(1, 3, 0, 16), ValueError, "expected every dimension to be at least 1"),
    "eight_bit": (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), TypeError, "divide 8-bit images by 255"),
    "other_scale": (255 * torch.ones(1, 3, 16, 16), ValueError, "noisy has values from 255 to 255, expected the 0 … 1"),
    "nan": (torch.full((1, 3, 4, 4), math.nan), ValueError, "noisy holds 48 NaN or infinite values of 48"),
    "infinite": (torch.full((1, 3, 4, 4), -math.inf), ValueError, "noisy holds 48 NaN or infinite values of 48"),
}


@by_name
@pytest.mark.parametrize(("noisy", "error", "words"), BAD.values(), ids=BAD)
def test_bad_images_are_refused_in_one_line(name, noisy, error, words):
    restorer = small(name)
    for call in (restorer, restorer.restore):
        with pytest.raises(error, match=words) as raised:
            call(noisy)
        assert "\n" not in str(raised.value)


@by_name
def test_strong_noise_is_no_bad_input(name):
    noisy = noisy_image(1, 3, 16, 16) + 2 * noisy_image(1, 3, 16, 16, seed=3)
    assert small(name)(noisy).isfinite().all()


@by_name
def test_large_images_are_for_evaluation_mode(name):
    with pytest.raises(ValueError, match="training mode, expected evaluation mode"):
        small(name).train().restore(noisy_image(1, 3, 16, 16))


@by_name
def test_a_negative_memory_budget_is_refused(name):
    with pytest.raises(ValueError, match="memory_budget is -1, expected an integer of at least 0"):
        small(name).restore(noisy_image(1, 3, 16, 16), memory_budget=-1)


ARGUMENTS = {
    "dncnn_layers": ("dncnn", {"num_layers": 1}, "num_layers is 1, expected an integer of at least 2"),
    "rednet_features": ("rednet", {"num_features": 0}, "num_features is 0, expected an integer of at least 1"),
    "naf_heads": ("naf", {"heads_attn": 4}, "heads_attn is 4, expected 1 or 3"),
    "naf_kernel": ("naf", {"kernel_size": 4}, "kernel_size is 4, expected an odd integer"),
    "restormer_levels": ("restormer", {"heads": [1, 2]}, r"heads is \[1, 2\], expected four numbers"),
    "restormer_heads": ("restormer", {"heads": [5, 2, 4, 8]}, r"expected 48 channels of level 1 .* heads\[0\] = 5"),
    "restormer_width": ("restormer", {"ffn_expansion_factor": 0.0}, "ffn_expansion_factor is 0.0"),
}


@pytest.mark.parametrize(("name", "config", "words"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_out_of_range_are_refused(name, config, words):
    with pytest.raises(ValueError, match=words):
        naf.restoration.create(name, weights=None, **config)
