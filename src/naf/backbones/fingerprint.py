"""What a backbone is, in a hash: stored features are of one and no other."""

from __future__ import annotations

import hashlib

import torch

from naf.backbones.base import Backbone
from naf.data.digest import add_tensors

# Attributes of backbones that running them may change, or that do not matter to features.
_CHANGING = {"training", "note", "channels", "has_norm"}


def fingerprint_of(backbone: Backbone) -> str:
    """Hash of all that a backbone's features depend on: its class, its settings and its weights."""
    digest = hashlib.sha256(f"{type(backbone).__module__}.{type(backbone).__qualname__};".encode())
    settings = {"name": backbone.name, "stride": backbone.stride, "fixed_size": backbone.fixed_size, **vars(backbone)}
    for name, value in sorted(settings.items()):
        is_plain = value is None or isinstance(value, str | int | float | tuple | torch.dtype)
        if is_plain and not name.startswith("_") and name not in _CHANGING:
            digest.update(f"{name}={value!r};".encode())
    digest.update(repr(backbone).encode())  # what its modules are set to: strides, dilations, paddings
    add_tensors(digest, (*backbone.named_parameters(), *backbone.named_buffers()))
    return digest.hexdigest()
