"""Rows of Parquet files from elsewhere, one at a time, though they can only be read a row group at a time.

Rows of a shard are asked for in about their order. A group that is being read stays open, with the rows around the one
that was asked for last: so each group is read once for the rows that follow one another.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from controlmill.schemas.errors import Damaged, Refused
from controlmill.schemas.files.shardfile import ShardFile, naming

from .places import Places
from .table_layout import Layout

BATCH_BYTES = 16 * 1024 * 1024
BATCH_ROWS = 256
FEWEST_ROWS = 16
KEPT_BATCHES = 3  # more rows than a shard has in flight, where their size is not known
OPEN_GROUPS = 4  # two shards in flight, each at the border of two groups


@dataclass(frozen=True)
class GroupRow:
    """A row of a group."""

    batch: pa.RecordBatch
    number: int
    layout: Layout

    def value(self, path: str) -> Any:
        """The value of a column; ``image.bytes`` is a field of a struct."""
        place = self.batch.schema.get_field_index(path)
        if place >= 0:
            return self.batch.column(place)[self.number].as_py()
        name, _, inside = path.rpartition(".")
        value = self.batch.column(name)[self.number].as_py()
        return None if value is None else value[inside]


class RowGroups:
    """Groups that are being read, of all files of a corpus; for threads."""

    def __init__(self, places: Places, opened: Callable[[str], tuple[ShardFile, Layout]]):
        self._places = places
        self._opened = opened
        self._groups: OrderedDict[tuple[str, str | None, int], _Group] = OrderedDict()
        self._lock = threading.Lock()

    def row(self, name: str, mark: str | None, group: int, row: int) -> GroupRow:
        """A row of a group of a file; ``mark`` is that of the file when it was listed.

        Raises:
            Refused: the file has changed, or is damaged there.
            OSError: it cannot be read.
        """
        key = (name, mark, group)
        with self._lock:
            found = self._groups.pop(key, None) or _Group(lambda: self._open(name, mark), group)
            self._groups[key] = found
            closed = self._groups.popitem(last=False)[1] if len(self._groups) > OPEN_GROUPS else None
        if closed:
            closed.close()
        try:
            return found.row(row)
        except Damaged as error:
            raise Refused("unreadable", str(error.__cause__ or error)) from error

    def _open(self, name: str, mark: str | None) -> tuple[ShardFile, Layout]:
        self._places.path(name)
        place = self._places.look_at(name)
        if place is None:
            raise FileNotFoundError(name)
        if mark is not None and place.mark != mark:
            raise Refused("changed", f"its file {name} is not as it was listed")
        return self._opened(name)


class _Group:
    def __init__(self, opened: Callable[[], tuple[ShardFile, Layout]], group: int):
        self._opened = opened
        self._group = group
        self._lock = threading.Lock()
        self._parquet: ShardFile | None = None
        self._kept: deque[tuple[int, pa.RecordBatch]] = deque(maxlen=KEPT_BATCHES)
        self._next = 0

    def row(self, number: int) -> GroupRow:
        with self._lock:
            if self._parquet is None or number < (self._kept[0][0] if self._kept else 0):
                self._begin()
            while number >= self._next:
                self._advance()
            first, batch = next(item for item in self._kept if item[0] <= number < item[0] + item[1].num_rows)
            return GroupRow(batch, number - first, self._layout)

    def _begin(self) -> None:
        self._let_go()
        self._parquet, self._layout = self._opened()
        self._next = 0
        with naming(self._parquet.name):
            if self._group >= self._parquet.metadata.num_row_groups:
                raise ValueError(f"no row group {self._group}")
            group = self._parquet.metadata.row_group(self._group)
            each = max(1, group.total_byte_size // max(1, group.num_rows))
            rows = min(BATCH_ROWS, max(FEWEST_ROWS, BATCH_BYTES // each))
            columns = self._layout.read
            self._batches: Iterator[pa.RecordBatch] = self._parquet.iter_batches(
                rows, [self._group], columns, use_threads=False
            )

    def _advance(self) -> None:
        assert self._parquet
        with naming(self._parquet.name):
            batch = next(self._batches, None)
            if batch is None:
                raise ValueError(f"row group {self._group} has {self._next} rows")
            batch.validate(full=True)
        self._kept.append((self._next, batch))
        self._next += batch.num_rows

    def close(self) -> None:
        with self._lock:  # another thread may be at a row
            self._let_go()

    def _let_go(self) -> None:
        self._kept.clear()
        if self._parquet is not None:
            self._parquet.close()
            self._parquet = None
