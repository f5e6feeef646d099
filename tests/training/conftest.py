"""One thread for tiny tensors, and the runs that need processes of their own."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from tests.training.tiny_run import FAULTY, overrides


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Several threads wait for each other longer than they work here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """The sweep `naf train -m trainer.devices=2,1`, killed at step 3 of the run in one process.

    One command for all tests, since beginning a process takes seconds.

    Returns:
        `two` and `killed`, the folders of the runs, and `process`, completed.
    """
    folder = tmp_path_factory.mktemp("processes")
    script = folder / "command.py"  # Lightning begins the second process with the command line of the first
    script.write_text("import torch\ntorch.set_num_threads(1)\nfrom naf.cli import main\nmain()\n")
    arguments = overrides(folder / "runs", FAULTY, "stages.first.batch_size=3", "trainer.devices=2,1")
    process = subprocess.run(
        [sys.executable, script, "train", "-m", *arguments],
        capture_output=True,
        env={**os.environ, "KILLED_AT": "3"},
        timeout=900,
    )
    two, killed = (folder / "runs" / f"trainer.devices={devices}" for devices in (2, 1))
    return SimpleNamespace(two=two, killed=killed, process=process)
