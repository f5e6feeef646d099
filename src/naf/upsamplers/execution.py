"""Which dtype a method works in, and whether it may take its lean path."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def parameter_dtype(module: nn.Module) -> torch.dtype:
    """The dtype of the first parameter, float32 where there is none."""
    for parameter in module.parameters():  # as a loop, which every compiler takes
        return parameter.dtype
    return torch.float32


def working_dtype(module: nn.Module, device: torch.device) -> torch.dtype:
    """The parameters' dtype; float32 for half precision on the CPU, where few cores compute in it at any speed."""
    dtype = parameter_dtype(module)
    return torch.float32 if device.type == "cpu" and dtype.itemsize == 2 else dtype


def lean_dtype(module: nn.Module, device: torch.device) -> torch.dtype:
    """The dtype of a network's maps on its lean path: as :func:`working_dtype`, but bfloat16 where the CPU has it."""
    dtype = parameter_dtype(module)
    # torch.cpu offers no public name for this.
    has_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return dtype if dtype is torch.bfloat16 and has_bfloat16 else working_dtype(module, device)


def wants_grad(module: nn.Module, *inputs: Tensor) -> bool:
    """Whether autograd records what the module does with the inputs."""
    leaves = (*inputs, *module.parameters())
    return torch.is_grad_enabled() and any(x.requires_grad for x in leaves)


def needs_plain_layers(module: nn.Module, *inputs: Tensor) -> bool:
    """Whether autograd, autocast, a compiler or another device than the CPU calls for plain layers.

    The lean paths write into buffers band by band, which pays where a cache is small and nobody records.
    """
    return (
        wants_grad(module, *inputs)
        or any(x.device.type != "cpu" for x in inputs)
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
    )
