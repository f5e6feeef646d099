"""Wall-clock time and peak memory of a piece of work."""

from __future__ import annotations

import ctypes
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    On the CPU freed memory goes back to the system first: a block that it would serve seemed to need less. On Linux
    the process's high-water mark is reset, so the peak is that of the block alone. Elsewhere it is the highest since
    the process began.
    """
    device = torch.device(device)
    usage = Usage()
    is_cuda = device.type == "cuda"
    synchronize(device)
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / _MIB
    else:
        _release_freed_memory()
        _reset_peak()
        before = resident_mib() or _peak_mib()
    start = time.perf_counter()
    try:
        yield usage
    finally:
        synchronize(device)
        usage.seconds = time.perf_counter() - start
        usage.peak_mib = torch.cuda.max_memory_allocated(device) / _MIB if is_cuda else _peak_mib()
        usage.above_mib = max(0.0, usage.peak_mib - before)


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def machine(device: torch.device) -> dict[str, Any]:
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


def resident_mib(pid: int | str = "self") -> float | None:
    """Resident memory of a process in MiB, None where the system does not tell."""
    return _status_mib("VmRSS:", pid)


def available_mib() -> float | None:
    """Memory that processes could still take, MiB; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _release_freed_memory() -> None:
    """Where glibc is."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, TypeError, AttributeError):
        return


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # another system, or not permitted: the peak is then since the process began
        return


def _status_mib(key: str, pid: int | str = "self") -> float | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key)), None)


def _peak_mib() -> float:
    peak = _status_mib("VmHWM:")
    if peak is None:
        import resource  # not on every system

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (_MIB if sys.platform == "darwin" else 1024)
    return peak
