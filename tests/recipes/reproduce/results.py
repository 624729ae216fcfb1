"""Results of trainings that never ran."""

from __future__ import annotations

from collections.abc import Mapping

from recipes.reproduce.experiments import Training
from recipes.reproduce.results import Look, Result, Value
from recipes.reproduce.training import Scale


def result_of(training: Training, measured: Mapping[str, Mapping[str, float]] | None = None, jump: int = 0) -> Result:
    """Its gain jumps to .5 at the step ``jump`` within 20 steps, from 0, and its training loss stays level."""
    steps = range(0, training.steps + 1, training.evaluate_every)
    gains = [0.0 if not jump or step < jump else min(0.5, (step - jump) * 0.025) for step in steps]
    return Result(
        training,
        Scale().conditions,
        [Look(step, gain, 0.01, gain / 2) for step, gain in zip(steps, gains, strict=True)],
        [0.2 + 0.01 * (-1) ** i for i in range(training.steps // 10)],
        {
            name: {key: Value(value, 0.01, 96) for key, value in values.items()}
            for name, values in (measured or {}).items()
        },
        {"torch": "2"},
        "a processor",
        "2026-11-27",
        600.0,
    )
