"""Schedules are functions of the step, and evaluation keeps to its budget of time."""

from __future__ import annotations

import math

import pytest

from controlmill.training.schedules import EvaluationSchedule, ema_decay


def test_a_slow_average_is_of_the_run_and_not_of_its_start() -> None:
    """After 5,000 steps at 0.9999, 0.61 of a plain average would still be what the run began with."""
    assert math.prod(ema_decay(0.9999, step) for step in range(1, 5_001)) < 1e-6
    assert ema_decay(0.9999, 200_000) == 0.9999


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


def test_evaluation_is_due_at_every_so_many_steps_and_once_at_each(clock: list[float]) -> None:
    schedule = EvaluationSchedule(5, 0.0, clock=lambda: clock[0])
    assert [step for step in range(12) if schedule.is_due(step)] == [0, 5, 10]
    assert schedule.is_due(7, required=True)
    with schedule.timed(10):
        pass
    assert not schedule.is_due(10)
    assert not schedule.is_due(10, required=True)
    assert not EvaluationSchedule(5, 0.0, evaluated=10).is_due(10)


def test_evaluation_that_has_had_its_share_of_the_time_waits(clock: list[float]) -> None:
    schedule = EvaluationSchedule(1, 0.05, clock=lambda: clock[0])
    with schedule.timed():  # what is prepared for all evaluations counts too
        clock[0] += 1.0
    clock[0] += 18.0
    assert not schedule.is_due(1)
    assert schedule.is_due(1, required=True)
    clock[0] += 1.0
    assert schedule.is_due(1)
    with pytest.raises(RuntimeError), schedule.timed(1):  # so does one that fails
        clock[0] += 2.0
        raise RuntimeError
    assert schedule.spent == 3.0
    assert schedule.evaluated == 1
    assert not schedule.is_due(2)
