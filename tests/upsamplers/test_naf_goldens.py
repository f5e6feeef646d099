"""The official implementation's outputs, scores, queries, keys and gradients."""

import math

import pytest
import torch

from naf.upsamplers.naf import NAF, NeighborhoodGuidance
from tests.helpers import golden_cases, relative_error, small

BACKENDS = ("reference", "blocked")
NAF_CASES = golden_cases("naf")
LIMIT = 2e-5


def load(fill, path, **config):
    meta, tensors, state = fill.load_case(path)
    upsampler = NAF(**meta["config"], **config).eval()
    upsampler.load_state_dict(state, strict=True)
    return upsampler, meta, tensors, tuple(meta["output_size"])


@pytest.mark.parametrize("path", NAF_CASES)
def test_state_dict_has_exactly_the_official_keys_and_shapes(fill, path):
    meta, _, _ = fill.load_case(path)
    with torch.device("meta"):
        own = NAF(**meta["config"]).state_dict()
    assert {name: list(tensor.shape) for name, tensor in own.items()} == meta["manifest"]


# With and without autograd the encoder takes different paths on the CPU.
@pytest.mark.parametrize("with_autograd", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize("path", NAF_CASES)
def test_every_backend_gives_the_official_output(fill, path, with_autograd):
    upsampler, meta, tensors, output_size = load(fill, path)
    with torch.set_grad_enabled(with_autograd):
        guidance = upsampler.encode(tensors["image"], output_size, tensors["features"].shape[2:])
        for backend in BACKENDS:
            same = NeighborhoodGuidance(guidance.queries, guidance.keys, guidance.neighborhood, backend)
            out = same.upsample(tensors["features"])
            assert out.requires_grad == (with_autograd and guidance.queries.requires_grad)
            assert fill.error(meta, tensors, out) <= LIMIT, backend

    probe, order = meta["probe"], slice(None) if guidance.order is None else guidance.order.argsort()
    rows, cols = torch.tensor(probe["query_rows"]), torch.tensor(probe["query_cols"])
    queries = guidance.queries.permute(0, 1, 4, 2, 3).flatten(1, 2)[:, order]
    assert relative_error(queries[:, :, rows][..., cols], tensors["probe_queries"]) <= LIMIT
    rows, cols = torch.tensor(probe["key_rows"]), torch.tensor(probe["key_cols"])
    keys = guidance.keys.permute(0, 1, 4, 2, 3).flatten(1, 2)[:, order]
    assert relative_error(keys[:, :, rows][..., cols], tensors["probe_keys"]) <= LIMIT


@pytest.mark.parametrize("path", golden_cases("naf"))
def test_the_kernels_give_the_official_output(fill, path):
    pytest.importorskip("triton")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    upsampler, meta, tensors, output_size = load(fill, path, backend="triton")
    if device == "cpu" and math.prod(output_size) > 1000:
        pytest.skip("too large for Triton's interpreter; runs where a CUDA device is")
    inputs = (tensors[name].to(device) for name in ("image", "features"))
    with torch.no_grad():
        out = upsampler.to(device)(*inputs, output_size)
    # On CUDA the encoder's convolutions may be TF32, PyTorch's default.
    assert fill.error(meta, tensors, out.cpu()) <= (LIMIT if device == "cpu" else 1e-2)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", golden_cases("naf", return_weights=True))
def test_return_weights_gives_the_official_scores(fill, path, backend):
    upsampler, meta, tensors, output_size = load(fill, path, backend=backend)
    with torch.no_grad():
        out, scores = upsampler(tensors["image"], tensors["features"], output_size, return_weights=True)
    assert fill.error(meta, tensors, out) <= LIMIT
    assert relative_error(scores, tensors["scores"]) <= LIMIT


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", golden_cases("naf", case="gradients"))
def test_gradients_are_the_official_ones(fill, path, backend):
    upsampler, meta, tensors, output_size = load(fill, path, backend=backend)
    image, features = tensors["image"].requires_grad_(), tensors["features"].requires_grad_()
    out = upsampler(image, features, output_size)
    assert fill.error(meta, tensors, out) <= LIMIT
    (out * tensors["loss_weights"]).sum().backward()
    assert relative_error(image.grad, tensors["grad_image"]) <= 1e-4
    assert relative_error(features.grad, tensors["grad_features"]) <= 1e-4
    norms = {name.removeprefix("grad_norm."): norm for name, norm in tensors.items() if name.startswith("grad_norm.")}
    parameters = dict(upsampler.named_parameters())
    assert norms.keys() == parameters.keys()
    # The bias before a group norm of one channel a group has no gradient but rounding: an absolute floor.
    floor = 1e-6 * max(norm.item() for norm in norms.values())
    for name, norm in norms.items():
        assert parameters[name].grad.norm().item() == pytest.approx(norm.item(), rel=1e-4, abs=floor), name


@pytest.mark.parametrize("path", [*golden_cases("nearest"), *golden_cases("bilinear")])
def test_interpolation_gives_the_official_output(fill, path):
    meta, tensors, state = fill.load_case(path)
    assert not state
    output_size = tuple(meta["output_size"])
    out = small(meta["kind"])(tensors.get("image"), tensors["features"], output_size)
    assert fill.error(meta, tensors, out) <= meta["tolerance"]
