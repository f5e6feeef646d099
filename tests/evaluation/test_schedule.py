"""Learning rates."""

import pytest

from naf.evaluation.schedule import cosine

LR = 5e-4


@pytest.mark.parametrize(("step", "lr"), [(0, 5.0e-4), (732, 4.969220851e-4), (7320, 2.5e-4), (14640, 0.0)])
def test_per_iteration_falls_over_the_whole_training(step, lr):
    assert LR * cosine("per_iteration", 20, 732)(step) == pytest.approx(lr, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("step", "lr"), [(0, 5.0e-4), (10, 2.5e-4), (20, 0.0), (30, 2.5e-4), (40, 5.0e-4)])
@pytest.mark.parametrize("iterations", [7, 732])
def test_jafar_bug_swings_by_epochs_iterations_whatever_an_epoch_has(step, lr, iterations):
    assert LR * cosine("jafar_bug", 20, iterations)(step) == pytest.approx(lr, rel=1e-9, abs=1e-15)


def test_per_epoch_keeps_the_first_rate_of_each_epoch():
    whole, stairs = cosine("per_iteration", 4, 10), cosine("per_epoch", 4, 10)
    assert [stairs(step) for step in range(40)] == [whole(step - step % 10) for step in range(40)]
    assert len({stairs(step) for step in range(40)}) == 4
