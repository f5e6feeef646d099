"""What hand-written backward passes share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Backward = Callable[..., Any]


def backward_pass(function: Backward) -> Backward:
    """Decorator of a backward pass: differentiable once, and never in the lower precision of autocast."""

    @once_differentiable
    @wraps(function)
    def run(ctx: Any, grad_out: Tensor) -> Any:
        with torch.autocast(grad_out.device.type, enabled=False):
            return function(ctx, grad_out)

    return run


def savable(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as a backward pass can save them: copies of those that an `inference_mode` block made."""
    # A compiler knows no inference tensors.
    if not torch.is_grad_enabled() or torch.compiler.is_dynamo_compiling():
        return tensors
    return tuple(x.clone() if x.is_inference() else x for x in tensors)
