"""Where the Triton kernels run."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

LAUNCH = {"enable_fp_fusion": True}
"""Arguments of every launch: a*b + c in one step, as the reference on a GPU does; Triton asks that this be said."""


def uses_triton(*tensors: Tensor) -> bool:
    """Whether Triton kernels take these tensors: on CUDA (Ampere or newer), eagerly, in float32 or half precision.

    A compiler fuses plain layers by itself, and float64 is for checks.
    """
    if torch.compiler.is_compiling():
        return False
    return all(has_triton(x.device) and x.dtype in (torch.float32, torch.bfloat16, torch.float16) for x in tensors)


@cache
def has_triton(device: torch.device) -> bool:
    """Whether the kernels run on a device: CUDA, Ampere or newer, with Triton installed."""
    if device.type != "cuda" or torch.version.cuda is None or find_spec("triton") is None:
        return False  # ROCm too calls its devices "cuda"; nobody has run the kernels there
    return torch.cuda.get_device_capability(device)[0] >= 8


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
