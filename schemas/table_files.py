"""The files of a dataset's tables, by their names: which there are, reading them, committing one, removing a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa

from .conditions import NAME
from .errors import Damaged
from .files import documents
from .files.shardfile import Footer, ShardFile, ShardWriter, read_footer
from .files.storage import Storage
from .names import FOLDER_NAME, REDO, SHARD_NAME, index_file, shard_file
from .provenance import Provenance
from .tables import TABLES, WITHOUT_CONDITION


class TableFiles:
    """The tables in a folder, and their files, as they are: how many shards there should be is not known here.

    ``redone`` are tables that are made anew: of these it sees the ones that grow in ``_redo`` (:mod:`redo`).
    """

    def __init__(self, storage: Storage, redone: Iterable[str] = ()):
        self.storage = storage
        self.redone = frozenset(redone)

    def tables(self) -> list[str]:
        """Folders that hold a table, in the order of :data:`tables.TABLES`; then the user's own."""
        found = {name for name in self.storage.folders() if NAME.fullmatch(name)}
        return [*(name for name in TABLES if name in found), *sorted(found.difference(TABLES))]

    def condition_tables(self) -> list[str]:
        """Tables of conditions and captions."""
        return [name for name in self.tables() if name not in WITHOUT_CONDITION]

    def folder(self, table: str) -> str:
        """The name of a table's folder."""
        return f"{REDO}/{table}" if table in self.redone else table

    def file(self, table: str, shard: int) -> str:
        """The name of a shard's file."""
        return shard_file(self.folder(table), shard)

    def committed(self, table: str) -> set[int]:
        """Numbers of the shards that are committed in a table."""
        numbers: set[int] = set()
        for folder in self.storage.folders(self.folder(table)):
            numbers.update(self.committed_in(table, int(folder)) if FOLDER_NAME.fullmatch(folder) else ())
        return numbers

    def committed_in(self, table: str, folder: int) -> set[int]:
        """Numbers of the committed shards in one folder of a table."""
        names = self.storage.files(f"{self.folder(table)}/{folder:04d}")
        return {int(name[:8]) for name in names if SHARD_NAME.fullmatch(name)}

    def has(self, table: str, shard: int) -> bool:
        """Whether a shard is committed in a table."""
        return self.storage.has_file(self.file(table, shard))

    @contextmanager
    def parquet(self, table: str, shard: int) -> Iterator[ShardFile]:
        """A committed file, open for reading.

        Raises:
            Damaged: it is no Parquet file.
        """
        with self.storage.open(self.file(table, shard)) as file:
            yield ShardFile(file)

    def footer(self, table: str, shard: int) -> Footer:
        """What a committed file says of itself.

        Raises:
            Damaged: it is no Parquet file, or not one of ours.
        """
        with self.parquet(table, shard) as parquet:
            return read_footer(parquet)

    def begun_with(self, table: str) -> Provenance | None:
        """How a table's files are made, by the first committed one that can be read; None where there is none."""
        for shard in sorted(self.committed(table)):
            with suppress(Damaged):  # whoever goes on with the table makes that file again
                return self.footer(table, shard).provenance
        return None

    def footers(self, table: str, shards: Iterable[int]) -> Iterator[tuple[int, Footer]]:
        """Footers of many files, read side by side."""
        with ThreadPoolExecutor(8) as pool:
            numbers = sorted(shards)
            yield from zip(numbers, pool.map(lambda shard: self.footer(table, shard), numbers), strict=True)

    @contextmanager
    def committing(
        self, run: str, table: str, shard: int, schema: pa.Schema, provenance: Provenance | Mapping[str, Any]
    ) -> Iterator[ShardWriter]:
        """Write a shard's file of a table: it is committed where the block ends, and dropped where the block raises.

        Args:
            run: the id of the run that writes it.
            table: which table.
            shard: which shard; the file's provenance says it too.
            schema: the table's columns.
            provenance: how the file is made.

        Raises:
            MillError: see :meth:`Storage.commit`. Where another commit was first, its file stays.
        """
        with self.storage.scratch(run) as scratch:
            with ShardWriter(scratch, schema, {**documents.plain(provenance), "shard": shard}) as writer:
                yield writer
            self.storage.commit(scratch, self.file(table, shard))

    def drop(self, table: str) -> None:
        """Remove a table. Its index goes first, so that a table that is half gone is never called complete."""
        self.storage.remove(index_file(table, table in self.redone))
        self.storage.remove(self.folder(table))
