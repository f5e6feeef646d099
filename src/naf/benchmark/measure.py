"""Wall-clock time and peak memory of a piece of work."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_MIB = 1 << 20


@dataclass
class Usage:
    """What a piece of work took; filled when the `with` block ends.

    Attributes:
        seconds: wall-clock time.
        peak_mib: highest memory of the process (CPU: resident; CUDA: allocated on the device), MiB.
        above_mib: the same above what was in use before, MiB.
    """

    seconds: float = 0.0
    peak_mib: float = 0.0
    above_mib: float = 0.0


@contextmanager
def measure(device: torch.device | str = "cpu") -> Iterator[Usage]:
    """Measure the block that follows, on a device.

    On Linux the process's high-water mark is reset first, so the peak is that of the block alone. Elsewhere it is
    the highest since the process began.
    """
    device = torch.device(device)
    usage = Usage()
    is_cuda = device.type == "cuda"
    if is_cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / _MIB
    else:
        _reset_peak()
        before = _resident_mib()
    start = time.perf_counter()
    try:
        yield usage
    finally:
        if is_cuda:
            torch.cuda.synchronize(device)
        usage.seconds = time.perf_counter() - start
        usage.peak_mib = torch.cuda.max_memory_allocated(device) / _MIB if is_cuda else _peak_mib()
        usage.above_mib = max(0.0, usage.peak_mib - before)


def machine(device: torch.device) -> dict[str, object]:
    """What a report says of where it was measured."""
    return {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    """Name of the CPU, as far as the system tells."""
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123 (a stream, not a file to be read whole)
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # another system, or not permitted: the peak is then since the process began
        return


def _status_mib(key: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key)), None)


def _peak_mib() -> float:
    peak = _status_mib("VmHWM:")
    if peak is None:
        import resource  # not on every system

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (_MIB if sys.platform == "darwin" else 1024)
    return peak


def _resident_mib() -> float:
    resident = _status_mib("VmRSS:")
    return _peak_mib() if resident is None else resident
