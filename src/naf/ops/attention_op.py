"""Which backend runs, and the attention as one operator that a compiler takes as it is.

Eager calls go to the backends' autograd functions. `torch.compile` sees the operators ``naf::attention`` and
``naf::attention_backward`` instead, which rebuild the tables from sizes: no table becomes a constant of a graph, and
tiles are not unrolled into it. `torch.export` traces plain operators, so that programs run where naf is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from naf.ops.attention_blocked import BlockedAttention
from naf.ops.attention_window import WindowAttention, pays
from naf.ops.neighborhood import Axis, Neighborhood
from naf.ops.sliding import sliding_window
from naf.ops.triton_device import has_triton

Backend = Literal["auto", "reference", "blocked", "window", "triton"]

_ARGUMENTS = "Tensor q, Tensor k, Tensor v, SymInt[] rows, SymInt[] cols, str rule, float extent, float scale"


def attend(q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood, scale: float, backend: Backend) -> Tensor:
    """Attention by tiles, on the backend that is asked for or that fits.

    Args:
        q: queries, (B, n, Ho, Wo, d).
        k: keys, (B, n, h, w, d).
        v: values, (B, n, h, w, e) or (B, 1, h, w, e).
        neighborhood: which coarse cells each output pixel attends to.
        scale: factor on q·k.
        backend: any but "reference".

    Returns:
        As :func:`naf.ops.attention.neighborhood_attention`.

    Raises:
        ValueError: if Triton is asked for and cannot run, or "window" and the output grid is not that of the values.
    """
    if backend == "window" and sliding_window(neighborhood) is None:
        raise ValueError(
            f"backend is 'window' and the neighborhoods are those of an output {neighborhood.output_size} on a grid "
            f"{neighborhood.grid}, expected windows that slide on one grid (ratio 1); 'blocked' takes any"
        )
    if torch.compiler.is_dynamo_compiling() and neighborhood.axes is not None:
        rows, cols = neighborhood.axes
        sizes = [[axis.fine, axis.coarse, axis.start, axis.stop] for axis in (rows, cols)]
        return _attention(q, k, v, *sizes, rows.rule, float(rows.extent), scale, backend)  # type: ignore[no-any-return]
    if torch.compiler.is_compiling() and backend in ("auto", "window"):
        backend = "blocked"  # an export: there is no memory that a kernel or a view across rows could read
    records = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    function = _function(q, k, v, neighborhood, backend, records)
    return function.apply(q, k, v, neighborhood, scale)  # type: ignore[no-any-return]


def _function(q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood, backend: str, records: bool) -> Any:
    """The autograd function that serves these operands; `records` says whether a backward pass will follow."""
    if backend == "window" or (backend == "auto" and pays(q, neighborhood)):
        return WindowAttention
    if backend == "blocked" or (backend == "auto" and not has_triton(q.device)):
        return BlockedAttention
    if find_spec("triton") is None:
        raise ValueError(
            "backend is 'triton', expected 'auto', 'blocked' or 'window': the package triton is not installed"
        )
    from naf.ops import attention_triton  # only now: slow to import, and needed on few machines

    if q.device.type != "cuda" and not attention_triton.is_interpreted():
        raise ValueError(
            f"backend is 'triton' and the tensors are on {q.device}, expected a CUDA device; Triton's interpreter runs "
            "anywhere, slowly, where the environment has TRITON_INTERPRET=1"
        )
    if sliding_window(neighborhood) is not None:
        from naf.ops import attention_window_triton  # likewise

        if attention_window_triton.serves(q, k, v, neighborhood):
            return attention_window_triton.WindowTritonAttention
    if records and torch.are_deterministic_algorithms_enabled():
        return BlockedAttention  # the kernels add up gradients in any order
    serves = attention_triton.serves(q, k, v, neighborhood)
    return attention_triton.TritonAttention if serves else BlockedAttention


def _rebuild(rows: Sequence[int], cols: Sequence[int], rule: str, extent: float) -> Neighborhood:
    axes = [Axis(fine, coarse, rule, extent, start, stop) for fine, coarse, start, stop in (rows, cols)]
    return Neighborhood((rows[1], cols[1]), *axes)


def _prepare(q: Tensor, k: Tensor, v: Tensor, neighborhood: Neighborhood, backend: str) -> None:
    """Put tables on the device while a graph is traced: made during a capture, they would lie in its memory pool."""
    function = _function(q, k, v, neighborhood, backend, False)
    if function not in (BlockedAttention, WindowAttention):
        from naf.ops.attention_triton import TritonAttention, device_tiles

        if function is TritonAttention:
            device_tiles(neighborhood, q.device)


@torch.library.custom_op("naf::attention", mutates_args=(), schema=f"({_ARGUMENTS}, str backend) -> Tensor")
def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Sequence[int],
    cols: Sequence[int],
    rule: str,
    extent: float,
    scale: float,
    backend: str,
) -> Tensor:
    neighborhood = _rebuild(rows, cols, rule, extent)
    records = any(x.requires_grad for x in (q, k, v))
    with torch.no_grad(), torch.autocast(q.device.type, enabled=False):
        function = _function(q, k, v, neighborhood, backend, records)
        return function.apply(q, k, v, neighborhood, scale)  # type: ignore[no-any-return]


@_attention.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Sequence[int],
    cols: Sequence[int],
    rule: str,
    extent: float,
    scale: float,
    backend: str,
) -> Tensor:
    del scale
    if q.device.type == "cuda" and all(isinstance(size, int) for size in (*rows, *cols)):
        _prepare(q, k, v, _rebuild(rows, cols, rule, extent), backend)
    return v.new_empty(q.shape[0], q.shape[2], q.shape[3], v.shape[1], v.shape[4]).permute(0, 3, 1, 2, 4)


@torch.library.custom_op(
    "naf::attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad_out, {_ARGUMENTS}, str backend, bool[] needs) -> (Tensor, Tensor, Tensor)",
)
def _attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Sequence[int],
    cols: Sequence[int],
    rule: str,
    extent: float,
    scale: float,
    backend: str,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    neighborhood = _rebuild(rows, cols, rule, extent)
    function = _function(q, k, v, neighborhood, backend, True)
    with torch.no_grad(), torch.autocast(q.device.type, enabled=False):
        found = function.gradients(grad_out, q, k, v, neighborhood, scale, needs)
    grads = _empty_gradients(q, k, v, needs)
    for grad, made in zip(grads, found, strict=True):
        if made is not None:
            grad.copy_(made)
    return grads


def _empty_gradients(q: Tensor, k: Tensor, v: Tensor, needs: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the gradients, laid out as their tensors; nothing where none is needed."""
    first, second, third = (
        torch.empty_like(x) if needed else x.new_empty(0) for x, needed in zip((q, k, v), needs, strict=True)
    )
    return first, second, third


@_attention_backward.register_fake
def _(grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    del grad_out
    return _empty_gradients(q, k, v, others[-1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs[:3])
    ctx.others = inputs[3:]


def _differentiate(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:3]
    grads = _attention_backward(grad_out, *ctx.saved_tensors, *ctx.others, list(needs))
    return (*(grad if needed else None for grad, needed in zip(grads, needs, strict=True)), *[None] * len(ctx.others))


_attention.register_autograd(_differentiate, setup_context=_save)
