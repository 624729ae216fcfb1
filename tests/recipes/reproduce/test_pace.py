"""Nothing is begun that would not end in time."""

from __future__ import annotations

from recipes.reproduce.experiments import Training
from recipes.reproduce.pace import Clock, passes
from recipes.reproduce.training import Scale


def test_the_clock_goes_by_the_pace_of_what_ended() -> None:
    clock = Clock(60)
    assert clock.allows(5_000)
    assert not clock.allows(10_000)
    clock.note(90_000, 90)  # ten times faster
    assert clock.allows(10_000)
    clock.stop()
    assert not clock.allows(1)
    assert Clock(None).allows(1e12)


def test_more_steps_need_more_passes() -> None:
    short, long = Training("size", steps=100), Training("size", steps=200)
    assert passes(long, Scale()) > 1.5 * passes(short, Scale())
