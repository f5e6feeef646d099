"""Linear layers on tokens against PyTorch's, in both forms."""

import pytest
import torch
from torch import nn

from naf.ops.linear import linear, normalize, project, runs_on_convolutions
from tests.helpers import randn


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("count", [1, 7])
def test_products_are_those_of_a_matrix(dtype, batch, count):
    x = randn(batch, count, 5, dtype=dtype).requires_grad_()
    weight, bias = randn(4, 5, seed=1, dtype=dtype), randn(4, seed=2, dtype=dtype)
    assert runs_on_convolutions(x) == (dtype == torch.float32)
    out = linear(x, weight, bias)
    torch.testing.assert_close(out, x @ weight.mT + bias)
    torch.testing.assert_close(linear(x, weight), x @ weight.mT)
    assert out.is_contiguous()
    (grad,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(grad, weight.sum(0).expand_as(x))


def test_autocast_and_strided_tokens_give_the_same():
    x, weight = randn(2, 5, 7).mT, randn(4, 5, seed=1)
    torch.testing.assert_close(linear(x, weight), x @ weight.mT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not runs_on_convolutions(x)
        assert linear(x, weight).dtype == torch.bfloat16


def test_layers_work_in_the_dtype_of_the_tokens():
    x = randn(2, 3, 5, dtype=torch.float64)
    dense, point, norm = nn.Linear(5, 4), nn.Conv2d(5, 4, 1, bias=False), nn.LayerNorm(5, eps=0.1)
    norm.weight.data += randn(5)
    for out in (project(x, dense), project(x, point), normalize(x, norm)):
        assert out.dtype == torch.float64
    torch.testing.assert_close(project(x, dense), dense.double()(x))
    torch.testing.assert_close(project(x, point), x @ point.weight[:, :, 0, 0].double().mT)
    torch.testing.assert_close(normalize(x, norm), norm.double()(x))
