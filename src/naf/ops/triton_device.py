"""Where the Triton kernels run."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor


def uses_triton(*tensors: Tensor) -> bool:
    """Whether Triton kernels take these tensors: on CUDA, eagerly, in float32 or half precision.

    A compiler fuses plain layers by itself, and float64 is for checks.
    """
    return (
        all(x.device.type == "cuda" and x.dtype in (torch.float32, torch.bfloat16, torch.float16) for x in tensors)
        and not torch.compiler.is_compiling()
        and _has_triton()
    )


def product_dtype(x: Tensor) -> Any:
    """Triton's type for the operands of a product on x: its own; float32 on the CPU for bfloat16.

    Triton's interpreter, which alone runs there, multiplies the bits of bfloat16 as integers.
    """
    import triton.language as tl

    names = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
    return tl.float32 if x.device.type == "cpu" else names[x.dtype]


def processors(x: Tensor) -> int:
    """How many programs run at once where x lies, at the least."""
    return torch.cuda.get_device_properties(x.device).multi_processor_count if x.device.type == "cuda" else 1


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
