"""`naf.compile`: the forward pass as one CUDA graph for each pair of sizes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch import Tensor

from naf.upsamplers.base import Guidance, Upsampler
from naf.upsamplers.checks import check_finite, pair_of_sizes, whole_number
from naf.upsamplers.execution import wants_grad

_log = logging.getLogger(__name__)

U = TypeVar("U", bound=Upsampler)
T = TypeVar("T")

Replay = Callable[[Tensor, Tensor], Tensor]


def compile(upsampler: U, *, graphs: int = 8) -> U:  # noqa: A001
    """Make an upsampler's forward pass launch as one CUDA graph.

    An upsampler launches dozens of short kernels, and on a fast GPU starting them one by one can take as long as
    running them. A CUDA graph starts them all at once. Graphs belong to sizes and dtypes: the first call with new
    ones runs as ever, the second records, later ones replay. Outputs are new tensors, the same as without.

    The rest runs as ever: training mode, calls that record gradients (so call under `torch.no_grad()` or
    `torch.inference_mode()`), `encode` and what its guidance makes, and devices other than CUDA. On the CPU that is
    meant: the upsamplers walk over bands in cache there, which `torch.compile` did not beat, and need less memory so.

    `torch.compile(upsampler)` works too, without graph breaks, and is the way where an upsampler is part of a model
    that is compiled as a whole. Inside such a model this function changes nothing.

    Replays of one upsampler share buffers: do not call it from several CUDA streams at once.

    Args:
        upsampler: any; it is changed itself, as by :meth:`torch.nn.Module.compile`. Parameters may change in value
            later; when they move or change dtype, graphs are recorded anew.
        graphs: how many are kept, at least 1, those used last. Each holds the buffers of its inputs and its output,
            and all of them one set of buffers for what lies between.

    Returns:
        The upsampler. Copies and pickles of it start without graphs.

    Raises:
        TypeError: if it is no upsampler.
        ValueError: if graphs is no positive integer.
    """
    if not isinstance(upsampler, Upsampler):
        raise TypeError(f"upsampler is a {type(upsampler).__name__}, expected a naf.Upsampler")
    upsampler.forward = GraphedForward(upsampler, whole_number("graphs", graphs, 1))  # type: ignore[method-assign]
    if not torch.cuda.is_available():
        _log.info("There is no CUDA device: the compiled upsampler runs as it did before")
    return upsampler


class GraphedForward:
    """The forward pass of an upsampler, replayed from CUDA graphs where it can be.

    Args:
        upsampler: whose forward pass.
        most: how many graphs are kept.
    """

    def __init__(self, upsampler: Upsampler, most: int) -> None:
        self.upsampler, self.most = upsampler, most
        self._replays: OrderedDict[tuple[Any, ...], Replay | None] = OrderedDict()  # None: seen once
        self._pool: Any = None

    def __call__(
        self, image: Tensor | None, features: Tensor, output_size: Sequence[int], *args: Any, **options: Any
    ) -> Any:
        """As the upsampler's own forward pass."""
        run = type(self.upsampler).forward
        if image is None or args or options or not self._may_replay(image, features):
            return run(self.upsampler, image, features, output_size, *args, **options)
        size = pair_of_sizes("output_size", output_size)
        key = self._key(image, features, size)
        if key not in self._replays:
            out = run(self.upsampler, image, features, size)  # checks the shapes, too
            self._replays[key] = None
            if len(self._replays) > self.most:
                self._replays.popitem(last=False)
            return out
        if self.upsampler.uses_image:
            check_finite("image", image)
        replay = self._replays.pop(key) or self._record(image, features, size)
        self._replays[key] = replay  # the one used last comes last
        return replay(image, features)

    def _may_replay(self, *inputs: Tensor) -> bool:
        upsampler = self.upsampler
        compiles = torch.compiler.is_compiling()
        return not (compiles or upsampler.training or wants_grad(upsampler, *inputs)) and all(map(_has_graphs, inputs))

    def _key(self, image: Tensor, features: Tensor, size: tuple[int, int]) -> tuple[Any, ...]:
        """All that a recording takes for granted: sizes, dtypes, layouts, precision, and where the parameters lie."""
        kind = image.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        inputs = [(x.shape, x.stride(), x.dtype, x.device) for x in (image, features)]
        state = (*self.upsampler.parameters(), *self.upsampler.buffers())
        return *inputs, size, autocast, *((x.data_ptr(), x.dtype) for x in state)

    def _record(self, image: Tensor, features: Tensor, size: tuple[int, int]) -> Replay:
        upsampler = self.upsampler
        try:
            # Normal tensors, also where the caller is in inference mode: later calls need not be.
            with torch.inference_mode(False), torch.no_grad(), torch.cuda.device_of(image):
                self._pool = self._pool or _new_pool()
                return _Recording(upsampler, image, features, size, self._pool)
        except RuntimeError as error:
            _log.warning("No CUDA graph of %s at %s, it runs as before: %s", type(upsampler).__name__, size, error)
            return lambda image, features: type(upsampler).forward(upsampler, image, features, size)

    def __getstate__(self) -> dict[str, Any]:
        return {"upsampler": self.upsampler, "most": self.most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        GraphedForward.__init__(self, **state)


class _Recording:
    """One graph with its buffers. All graphs of an upsampler share a pool for what is dead after a replay."""

    def __init__(self, upsampler: Upsampler, image: Tensor, features: Tensor, size: tuple[int, int], pool: Any) -> None:
        self.inputs = image.clone(), features.clone()
        kind, grid = image.device.type, (features.shape[2], features.shape[3])
        enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def forward() -> tuple[Tensor, Any]:
            with torch.autocast(kind, dtype, enabled, cache_enabled=False):  # casts of parameters are recorded, too
                guidance = upsampler._encode(self.inputs[0], size, grid)
                return guidance._upsample(self.inputs[1]), _tables(guidance, image.device)

        self.start, (self.out, self.tables) = _capture(forward, pool)

    def __call__(self, image: Tensor, features: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device_of(image):
            for buffer, value in zip(self.inputs, (image, features), strict=True):
                buffer.copy_(value)
            self.start()
            return self.out.clone()


def _has_graphs(x: Tensor) -> bool:
    return x.device.type == "cuda" and not torch.cuda.is_current_stream_capturing()


def _new_pool() -> Any:
    return torch.cuda.graph_pool_handle()


def _capture(forward: Callable[[], T], pool: Any) -> tuple[Callable[[], None], T]:
    """What starts the recorded kernels, and the result that they then fill anew."""
    graph = torch.cuda.CUDAGraph()
    # Other threads, which load data say, may use the device meanwhile.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        made = forward()
    return graph.replay, made


def _tables(guidance: Guidance, device: torch.device) -> Any:
    """The attention's tables on the device, which a recording reads and a cache might drop."""
    neighborhood = getattr(guidance, "neighborhood", None)
    if neighborhood is None or device.type != "cuda" or find_spec("triton") is None:
        return None
    from naf.ops.attention_triton import device_tiles

    return device_tiles(neighborhood.band(0, neighborhood.output_size[0]), device)
