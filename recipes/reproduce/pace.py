"""How long trainings take, and whether there is time for one more."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from controlmill.training.schedules import LOOKS

from .experiments import Training
from .results import Result
from .training import Scale

SIDE_BY_SIDE = 2
SECONDS_A_PASS = 0.01  # of one picture through base and ControlNet on one core, until trainings tell
BACKWARD = 3  # passes that a training step costs
SAMPLED = {"prompts": 4, "weighting": 3, "half": 3, "masked": 1, "added": 3, "judged": 1}  # pictures of each probe
TIMES = 12  # passes of a row at a look


def passes(training: Training, scale: Scale) -> float:
    """About how many pictures go through the networks."""
    trained = training.steps * scale.batch_size * BACKWARD
    looks = (training.steps // training.evaluate_every * LOOKS + 2) * scale.evaluation_rows * TIMES
    sampled = sum(SAMPLED.get(name, 0) for name in training.measured) * scale.probes * scale.sampling_steps * 2
    return trained + looks + sampled


def pace(results: Sequence[Result], scale: Scale) -> float:
    """Seconds that finished trainings took for a pass, each on its core; a guess where there are none."""
    done = sum(passes(result.training, scale) for result in results)
    return sum(result.seconds for result in results) / done if results else SECONDS_A_PASS


class Clock:
    """Says whether a training would end in time, by the pace of those that ended. Threads share one.

    Args:
        seconds: that there are; None without an end.
    """

    def __init__(self, seconds: float | None):
        self.ends = None if seconds is None else time.monotonic() + seconds
        self.passes, self.seconds = 1e4, 1e4 * SECONDS_A_PASS
        self._lock = threading.Lock()

    def allows(self, needed: float) -> bool:
        """Whether ``needed`` passes would end in time."""
        with self._lock:
            return self.ends is None or time.monotonic() + needed * self.seconds / self.passes <= self.ends

    def stop(self) -> None:
        """Let nothing more begin."""
        self.ends = -float("inf")

    def note(self, done: float, seconds: float) -> None:
        """So many passes took so long."""
        with self._lock:
            self.passes, self.seconds = self.passes + done, self.seconds + seconds
