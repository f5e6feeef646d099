"""Caching of tables that depend on sizes alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
T = TypeVar("T")


def cached_table(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator: an LRU cache whose tensors are plain CPU tensors, whoever asked first.

    A table first made under `inference_mode` could not be saved for a backward pass later, and one made under a
    default device would lie on that.
    """

    def decorate(make: Callable[P, T]) -> Callable[P, T]:
        @lru_cache(maxsize=maxsize)
        @wraps(make)
        def make_plain(*args: P.args, **kwargs: P.kwargs) -> T:
            with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
                return make(*args, **kwargs)

        return cast("Callable[P, T]", make_plain)

    return decorate
