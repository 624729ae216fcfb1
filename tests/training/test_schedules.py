"""Schedules are functions of the step, and evaluation keeps to its budget of time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlmill.evaluation.convergence import Estimate
from controlmill.evaluation.rise import find_rise
from controlmill.training.schedules import EvaluationSchedule, ema_decay


def test_a_slow_average_is_of_the_run_and_not_of_its_start() -> None:
    """After 5,000 steps at 0.9999, 0.61 of a plain average would still be what the run began with."""
    assert math.prod(ema_decay(0.9999, step) for step in range(1, 5_001)) < 1e-6
    assert ema_decay(0.9999, 200_000) == 0.9999


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


NOTHING = Estimate(0.0, 0.01)


def due(schedule: EvaluationSchedule, steps: range) -> dict[str, list[int]]:
    """The steps at which each extent is due."""
    found = {step: schedule.due(step) for step in steps}
    return {extent: [step for step in steps if found[step] == extent] for extent in ("all", "losses")}


def test_evaluation_is_due_at_every_so_many_steps_and_once_at_each(clock: list[float]) -> None:
    schedule = EvaluationSchedule(4, 0.0, clock=lambda: clock[0])
    assert due(schedule, range(10)) == {"all": [0, 4, 8], "losses": []}
    assert schedule.due(7, required=True) == "all"
    with schedule.timed(8):
        pass
    assert schedule.due(8) is None
    assert schedule.due(8, required=True) is None


def test_losses_are_looked_at_between_evaluations(clock: list[float]) -> None:
    schedule = EvaluationSchedule(50, 0.0, clock=lambda: clock[0])
    assert due(schedule, range(101)) == {"all": [0, 50, 100], "losses": [10, 20, 30, 40, 60, 70, 80, 90]}
    with schedule.timed(60, "losses"):
        pass
    assert schedule.due(60) is None
    assert schedule.due(60, required=True) == "all"  # the last step of a run needs pictures
    schedule.note(70, NOTHING, "all")  # by a run that was stopped there
    assert schedule.due(70, required=True) is None


def test_losses_are_looked_at_more_often_while_gain_rises_and_only_then(clock: list[float]) -> None:
    schedule = EvaluationSchedule(50, 0.0, clock=lambda: clock[0])
    for step in range(0, 41, 10):
        schedule.note(step, NOTHING, "losses")
    assert schedule.look_interval == 10
    schedule.note(50, Estimate(0.03, 0.01), "all")
    assert schedule.look_interval == 2
    assert due(schedule, range(51, 60))["losses"] == [52, 54, 56, 58]
    for step in range(52, 59, 2):  # as clear as before: ten steps ago there was nothing
        schedule.note(step, Estimate(0.03, 0.01), "losses")
        assert schedule.look_interval == 2
    for step in range(60, 65, 2):
        schedule.note(step, Estimate(0.04, 0.01), "losses")
    assert schedule.look_interval == 10


@settings(max_examples=8, deadline=None)
@given(st.floats(150, 900), st.floats(20, 60))
def test_looks_come_often_enough_to_know_how_sudden_a_jump_was(onset: float, width: float) -> None:
    schedule, gains = EvaluationSchedule(100, 0.0), []
    for step in range(1001):
        extent = schedule.due(step)
        if extent:
            share = 1 / (1 + math.exp(max(-60.0, min(60.0, -4.394 * (step - onset) / width))))
            gains.append((step, Estimate(0.4 * share, 0.001 + 0.03 * share)))
            schedule.note(*gains[-1], extent)
    rise = find_rise(*zip(*gains, strict=True))
    assert rise is not None
    assert rise.sudden == "yes"
    assert 0 < rise.width.low <= width <= (rise.width.high or 0)
    assert len(gains) < 100  # of a thousand steps


def test_evaluation_that_has_had_its_share_of_the_time_waits(clock: list[float]) -> None:
    schedule = EvaluationSchedule(1, 0.05, clock=lambda: clock[0])
    with schedule.timed():  # what is prepared for all evaluations counts too
        clock[0] += 1.0
    clock[0] += 18.0
    assert schedule.due(1) is None
    assert schedule.due(1, required=True) == "all"
    clock[0] += 1.0
    assert schedule.due(1) == "all"
    with pytest.raises(RuntimeError), schedule.timed(1):  # so does one that fails
        clock[0] += 2.0
        raise RuntimeError
    assert schedule.spent == 3.0
    assert schedule.evaluated == 1
    assert schedule.due(2) is None


def test_losses_leave_half_of_the_time_of_evaluation_to_pictures(clock: list[float]) -> None:
    schedule = EvaluationSchedule(50, 0.1, clock=lambda: clock[0])
    clock[0] += 10.0
    with schedule.timed(10, "losses"):
        clock[0] += 0.6
    assert schedule.due(20) is None
    assert schedule.due(50) == "all"
    clock[0] += 10.0
    assert schedule.due(20) == "losses"
