"""Caching of tables that depend on sizes alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
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
            with ExitStack() as stack:
                if torch.compiler.is_compiling():
                    # Slow to import, and there already where something is traced.
                    from torch._subclasses.fake_tensor import unset_fake_temporarily
                    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

                    # Values are needed now: torch.export shall see finished tables, not their making.
                    stack.enter_context(torch._C.DisableTorchFunction())
                    stack.enter_context(unset_fake_temporarily())
                    stack.enter_context(disable_proxy_modes_tracing())
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.no_grad())
                stack.enter_context(torch.device("cpu"))
                return make(*args, **kwargs)

        return cast("Callable[P, T]", make_plain)

    return decorate
