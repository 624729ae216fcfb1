"""What follows from the step: learning rate, decay of the average, and whether to evaluate."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from .config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """The share of the full learning rate at a step: warm-up, then the schedule."""
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    done = max(0.0, (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    fall = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 + 0.5 * math.cos(math.pi * done)}[config.lr_schedule]
    return rise * fall


def ema_decay(decay: float, step: int) -> float:
    """How much of the average stays at a step, the first of which is 1: few steps are soon forgotten."""
    return min(decay, (1 + step) / (10 + step))


class EvaluationSchedule:
    """Every ``interval`` steps, unless evaluation has had more than ``budget`` (0: no limit) of the time.

    Args:
        interval: steps.
        budget: the largest fraction of the time since the schedule was made.
        evaluated: the step of the last evaluation, which is not repeated.
        clock: seconds.
    """

    def __init__(self, interval: int, budget: float, evaluated: int = -1, clock: Callable[[], float] = time.monotonic):
        self.interval, self.budget, self.evaluated = interval, budget, evaluated
        self.clock, self.began, self.spent = clock, clock(), 0.0

    def is_due(self, step: int, required: bool = False) -> bool:
        """Whether to evaluate after a step; ``required`` asks for neither interval nor budget."""
        if step == self.evaluated:
            return False
        within = not self.budget or self.spent <= self.budget * (self.clock() - self.began)
        return required or (step % self.interval == 0 and within)

    @contextlib.contextmanager
    def timed(self, step: int | None = None) -> Iterator[None]:
        """Count the time of the block as evaluation: that of a step, or what is prepared for all."""
        started = self.clock()
        try:
            yield
        finally:
            self.spent += self.clock() - started
            self.evaluated = self.evaluated if step is None else step
