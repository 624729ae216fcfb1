"""A dataset as it was when it was first asked."""

from __future__ import annotations

from .dataset import Dataset
from .index import TableState
from .records import Index


class Snapshot(Dataset):
    """A dataset at one time: its tables, indexes and states are read when they are first asked for, and kept."""

    def __init__(self, dataset: Dataset):
        super().__init__(dataset.storage, dataset.config, dataset.redone)
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
            self._committed[table] = super().committed(table)
        return self._committed[table]

    def index(self, table: str) -> Index | None:
        """See :meth:`Dataset.index`."""
        if table not in self._indexes:
            self._indexes[table] = super().index(table)
        return self._indexes[table]

    def state(self, table: str) -> TableState:
        """See :meth:`Dataset.state`."""
        if table not in self._states:
            self._states[table] = super().state(table)
        return self._states[table]
