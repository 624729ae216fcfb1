"""Tables aligned with ``images``: what annotating, importing and encoding share.

A step turns rows of ``images`` into rows of one or more tables; each table's file has the keys and row groups of the
images file, and says which images it was made from.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.files.addresses import open_storage
from controlmill.schemas.files.shardfile import ShardWriter, read_footer, read_rows
from controlmill.schemas.tables import IMAGES

from ..engine.faults import Failure, JobFault
from ..engine.rows import RowStep
from ..engine.run_folder import Run
from ..engine.stage import GroupTask, Output
from ..engine.worker import this_worker

ROW_COLUMNS = ("key", "image", "width", "height")
TOO_MANY_FAILURES = 8  # rows: a shard of at least so many, all failed, is a fault of the annotator


def aligned_task(
    dataset: Dataset,
    run: Run,
    shard: int,
    outputs: Mapping[str, Output],
    step: RowStep,
    columns: tuple[str, ...],
    source: str = IMAGES,
    completed: Callable[[Iterator[dict[str, Any]]], Iterator[dict[str, Any]]] = iter,
) -> GroupTask:
    """A task that turns rows of ``images``, or of another table, into rows of aligned tables. The source is read once.

    Where the step works on several rows together, ``completed`` gives one mapping for them, whose ``key`` is the tuple
    of their keys; the step gives a list of rows for each table, or one Failure that is every row's.

    Args:
        dataset: the dataset.
        run: the run that the task belongs to.
        shard: which shard.
        outputs: the tables that are made.
        step: gives {table: row or Failure} for each row.
        columns: what the step needs of a row, the key among it.
        source: the table that is read, ``images`` or ``captions``; its keys and row groups are those of ``images``.
        completed: adds to the rows what the step needs beside these columns.
    """
    groups: list[int] = []  # rows of each row group of the source
    keys: deque[str | tuple[str, ...]] = deque()  # of rows that are on their way

    def rows() -> Iterator[dict[str, Any]]:
        with dataset.parquet(source, shard) as parquet:
            groups.extend(read_footer(parquet).groups)
            for row in completed(read_rows(parquet, columns)):
                keys.append(row["key"])
                yield row

    def write(outcomes: Iterator[Any]) -> None:
        made_from = {
            f"{table}_sha256": file_digest(dataset, table, shard, run.id) for table in dict.fromkeys((IMAGES, source))
        }
        with ExitStack() as stack:
            tables = []
            for table, output in outputs.items():
                provenance = {**output.provenance, **made_from}
                writer = stack.enter_context(dataset.committing(run.id, table, shard, output.schema, provenance))
                tables.append(_TableWriter(table, writer))
            written = 0
            for key, by_table in (one for outcome in outcomes for one in _single(keys.popleft(), outcome)):
                for made in tables:
                    made.add(key, by_table if isinstance(by_table, Failure) else by_table[made.table])
                if len(tables[0].group) == groups[written]:
                    for made in tables:
                        made.end_group()
                    written += 1
            for made in tables:
                made.end_table()

    return GroupTask(tuple(outputs), step, rows(), write)


def _single(key: str | tuple[str, ...], outcome: Any) -> Iterator[tuple[str, Any]]:
    """Each row's key and outcome, of a row or of several that were done together."""
    if isinstance(key, str):
        yield key, outcome
        return
    for number, one in enumerate(key):
        failed = isinstance(outcome, Failure)
        yield one, outcome if failed else {table: rows[number] for table, rows in outcome.items()}


def file_digest(dataset: Dataset, table: str, shard: int, run: str) -> str:
    """The sha256 of a shard's file, as the index of the table says it: that is read once per process and run.

    A table that a run is still making has no such index yet, and then the file is read.
    """
    address = dataset.storage.address
    index = this_worker().once(("index", address, table, run), lambda: Dataset.open(address).whole_index(table))
    return index.digests[shard] if index else _sha256(address, dataset.file(table, shard), run)


@functools.lru_cache(maxsize=64)  # each table of a shard asks
def _sha256(address: str, name: str, run: str) -> str:
    """Of a file as it is in a run; in another one it may be another."""
    with open_storage(address).open(name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


class _TableWriter:
    """Rows of one aligned table, gathered into row groups, and the summary of them."""

    def __init__(self, table: str, writer: ShardWriter):
        self.table = table
        self.group: list[dict[str, Any]] = []
        self._writer = writer
        self._reasons: Counter[str] = Counter()
        self._rows = self._empty = 0
        self._error = ""

    def add(self, key: str, row: dict[str, Any] | Failure) -> None:
        if isinstance(row, Failure):
            row = {"reason": row.reason, "error": row.error}
        if row.get("reason"):
            self._reasons[row["reason"]] += 1
            self._error = row["error"]
        self._empty += row.get("coverage") == 0
        self._rows += 1
        self.group.append({"key": key, **row})

    def end_group(self) -> None:
        self._writer.write_group(self.group)
        self.group = []

    def end_table(self) -> None:
        """Close the file.

        Raises:
            JobFault: no row could be done.
        """
        faults = self._reasons["failed"] + self._reasons["killed_worker"]
        if self._rows >= TOO_MANY_FAILURES and faults == self._rows:
            raise JobFault(f"{self.table}: every row of the shard failed, the annotator is at fault: {self._error}")
        self._writer.close({"reasons": dict(self._reasons), **({"empty": self._empty} if self._empty else {})})
