"""The network of FeatUp's implicit upsampler: position and colour of a pixel in, its features out."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from naf.ops.fourier import fourier_code
from naf.ops.linear import normalize

_COLORS, _INPUTS = 3, 5
_DROPOUT = 0.2


class ImplicitNetwork(nn.Module):
    """Three layers on the Fourier code of (row, column, R, G, B), each pixel by itself.

    Args:
        n_freqs: frequencies of the code.
        hidden: channels of both hidden layers.
        dim: channels of the output.
    """

    def __init__(self, n_freqs: int, hidden: int, dim: int) -> None:
        super().__init__()
        code = 2 * _INPUTS * n_freqs + _COLORS
        self.phases = nn.Parameter(torch.randn(2, _INPUTS, n_freqs))
        self.code_norm = nn.LayerNorm(code)
        self.first = nn.Linear(code, hidden)
        self.hidden_norm = nn.LayerNorm(hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, dim)

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw the parameters as PyTorch would, from a generator on the CPU."""
        self.phases.copy_(torch.randn(self.phases.shape, generator=generator))
        for norm in (self.code_norm, self.hidden_norm):
            norm.reset_parameters()
        for layer in (self.first, self.second, self.last):
            bound = 1 / math.sqrt(layer.in_features)
            for parameter in (layer.weight, layer.bias):
                parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Features of pixels; arguments as :meth:`hidden`.

        Returns:
            (…, dim).
        """
        return F.linear(self.hidden(x, generator), *parameters_of(self.last, x.dtype))

    def hidden(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the last layer, which is linear, takes.

        Args:
            x: row, column, red, green, blue of pixels, (…, 5), float32 or float64; rows and columns from -1 to 1,
                colours from -0.5 to 0.5.
            generator: of the dropout of whole channels, on the CPU; None for none. The module's mode plays no part: a
                call on bands of rows would drop other channels in each.

        Returns:
            (…, hidden), dtype of x.
        """
        code = torch.cat([fourier_code(x, self.phases.to(x.dtype)), x[..., 2:]], dim=-1)
        code = _drop(normalize(code, self.code_norm), generator)
        y = _drop(F.linear(code, *parameters_of(self.first, x.dtype)).relu(), generator)
        return F.linear(normalize(y, self.hidden_norm), *parameters_of(self.second, x.dtype)).relu()


def parameters_of(layer: nn.Linear | nn.LayerNorm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias, as they are where the dtype is theirs."""
    return layer.weight.to(dtype), layer.bias.to(dtype)


def _drop(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Dropout of whole channels (the last dimension)."""
    if generator is None:
        return x
    kept = torch.rand(x.shape[-1], generator=generator) >= _DROPOUT
    return x * (kept.to(x) / (1 - _DROPOUT))
