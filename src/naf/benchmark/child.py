"""Work in a process of its own, so that memory is that of the work alone and a crash stops nothing else.

The child says that it is ready, reads one request as JSON from its standard input, and answers with lines of JSON. The
parent watches its memory and time, and ends it where a limit is passed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Literal

import torch
import torch.nn.functional as F

from naf.benchmark.measure import resident_mib
from naf.benchmark.point import Effort, Point, forward_peak, measure_point

_POLL_SECONDS = 0.02
_SLACK_MIB = 64.0  # of code that is loaded when it is first called, and the like
_ENDED = {"memory": "it took more memory than the limit", "time": "it took too long"}
_CODE = "from naf.benchmark.child import main; main()"


Reason = Literal["memory", "time", "error"]


@dataclass
class Answer:
    """What a child said.

    Attributes:
        values: fields of all its answers together.
        failure: why it did not end well in words, empty if it did.
        reason: the same in one word, as far as can be told; None if it ended well.
    """

    values: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    reason: Reason | None = None


def run_in_child(
    task: str, point: Point, effort: Effort | None = None, *, memory_mib: float | None = None, timeout_s: float = 3600.0
) -> Answer:
    """Measure a point in a fresh process.

    Args:
        task: "point" (:func:`naf.benchmark.point.measure_point`) or "peak" (:func:`forward_peak`).
        point: what to measure.
        effort: for "point".
        memory_mib: limit of memory. CUDA: of the allocator, exact. CPU: resident, above what the process takes before
            the work; it is watched where the system tells the memory of other processes, with a little slack, so that
            a process that ends may have taken somewhat more.
        timeout_s: when to give up, s.
    """
    request = {
        "task": task,
        "point": point.as_dict(),
        "effort": None if effort is None else asdict(effort),
        "memory_mib": memory_mib,
        "threads": torch.get_num_threads(),
    }
    is_cpu = torch.device(point.device).type == "cpu"
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603 (our own code)
            [sys.executable, "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is the parent's: it ends the child
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            if child.stdout.readline():
                start = resident_mib(child.pid) or 0.0
                child.stdin.write(json.dumps(request))
                child.stdin.close()
                limit = None if memory_mib is None or not is_cpu else start + 1.05 * memory_mib + _SLACK_MIB
                ended: Reason | None = _watch(child, limit, time.monotonic() + timeout_s)
            else:
                ended = None
        finally:
            if child.poll() is None:
                child.kill()
        return _answer(child.stdout.read(), ended, child.wait(), errors)


def main() -> None:
    """The child's side."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints goes to standard error
    _load_libraries()
    print("ready", file=answers, flush=True)
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    point = Point(**request["point"])
    device = torch.device(point.device)
    try:
        if device.type == "cuda" and request["memory_mib"] is not None:
            total = torch.cuda.get_device_properties(device).total_memory / (1 << 20)
            torch.cuda.set_per_process_memory_fraction(min(1.0, request["memory_mib"] / total), device)
        work = (
            iter([forward_peak(point)])
            if request["task"] == "peak"
            else measure_point(point, Effort(**request["effort"]))
        )
        for values in work:
            print(json.dumps(values, allow_nan=False), file=answers, flush=True)
    except (ValueError, RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        words = str(error).strip().partition("\n")[0]
        reason = "memory" if _is_out_of_memory(error) else "error"
        failure = {"failure": f"{type(error).__name__}: {words}", "reason": reason}
        print(json.dumps(failure), file=answers, flush=True)


def _load_libraries() -> None:
    """Their code and buffers shall not count as the work's."""
    maps = torch.randn(1, 16, 32, 32)
    F.interpolate(F.conv2d(maps, torch.randn(16, 16, 3, 3)), size=(64, 64), mode="bilinear")
    torch.bmm(maps[0], maps[0])


def _is_out_of_memory(error: Exception) -> bool:
    # The CPU's allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error)


def _watch(child: subprocess.Popen[str], limit_mib: float | None, deadline: float) -> Reason | None:
    """Wait for the end; kill at a limit and say which."""
    while True:
        try:
            child.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if limit_mib is not None and (resident_mib(child.pid) or 0.0) > limit_mib:
                child.kill()
                return "memory"
            if time.monotonic() > deadline:
                child.kill()
                return "time"
        else:
            return None


def _answer(text: str, ended: Reason | None, status: int, errors: IO[str]) -> Answer:
    answer = Answer()
    for line in text.splitlines():
        try:
            answer.values.update(json.loads(line))
        except ValueError:  # cut off by the end of the process
            break
    answer.failure = answer.values.pop("failure", "")
    answer.reason = answer.values.pop("reason", None)
    if ended is not None:
        answer.failure = "ended: " + _ENDED[ended]
        answer.reason = ended
    elif status == -signal.SIGKILL:
        answer.failure, answer.reason = "killed by the system, as it does when memory runs out", "memory"
    elif status and not answer.failure:
        errors.seek(0)
        last = (errors.read().strip().splitlines() or [f"status {status}"])[-1]
        answer.failure, answer.reason = f"the process ended with {last}", "error"
    return answer
