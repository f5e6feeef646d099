"""Caching of tables that depend on sizes alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

P = ParamSpec("P")
T = TypeVar("T")


def cached_table(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator: an LRU cache whose tensors are plain CPU tensors, whoever asked first.

    A table first made under `inference_mode` could not be saved for a backward pass later, and one made under a
    default device would lie on that. A compiler takes a table as a constant of its graph.
    """

    def decorate(make: Callable[P, T]) -> Callable[P, T]:
        @lru_cache(maxsize=maxsize)
        def make_plain(*args: P.args, **kwargs: P.kwargs) -> T:
            with ExitStack() as stack:
                # Values are needed now: what traces a caller shall see finished tables, not their making.
                stack.enter_context(torch._C.DisableTorchFunction())
                stack.enter_context(unset_fake_temporarily())
                stack.enter_context(disable_proxy_modes_tracing())
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.no_grad())
                stack.enter_context(torch.device("cpu"))
                return make(*args, **kwargs)

        @wraps(make)
        def look_up(*args: P.args, **kwargs: P.kwargs) -> T:
            return make_plain(*args, **kwargs)  # type: ignore[arg-type]

        marked: Any = look_up
        marked.cache_clear = make_plain.cache_clear
        # What `torch.compiler.assume_constant_result` sets, which would import the compiler now.
        marked._dynamo_marked_constant = True
        return cast("Callable[P, T]", marked)

    return decorate
