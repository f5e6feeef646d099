"""Plans and tickets: functions of the seed and the step alone."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain

import pytest
from lightning.fabric.utilities.data import _set_sampler_epoch
from torch.utils.data import DataLoader

from naf.training.plan import Geometry, Stage
from naf.training.sampler import StepSampler, make_plan


@dataclass
class Spec:
    weight: float = 1.0
    geometry: Geometry | None = None
    stride: int = 16


# The paper's recipe (NAF, section 3.2 and B.1).
PAPER = [
    Stage(25_000, Geometry((512, 512), (0.5, 0.5)), batch_size=4),
    Stage(2_500, Geometry((1024, 1024), (0.25, 0.875)), batch_size=4),
]
SHORT = [
    Stage(7, Geometry((64, 64)), batch_size=4),
    Stage(5, Geometry((96, 160), (0.25, 1.0)), batch_size=2),
]
SOURCES = {"a": Spec(), "b": Spec(3.0, stride=8)}
SIZES = {"a": 10, "b": 3}


def tickets(world_size=1, steps_per_epoch=5, sources=SOURCES, sizes=SIZES, stages=SHORT, seed=0):
    """All tickets of a training: for each step those of rank 0, then those of rank 1, …"""
    samplers = [StepSampler(stages, sources, sizes, seed, steps_per_epoch, r, world_size) for r in range(world_size)]
    steps = []
    for epoch in range(-(-samplers[0].total_steps // steps_per_epoch)):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        steps += [list(chain.from_iterable(parts)) for parts in zip(*samplers, strict=True)]
    return steps


def test_the_papers_recipe_gives_the_papers_sizes():
    first = make_plan(24_999, PAPER, {"vit": Spec()}, seed=0)
    assert (first.stage, first.image_size, first.reduced_size, first.guidance_size) == (0, 512, 256, 128)
    second = [make_plan(step, PAPER, {"vit": Spec()}, seed=0) for step in range(25_000, 25_400)]
    assert {(plan.stage, plan.image_size, plan.guidance_size) for plan in second} == {(1, 1024, 224)}
    reduced = {plan.reduced_size for plan in second}
    assert (min(reduced), max(reduced)) == (256, 896)
    assert len(reduced) == (896 - 256) // 16 + 1


def test_sides_are_the_nearest_whole_cells_of_the_source():
    plan = make_plan(0, PAPER, {"dinov2": Spec(stride=14)}, seed=0)
    assert (plan.image_size, plan.reduced_size, plan.guidance_size) == (518, 266, 148)
    large = [Stage(1, Geometry((20, 20), (0.01, 0.01)))]
    plan = make_plan(0, large, {"coarse": Spec(stride=64)}, seed=0)
    assert (plan.image_size, plan.reduced_size, plan.guidance_size) == (64, 64, 4)


def test_fine_cells_leave_the_guidance_at_the_images_size():
    labels = Spec(stride=2, geometry=Geometry((128, 256), (0.125, 0.25)))
    for step in range(50):
        plan = make_plan(step % 12, SHORT, {"labels": labels}, seed=step)
        assert plan.guidance_size == min(plan.image_size, 224)
        assert 128 <= plan.image_size <= 256
        assert plan.image_size % 2 == plan.reduced_size % 2 == 0
        assert plan.image_size / 8 - 1 <= plan.reduced_size <= plan.image_size / 4 + 1


def test_a_plan_depends_on_seed_and_step_alone():
    plans = [make_plan(step, SHORT, SOURCES, seed=5) for step in range(12)]
    assert plans == [make_plan(step, SHORT, dict(reversed(SOURCES.items())), seed=5) for step in range(12)]
    assert plans != [make_plan(step, SHORT, SOURCES, seed=6) for step in range(12)]
    assert len({plan.seed for plan in plans}) == 12


def test_sources_are_drawn_in_proportion_to_their_weights():
    sources = {"a": Spec(1.0), "b": Spec(3.0), "never": Spec(0.0)}
    drawn = Counter(make_plan(step, PAPER, sources, seed=0).source for step in range(4000))
    assert set(drawn) == {"a", "b"}
    assert drawn["b"] == pytest.approx(3000, abs=150)  # five standard deviations


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_global_batch_is_the_same_for_any_number_of_processes(world_size):
    stages = [replace(stage, batch_size=4) for stage in SHORT]
    alone = tickets(stages=stages)
    assert tickets(world_size, stages=stages) == alone
    assert all([ticket.index for ticket in step] == list(range(4)) for step in alone)


def test_steps_do_not_depend_on_the_length_of_epochs_and_the_last_may_be_short():
    steps = tickets(steps_per_epoch=5)
    assert [step[0].plan.step for step in steps] == list(range(12))
    assert steps == tickets(steps_per_epoch=12) == tickets(steps_per_epoch=100)
    sampler = StepSampler(SHORT, SOURCES, SIZES, 0, 5)
    lengths = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        lengths.append(len(sampler))
    assert lengths == [5, 5, 2, 0]


def test_stages_follow_each_other_with_their_own_batches():
    steps = tickets()
    assert [step[0].plan.stage for step in steps] == [0] * 7 + [1] * 5
    assert [len(step) for step in steps] == [4] * 7 + [2] * 5


def test_photos_are_shuffled_without_replacement_over_the_ends_of_epochs_and_stages():
    order = [t.photo_index for step in tickets(sources={"a": Spec()}, sizes={"a": 19}) for t in step]
    assert len(order) == 38
    first, second = order[:19], order[19:]
    assert sorted(first) == sorted(second) == list(range(19))
    assert first != second
    assert first != sorted(first)
    other = [t.photo_index for step in tickets(sources={"a": Spec()}, sizes={"a": 19}, seed=1) for t in step]
    assert other != order


def test_lightning_sets_the_epoch():
    sampler = StepSampler(SHORT, SOURCES, SIZES, 0, 5)
    _set_sampler_epoch(DataLoader([], batch_sampler=sampler), 2)
    assert [step[0].plan.step for step in sampler] == [10, 11]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"world_size": 4}, "batch_size is 2, expected a multiple of the 4 processes"),
        ({"rank": 1}, "rank is 1, expected 0 … 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch is 0, expected at least 1"),
        ({"sizes": {"a": 10}}, "source 'b' has 0 photos"),
        ({"stages": []}, "there are 0 stages and 2 sources"),
        ({"stages": [Stage(0, Geometry())]}, "stage 0 has 0 steps"),
        ({"stages": [Stage(1, Geometry((64, 32)))]}, r"image_size of stage 0 is \(64, 32\)"),
        ({"stages": [Stage(1, Geometry(reduced=(0.5, 1.5)))]}, r"reduced of stage 0 is \(0.5, 1.5\)"),
        ({"stages": [Stage(1, Geometry(guidance_max=0))]}, "guidance_max 0"),
        ({"sources": {"a": Spec(geometry=Geometry((0, 1)))}}, "image_size of source 'a'"),
        ({"sources": {"a": Spec(0.0)}}, "expected none below 0 and at least one above"),
        ({"sources": {"a": Spec(2.0), "b": Spec(-1.0)}}, "expected none below 0 and at least one above"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    good = {"stages": SHORT, "sources": SOURCES, "sizes": SIZES, "seed": 0, "steps_per_epoch": 5}
    with pytest.raises(ValueError, match=message):
        StepSampler(**good | change)


def test_a_step_outside_the_stages_is_refused():
    for step in (-1, 12):
        with pytest.raises(ValueError, match="expected 0 … 11: the stages have 12 steps"):
            make_plan(step, SHORT, SOURCES, seed=0)
