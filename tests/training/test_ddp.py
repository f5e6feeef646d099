"""Several processes train as one does with the same images a step."""

import pytest

from naf.configs.compose import plain
from naf.training.datamodule import share_out, whole_shares
from naf.training.plan import StepPlan
from naf.training.run import run
from naf.training.sampler import Ticket
from naf.training.trainer import make_trainer
from tests.training.tiny_run import assert_same, load, losses, quiet_console


def test_two_processes_have_the_losses_of_one(tmp_path, command):
    said = command.process.stdout.decode()
    assert (command.two / "result.json").exists(), said + command.process.stderr.decode()
    assert "steps of 4 images in place of 3" in said
    run(load(tmp_path / "one", "stages.first.batch_size=4"), quiet_console())
    for key in ("train/loss", "train/grad_norm", "val/main/loss", "val/over_bilinear"):
        assert_same(losses(command.two, key), losses(tmp_path / "one", key), rel=1e-5)


def test_batches_are_raised_to_whole_shares():
    assert [whole_shares(batch, 8) for batch in (1, 4, 8, 9)] == [8, 8, 8, 16]
    assert [whole_shares(batch, 1) for batch in (1, 4)] == [1, 4]


@pytest.mark.parametrize(("name", "looks_for_unused"), [("naf", False), ("jafar", True)])
def test_parameters_of_no_effect_are_looked_for_where_there_are_some(name, looks_for_unused, tmp_path):
    values = plain(load(tmp_path / "a", f"upsampler.name={name}", "trainer.devices=2"))
    trainer = make_trainer(values, quiet_console(), 0, stop=5, total=5, validates=False)
    assert trainer.world_size == 2
    assert trainer.strategy._ddp_kwargs.get("find_unused_parameters", False) == looks_for_unused


def test_held_out_photos_are_shared_out_evenly_each_counted_once():
    plan = StepPlan(0, 0, "a", 32, 16, 32, 1, 0)
    batches = [[Ticket(plan, number, number)] for number in range(5)]
    shares = [share_out(batches, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    counted = [batch[0].photo_index for share in shares for batch in share if batch[0].index >= 0]
    assert sorted(counted) == [0, 1, 2, 3, 4]
