"""NAF on a CUDA device: are the kernels right, and how fast and lean is it?

    python benchmarks/gpu.py [--output out/gpu]

Compares the Triton attention with the reference (values and gradients) and the whole network with its plain layers in
float64 (queries, keys, gradients, the output of each mode), times the forward call (eager, by naf.compile and by
torch.compile), its pieces, the training step and x72, and prints beside each the least time that this device allows.
Needs the package alone, one GPU with some 20 GB, and about five minutes. Writes gpu.json and gpu.md.

Exit status: 0 if all bars are met, 1 if not, 2 where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from naf.benchmark.acceptance import FULL, SMALL, run
from naf.benchmark.acceptance_report import to_markdown
from naf.benchmark.results import write_atomically


def main() -> int:
    """Run it; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/gpu"), help="folder for gpu.json and gpu.md")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, …; cpu with --small")
    parser.add_argument("--small", action="store_true", help="a dry run at toy sizes, on any device")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() and arguments.device != "cpu":
        print("no CUDA device: PyTorch finds none. Nothing was measured.", file=sys.stderr)
        return 2
    if arguments.device == "cpu" and not arguments.small:
        parser.error("--device cpu needs --small: the CPU has `naf bench quick`")
    plan = SMALL if arguments.small else FULL
    plan = replace(plan, point=replace(plan.point, device=arguments.device))
    arguments.output.mkdir(parents=True, exist_ok=True)
    # Events time what runs on the current device.
    with nullcontext() if arguments.device == "cpu" else torch.cuda.device(arguments.device):
        report = run(plan, lambda step: print(step, file=sys.stderr, flush=True))
    text = to_markdown(report)
    write_atomically(arguments.output / "gpu.json", json.dumps(report.as_dict(), indent=1, allow_nan=False) + "\n")
    write_atomically(arguments.output / "gpu.md", text)
    print(text)
    return 0 if report.passes else 1


if __name__ == "__main__":
    sys.exit(main())
