"""A teacher whose weights follow the student's."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def frozen_copy(module: Module) -> Module:
    """A copy in evaluation mode, without gradients."""
    return copy.deepcopy(module).eval().requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """Move the teacher's parameters and buffers to the student's by a share of 1 - decay; counters are copied."""
    own = teacher.state_dict()
    for name, value in student.state_dict().items():
        if value.is_floating_point():
            own[name].lerp_(value, 1 - decay)
        else:
            own[name].copy_(value)
