"""Progress, read from what is committed on disk: so it says the same on every runner, and after a restart.

A bar where there is a terminal, a plain line every few seconds where there is none.
"""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from ..schemas.dataset import SHARDS_PER_FOLDER, Dataset
from ..schemas.printing import printable

PLAIN_SECONDS = 5.0
LOOK_SHARE = 0.05  # of the time may go into looking


class Progress:
    """How far a stage is. ``files`` counts commits of its tables."""

    def __init__(
        self,
        dataset: Dataset,
        title: str,
        tables: tuple[str, ...],
        rows_of_shard: list[int],
        done: set[int],
        console: Console | None = None,
    ):
        self._dataset = dataset
        self._title = title
        self._rows = rows_of_shard
        self._committed = {table: set(done) for table in tables}
        self._before = len(done)
        self._rows_before = sum(rows_of_shard[shard] for shard in done)
        self._reasons: Counter[str] = Counter()
        self._started = time.monotonic()
        self._look_again = self._say_again = 0.0
        self._console = console or Console(stderr=True, highlight=False)
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), console=self._console
            )
            self._task = self._bar.add_task(self._title, total=len(self._rows), completed=self._before, said="starting")
            self._bar.start()
        else:
            before = f", {self._before} of them done before" if self._before else ""
            self._print(f"{self._title}: {sum(self._rows):,} images in {len(self._rows)} shards{before}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.update(last=True)
        if self._bar:
            self._bar.stop()

    @property
    def files(self) -> int:
        """Commits seen, over all tables."""
        return sum(len(shards) for shards in self._committed.values())

    @property
    def shards(self) -> set[int]:
        """Shards of which every table is committed."""
        return set.intersection(*self._committed.values())

    def say(self, text: str) -> None:
        """A message above the bar."""
        (self._bar.console if self._bar else self._console).print(printable(text), markup=False)

    def update(self, last: bool = False) -> None:
        """Look at the disk and show what is new; cheap to call often."""
        now = time.monotonic()
        if now < self._look_again and not last:
            return
        self._look()
        self._look_again = time.monotonic() + (time.monotonic() - now) / LOOK_SHARE
        text = self._text()
        if self._bar:
            self._bar.update(self._task, completed=len(self.shards), said=text)
        elif last or now >= self._say_again:
            self._print(f"{self._title}: {text}")
            self._say_again = now + PLAIN_SECONDS

    def _look(self) -> None:
        count = len(self._rows)
        for table, known in self._committed.items():
            for folder in range((count + SHARDS_PER_FOLDER - 1) // SHARDS_PER_FOLDER):
                first, end = folder * SHARDS_PER_FOLDER, min((folder + 1) * SHARDS_PER_FOLDER, count)
                if all(shard in known for shard in range(first, end)):
                    continue
                new = self._dataset.committed_in(table, folder) - known
                for _, footer in self._dataset.footers(table, new):
                    if table != "rejected":  # the images' footers say the same
                        self._reasons.update(footer.summary.get("reasons", {}))
                known.update(new)

    def _text(self) -> str:
        shards = self.shards
        rows = sum(self._rows[shard] for shard in shards)
        seconds = time.monotonic() - self._started
        speed = (rows - self._rows_before) / seconds if seconds else 0.0
        left = f"{_duration((sum(self._rows) - rows) / speed)} left" if speed else f"{_duration(seconds)} so far"
        refused = self._reasons.total()
        return (
            f"{len(shards)}/{len(self._rows)} shards, {rows:,}/{sum(self._rows):,} images, {speed:,.1f} images/s"
            f"{f', {refused:,} refused' if refused else ''}, {left}"
        )

    def _print(self, text: str) -> None:
        self._console.print(printable(text), markup=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
