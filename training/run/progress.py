"""How far a run is: a bar that is rewritten on a terminal, else a line now and then; with the time to go."""

from __future__ import annotations

import statistics
import time
from collections import deque

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from controlmill.schemas.terminal.console import Output, duration, output

PLAIN_SECONDS = 10.0, 60.0  # between plain lines: at first, and at most
PLAIN_SHARE = 0.05  # of the time that the run has taken
RECENT = 50  # steps that loss and speed are the mean of


class StepProgress:
    """The steps of a run from ``first`` to ``total``. The time to go counts evaluations and checkpoints too."""

    def __init__(self, first: int, total: int, out: Output = output):
        self._first, self._total, self._out = first, total, out
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)
        self._began: float | None = None
        self._say_again = 0.0
        self._bar: Bar | None = None
        if out.console.is_terminal and total:
            columns = TextColumn("train"), BarColumn(), TextColumn("{task.fields[said]}")
            self._bar = Bar(*columns, console=out.console)
            self._task = self._bar.add_task("train", total=total, completed=first, said="starting")
            self._bar.start()

    def step(self, step: int, loss: float, rate: float, seconds: float) -> None:
        """One step is done, after so many seconds of work on it alone."""
        now = time.monotonic()
        if self._began is None:
            self._began = now - seconds
        self._recent.append((loss, seconds))
        done, elapsed = step - self._first, now - self._began
        losses, times = zip(*self._recent, strict=True)
        left = max(0, self._total - step) * elapsed / done if done > 0 else 0.0
        text = (
            f"step {step:,}/{self._total:,}: loss {statistics.fmean(losses):.4f}, "
            f"{1 / max(statistics.fmean(times), 1e-9):.2f} steps/s, rate {rate:.2e}, {duration(left)} left"
        )
        if self._bar:
            self._bar.update(self._task, completed=step, said=text)
        if now >= self._say_again or step == self._total:
            (self._out.log if self._bar else self._out.say)(text)
            first, most = PLAIN_SECONDS
            self._say_again = now + min(most, max(first, PLAIN_SHARE * elapsed))

    def say(self, text: str) -> None:
        """A message, above the bar."""
        self._out.say(text)

    def close(self) -> None:
        """Give the terminal back."""
        if self._bar:
            self._bar.stop()
