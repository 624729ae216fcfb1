"""What follows from the step: learning rate, decay of the average, and whether to evaluate."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Literal

from controlmill.evaluation.convergence import Estimate

from .config import TrainConfig

LOOKS = 5
RISING = 2.0  # standard errors
SHARE = 0.5
Extent = Literal["all", "losses"]


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
    """Every ``interval`` steps, and of losses alone more often, unless that has had more of the time than ``budget``.

    Losses tell the condition gain, for a fraction of what sampling pictures takes. How sudden a rise of it is, only
    looks within the rise can tell, so there are ``LOOKS`` in an interval, and ``LOOKS`` times as many while gain rises.
    They have at most ``SHARE`` of the budget, so that pictures are not left without.

    Args:
        interval: steps.
        budget: the largest fraction of the time since the schedule was made; 0: no limit.
        clock: seconds.
    """

    def __init__(self, interval: int, budget: float, clock: Callable[[], float] = time.monotonic):
        self.interval, self.budget, self.evaluated, self.looked = interval, budget, -1, -1
        self.clock, self.began, self.spent, self.spent_on_losses = clock, clock(), 0.0, 0.0
        self._gains: list[tuple[int, Estimate]] = []

    def due(self, step: int, required: bool = False) -> Extent | None:
        """What to evaluate after a step; ``required`` asks for neither interval nor budget."""
        if required:
            return None if step == self.evaluated else "all"
        allowed = self.budget * (self.clock() - self.began) if self.budget else math.inf
        if step == self.looked or self.spent > allowed:
            return None
        if step % self.interval == 0:
            return "all"
        return "losses" if step % self.look_interval == 0 and self.spent_on_losses <= SHARE * allowed else None

    @property
    def look_interval(self) -> int:
        """Steps between two looks at losses now."""
        return max(1, self._seldom // LOOKS) if self._is_rising() else self._seldom

    @property
    def _seldom(self) -> int:
        return self.interval // LOOKS or self.interval

    def _is_rising(self) -> bool:
        """Whether the last gain is clearly above that of a usual look before."""
        if not self._gains:
            return False
        step, last = self._gains[-1]
        before = [gain.mean for at, gain in self._gains if at <= step - self._seldom]
        return bool(before) and last.mean - before[-1] > RISING * last.error

    def note(self, step: int, gain: Estimate, extent: Extent) -> None:
        """What was measured after a step, now or before the run was stopped."""
        self.looked, self.evaluated = step, step if extent == "all" else self.evaluated
        self._gains.append((step, gain))

    @contextlib.contextmanager
    def timed(self, step: int | None = None, extent: Extent = "all") -> Iterator[None]:
        """Count the time of the block as evaluation: that of a step, or what is prepared for all."""
        started = self.clock()
        try:
            yield
        finally:
            seconds = self.clock() - started
            self.spent += seconds
            if step is not None:
                self.looked = step
                if extent == "all":
                    self.evaluated = step
                else:
                    self.spent_on_losses += seconds
