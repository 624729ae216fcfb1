"""How long a stage will take: plain numbers from what attempts note and what is committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Count:
    """Rows of a stage, by table, and what they cost; plain numbers, so that it can be told without a job.

    A stage makes some tables together and others after them. ``rows`` that a table has are those of committed shards
    and of attempts under way; seconds by table weigh a dear network's rows against a cheap one's.
    """

    total: int
    before: Mapping[str, int]
    rows: dict[str, int] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Images that are done, a part for each table that is."""
        return sum(self.rows.values()) // max(1, len(self.rows))

    def left(self, seconds: float) -> tuple[float, bool] | None:
        """(seconds to go, whether that is all) after so many ``seconds`` of work; None where nothing is known yet.

        It is not all where a table's first row is still to come: what it costs is not known.
        """
        known = [cost for table, cost in self.costs.items() if table in self.rows]
        usual = sum(known) / len(known) if known else 1.0
        weights = {table: self.costs.get(table, usual) for table in self.rows}
        gained = sum(weights[table] * (rows - self.before.get(table, 0)) for table, rows in self.rows.items())
        to_go = sum(weights[table] * (self.total - rows) for table, rows in self.rows.items())
        if gained <= 0 or seconds <= 0:
            return None
        unknown = [table for table, rows in self.rows.items() if table not in self.costs and rows < self.total]
        return to_go * seconds / gained, not (unknown and known)

    def speed(self, seconds: float) -> float:
        """Images a second, of those done since the stage was begun."""
        left = self.left(seconds)
        to_go = self.total - self.done
        return to_go / left[0] if left and left[0] > 0 else (self.done - self._done_before) / max(seconds, 1e-9)

    @property
    def _done_before(self) -> float:
        return sum(self.before.get(table, 0) for table in self.rows) / max(1, len(self.rows))


class Costs:
    """Seconds that a row of a table takes, over all attempts that were seen."""

    def __init__(self) -> None:
        self.spent: dict[str, tuple[int, float]] = {}  # table → (rows, seconds)
        self._last: dict[tuple[int, str], tuple[int, float]] = {}  # of attempts under way, as they said last

    def take(self, attempts: Mapping[int, Mapping[str, Any]]) -> None:
        """Add what attempts did since they were looked at last; one that begins anew is another."""
        now: dict[tuple[int, str], tuple[int, float]] = {}
        for shard, said in attempts.items():
            for work in said["works"]:
                for table in work["tables"]:
                    rows, seconds = now[shard, table] = work["rows"], work["seconds"] / len(work["tables"])
                    rows_before, seconds_before = self._last.get((shard, table), (0, 0.0))
                    if rows < rows_before:
                        rows_before, seconds_before = 0, 0.0
                    had = self.spent.get(table, (0, 0.0))
                    self.spent[table] = had[0] + rows - rows_before, had[1] + seconds - seconds_before
        self._last = now

    def by_table(self) -> dict[str, float]:
        """Table → seconds a row, of the tables that have been begun."""
        return {table: seconds / rows for table, (rows, seconds) in self.spent.items() if rows}
