"""A dataset as it was when it was first asked."""

from __future__ import annotations

from dataclasses import replace

from .dataset import Dataset
from .index import TableState
from .records import Index


class Snapshot(Dataset):
    """A dataset at one time: its tables, indexes and states are read when they are first asked for, and kept.

    With ``segments`` it is as it was when it had only so many: it has their shards, and a table that lacks later ones
    is complete.
    """

    def __init__(self, dataset: Dataset, segments: int | None = None):
        config = replace(dataset.config, segments=dataset.config.segments[:segments])
        super().__init__(dataset.storage, config, dataset.redone)
        self._is_part = config != dataset.config
        self._tables: list[str] | None = None
        self._committed: dict[str, set[int]] = {}
        self._indexes: dict[str, Index | None] = {}
        self._states: dict[str, TableState] = {}

    def tables(self) -> list[str]:
        """See :meth:`Dataset.tables`."""
        if self._tables is None:
            self._tables = super().tables()
        return self._tables

    def committed(self, table: str) -> set[int]:
        """See :meth:`Dataset.committed`."""
        if table not in self._committed:
            found = super().committed(table)
            self._committed[table] = {shard for shard in found if shard < self.shards} if self._is_part else found
        return self._committed[table]

    def index(self, table: str) -> Index | None:
        """See :meth:`Dataset.index`."""
        if table not in self._indexes:
            index = super().index(table)
            self._indexes[table] = index.first(self.shards) if index and self._is_part else index
        return self._indexes[table]

    def state(self, table: str) -> TableState:
        """See :meth:`Dataset.state`."""
        if table not in self._states:
            self._states[table] = super().state(table)
        return self._states[table]
