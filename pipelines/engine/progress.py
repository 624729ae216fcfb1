"""Progress, read from disk: what is committed, and what the attempts under way note of themselves in the run folder.

So it says the same on every runner, and after a restart. A bar where there is a terminal, else a plain line now and
then: every few seconds at first, every minute in the end.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.names import SHARDS_PER_FOLDER
from controlmill.schemas.terminal.console import Output, duration, output
from controlmill.schemas.terminal.printing import counted

from .estimate import Costs, Count
from .run_folder import Run

PLAIN_SECONDS = 5.0, 60.0  # between plain lines: at first, and at most
PLAIN_SHARE = 0.05  # of the time that a job has taken
LOOK_SHARE = 0.05  # of the time may go into looking
LOOK_SECONDS = {True: 0.0, False: 10.0}  # between two looks at least: in a folder, on an object store


class Progress:
    """How far a stage is. ``files`` counts commits of its tables; ``attempts`` is what those under way note."""

    def __init__(
        self,
        dataset: Dataset,
        title: str,
        rows_of_shard: list[int],
        committed: Mapping[str, set[int]],
        run: Run | None,
        out: Output = output,
    ):
        self._dataset, self._title, self._rows, self._run, self._out = dataset, title, rows_of_shard, run, out
        self._committed = {table: set(shards) for table, shards in committed.items()}
        self._before = len(self.shards)
        self._reasons: Counter[str] = Counter()
        self._costs = Costs()
        before = {table: self._rows_of(shards) for table, shards in self._committed.items() if table != "rejected"}
        self._count = Count(sum(rows_of_shard), before, dict(before))
        self.attempts: dict[int, dict[str, Any]] = {}
        self._refused = 0
        self._started = time.monotonic()
        self._work_began: float | None = None
        self._look_again = self._say_again = 0.0
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        before = f", {self._before} of them done before" if self._before else ""
        text = f"{self._title}: {counted(sum(self._rows), 'image')} in {counted(len(self._rows), 'shard')}{before}"
        if self._out.console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[said]}"),
                console=self._out.console,
            )
            self._task = self._bar.add_task(
                self._title, total=self._count.total, completed=self._count.done, said="starting"
            )
            self._bar.start()
            self._out.log(text)
        else:
            self._out.say(text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.update(last=True)
        finally:
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
        self._out.say(text)

    def update(self, last: bool = False) -> None:
        """Look at the disk and show what is new; cheap to call often."""
        now = time.monotonic()
        if now < self._look_again and not last:
            return
        self._look()
        took = time.monotonic() - now
        self._look_again = time.monotonic() + max(took / LOOK_SHARE, LOOK_SECONDS[self._dataset.storage.local])
        text = self._text()
        if self._bar:
            self._bar.update(self._task, completed=self._count.done, said=text)
        if last or now >= self._say_again:
            (self._out.log if self._bar else self._out.say)(f"{self._title}: {text}")
            first, most = PLAIN_SECONDS
            self._say_again = now + min(most, max(first, PLAIN_SHARE * (now - self._started)))

    def _look(self) -> None:
        self.attempts = (
            self._run.attempts() if self._run else {}
        )  # before the commits: what ends meanwhile is seen there
        for table, known in self._committed.items():
            new = self._new_commits(table, known)
            for _, footer in self._dataset.footers(table, new):
                if table != "rejected":  # the images' footers say the same
                    self._reasons.update(footer.summary.reasons)
            known.update(new)
        self._take_notes(self.attempts)

    def _new_commits(self, table: str, known: set[int]) -> set[int]:
        count = len(self._rows)
        new: set[int] = set()
        for folder in range((count + SHARDS_PER_FOLDER - 1) // SHARDS_PER_FOLDER):
            first, end = folder * SHARDS_PER_FOLDER, min((folder + 1) * SHARDS_PER_FOLDER, count)
            if not all(shard in known for shard in range(first, end)):
                new |= self._dataset.committed_in(table, folder) - known
        return new

    def _take_notes(self, attempts: Mapping[int, Mapping[str, Any]]) -> None:
        """Rows of attempts under way, beside those that are committed."""
        under_way = dict.fromkeys(self._count.rows, 0)
        refused, longest = 0, 0.0
        for shard, said in attempts.items():
            longest = max(longest, sum(work["seconds"] for work in said["works"]))
            for work in said["works"]:
                open_tables = [table for table in work["tables"] if shard not in self._committed.get(table, ())]
                refused += work["refused"] if open_tables else 0
                for table in open_tables:
                    under_way[table] += work["rows"]
        self._refused = self._reasons.total() + refused
        self._costs.take(attempts)
        self._count.costs = self._costs.by_table()
        for table in self._count.rows:
            self._count.rows[table] = self._rows_of(self._committed[table]) + under_way[table]
        if self._work_began is None and (longest or self._count.rows != self._count.before):
            self._work_began = time.monotonic() - longest if longest else self._started

    def _rows_of(self, shards: set[int]) -> int:
        return sum(self._rows[shard] for shard in shards if shard < len(self._rows))

    def _text(self) -> str:
        now, count = time.monotonic(), self._count
        worked = now - self._work_began if self._work_began is not None else 0.0
        left = count.left(worked)
        if left:
            to_go, all_of_it = left
            time_text = f"{'' if all_of_it else 'at least '}{duration(to_go)} left"
        else:
            time_text = f"{duration(now - self._started)} so far"
        return (
            f"{len(self.shards)}/{len(self._rows)} shards, {count.done:,}/{count.total:,} images, "
            f"{count.speed(worked):,.1f} images/s{f', {self._refused:,} refused' if self._refused else ''}, {time_text}"
        )
