"""Several processes train as one does with the same images a step."""

import subprocess
import sys

from naf.training.datamodule import share_out
from naf.training.plan import StepPlan
from naf.training.run import run
from naf.training.sampler import Ticket
from tests.training.tiny_run import assert_same, load, losses, overrides, quiet_console


def test_two_processes_have_the_losses_of_one(tmp_path):
    script = tmp_path / "command.py"  # Lightning begins the second process with the command line of the first
    script.write_text("import torch\ntorch.set_num_threads(1)\nfrom naf.cli import main\nmain()\n")
    arguments = overrides(tmp_path / "two", "trainer.devices=2")
    process = subprocess.run([sys.executable, script, "train", *arguments], capture_output=True, timeout=120)
    assert process.returncode == 0, process.stderr.decode()
    run(load(tmp_path / "one"), quiet_console())
    for key in ("train/loss", "train/grad_norm", "val/main/loss", "val/over_bilinear"):
        assert_same(losses(tmp_path / "two", key), losses(tmp_path / "one", key), rel=1e-5)


def test_held_out_photos_are_shared_out_evenly_each_counted_once():
    plan = StepPlan(0, 0, "a", 32, 16, 32, 1, 0)
    batches = [[Ticket(plan, number, number)] for number in range(5)]
    shares = [share_out(batches, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    counted = [batch[0].photo_index for share in shares for batch in share if batch[0].index >= 0]
    assert sorted(counted) == [0, 1, 2, 3, 4]
