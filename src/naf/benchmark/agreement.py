"""Whether an attention backend gives the reference's values and gradients, on a random sample of settings."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from naf.ops.attention import Backend, neighborhood_attention
from naf.ops.neighborhood import Rule, make_neighborhood

TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 4e-3}
"""Greatest difference over the greatest value of the reference."""


@dataclass(frozen=True)
class Case:
    """A setting of the attention.

    Attributes:
        grid: coarse grid (h, w).
        output_size: (Ho, Wo).
        kernel: k.
        rule: where the ratio is no integer.
        heads: of queries, keys and values.
        key_dim: of a head's queries and keys.
        value_dim: of a head's values.
        batch: images.
        dtype: of all operands.
    """

    grid: tuple[int, int]
    output_size: tuple[int, int]
    kernel: int
    rule: Rule
    heads: int
    key_dim: int
    value_dim: int
    batch: int
    dtype: str


@dataclass(frozen=True)
class Agreement:
    """How far a case is from the reference, which is computed in float64 from the same rounded operands.

    Attributes:
        case: the setting.
        errors: greatest difference over the greatest value: of the output and the gradients of q, k, v.
        failure: what was raised, empty if nothing.
    """

    case: Case
    errors: dict[str, float]
    failure: str = ""

    @property
    def excess(self) -> float:
        """Worst error over the tolerance of the dtype; above 1 is too far."""
        return max(self.errors.values()) / TOLERANCE[self.case.dtype] if self.errors else math.inf

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def sample_cases(count: int, seed: int = 0) -> list[Case]:
    """Integer and other ratios, odd sizes, kernels 3 to 15, heads 1 to 8, head dims 8 to 192, batch 1 to 3."""
    draw = random.Random(seed)  # noqa: S311 (no secret)
    cases = []
    for index in range(count):
        grid = draw.randint(2, 20), draw.randint(2, 20)
        if index % 2:
            ratio = draw.choice((1, 2, 3, 4, 7, 8))
            size = grid[0] * ratio, grid[1] * ratio
        else:
            size = draw.randint(grid[0], 6 * grid[0]) | 1, draw.randint(grid[1], 6 * grid[1]) | 1
        cases.append(
            Case(
                grid=grid,
                output_size=size,
                kernel=draw.choice(range(3, 17, 2)),
                rule=draw.choice(("official", "cell")),
                heads=draw.choice((1, 2, 3, 4, 6, 8)),
                key_dim=draw.choice((8, 16, 24, 32, 48, 64, 96, 128, 192)),
                value_dim=draw.choice((8, 13, 21, 32, 64, 96, 128, 192)),
                batch=draw.randint(1, 3),
                dtype=tuple(TOLERANCE)[index % len(TOLERANCE)],
            )
        )
    return cases


def check_case(case: Case, backend: Backend, device: torch.device, seed: int = 0) -> Agreement:
    """Values and gradients of one setting; whatever the backend raises is told."""
    dtype: torch.dtype = getattr(torch, case.dtype)
    generator = torch.Generator().manual_seed(seed)

    def randn(rows: int, cols: int, dim: int) -> Tensor:
        shape = (case.batch, case.heads, rows, cols, dim)
        return torch.randn(shape, generator=generator).to(dtype).to(device)

    operands = {
        "q": randn(*case.output_size, case.key_dim),
        "k": randn(*case.grid, case.key_dim),
        "v": randn(*case.grid, case.value_dim),
    }
    weight = randn(*case.output_size, case.value_dim)
    try:
        ours = _values_and_gradients(case, backend, operands, weight)
    except Exception as error:  # a kernel may fail in any way, and the other cases are to be seen
        return Agreement(case, {}, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
    exact = {name: x.double() for name, x in operands.items()}
    expected = _values_and_gradients(case, "reference", exact, weight.double())
    errors = {name: _difference(ours[name], expected[name]) for name in ours}
    odd = [name for name, error in errors.items() if not math.isfinite(error)]
    return Agreement(case, {}, f"{odd[0]} is not finite") if odd else Agreement(case, errors)


def _values_and_gradients(
    case: Case, backend: Backend, operands: dict[str, Tensor], weight: Tensor
) -> dict[str, Tensor]:
    leaves = {name: x.clone().requires_grad_() for name, x in operands.items()}
    neighborhood = make_neighborhood(case.grid, case.output_size, case.kernel, case.rule)
    out = neighborhood_attention(**leaves, neighborhood=neighborhood, scale=case.key_dim**-0.5, backend=backend)
    out.backward(weight)
    gradients = {f"gradient of {name}": x.grad for name, x in leaves.items() if x.grad is not None}
    return {"output": out.detach(), **gradients}


def _difference(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
