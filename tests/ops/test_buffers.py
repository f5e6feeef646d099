"""Large buffers are plain tensors, whatever the system says to large pages."""

import pytest
import torch

from naf.ops import buffers
from naf.ops.buffers import new_buffer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5), (5, 1 << 20), (0, 4)])
def test_a_buffer_has_the_shape_and_dtype_asked_for_and_holds_what_is_written(shape, dtype):
    buffer = new_buffer(shape, dtype, torch.device("cpu"))
    assert buffer.shape == shape
    assert buffer.dtype == dtype
    assert buffer.is_contiguous()
    assert (buffer.fill_(3) == 3).all()


def test_the_advice_covers_whole_pages_within_the_buffer_alone(monkeypatch):
    calls = []
    monkeypatch.setattr(buffers, "_advise", lambda: lambda *call: calls.append(call) or 0)
    buffer = new_buffer((5, 1 << 20), torch.float32, torch.device("cpu"))
    ((start, size, _),) = calls
    assert start % buffers.mmap.PAGESIZE == 0
    assert buffer.data_ptr() <= start
    assert start + size == buffer.data_ptr() + buffer.nbytes
    new_buffer((5, 10), torch.float32, torch.device("cpu"))
    assert len(calls) == 1


def test_a_system_without_large_pages_is_served(monkeypatch):
    monkeypatch.setattr(buffers, "_ADVICE", None)
    buffers._advise.cache_clear()
    try:
        assert (new_buffer((3 << 20,), torch.float32, torch.device("cpu")).zero_() == 0).all()
    finally:
        buffers._advise.cache_clear()
