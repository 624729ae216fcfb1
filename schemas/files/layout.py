"""Whether a file of doubtful origin is laid out as this project writes them, before its rows are read.

The descriptions of columns in a footer are looked at in a process of its own: where some of their values contradict
each other, Arrow ends the process instead of raising (pyarrow 25.0.1).
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Self

from .documents import damaged
from .shardfile import GROUP_BYTES, GROUP_ROWS, LISTED_GROUP_ROWS, REPEATED, ShardFile, naming
from .storage import Storage

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# What a file that was written here stays below.
MAX_GROUP_BYTES = 4 * GROUP_BYTES
MAX_GROUP_VALUES = 4 * 1024 * 1024  # of a column, in its lists
MAX_DICTIONARY_BYTES = 64 * 1024
MAX_EXPANSION = 24  # Snappy makes at most 64 bytes of 3


class LayoutCheck:
    """Checks files one after another, in one process for as long as it lives. Use it as a context manager."""

    def __init__(self, check: Callable[[Storage, str], None] | None = None):
        self._check = check or check_file
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown()

    def __call__(self, storage: Storage, name: str) -> None:
        """Check one file.

        Raises:
            MillError: as :func:`check_layout`; or the file's footer ends the process that looks at it.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin)
        try:
            self._pool.submit(self._check, storage, name).result()
        except BrokenProcessPool:
            self._pool = None
            raise damaged(name, ValueError("the columns that its footer describes contradict each other")) from None


def _begin() -> None:
    """What a process says when Arrow ends it is nothing for a user; it ends with the process that started it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)  # the queue that it waits at has no end: it holds both of its ends itself


def check_file(storage: Storage, name: str) -> None:
    """:func:`check_layout` of a file of a dataset."""
    with storage.open(name) as file:
        check_layout(ShardFile(file))


def check_layout(parquet: ShardFile) -> None:
    """Before rows of a file of doubtful origin are read: that it is laid out as :class:`ShardWriter` does it.

    What it holds is then not much larger in memory than on disk, a row group at a time.

    Raises:
        MillError: a row group, or a column's dictionary, may be larger than this project writes them.
    """
    with naming(parquet.name):
        for number in range(parquet.metadata.num_row_groups):
            group = parquet.metadata.row_group(number)
            columns = [group.column(i) for i in range(group.num_columns)]
            stored = [column.total_compressed_size for column in columns]
            if (
                not 0 < group.num_rows <= LISTED_GROUP_ROWS
                or min(stored) < 0
                or sum(stored) > min(parquet.size, MAX_GROUP_BYTES)
            ):
                raise ValueError(f"row group {number} says that it has {group.num_rows} rows of {sum(stored)} bytes")
            for column in columns:
                _check_column(column, number)


def _check_column(column: pq.ColumnChunkMetaData, group: int) -> None:
    name = column.path_in_schema
    if column.compression not in ("UNCOMPRESSED", "SNAPPY"):
        raise ValueError(f"{name} in row group {group} is compressed by {column.compression}")
    unfolded, values = column.total_uncompressed_size, column.num_values
    most = min(column.total_compressed_size * MAX_EXPANSION + GROUP_ROWS * 1024, MAX_GROUP_BYTES)
    if unfolded > most or values > MAX_GROUP_VALUES:
        raise ValueError(f"{name} in row group {group} says that it unfolds to {unfolded} bytes, {values} values")
    if not column.has_dictionary_page:
        return
    length = column.data_page_offset - column.dictionary_page_offset
    if name.split(".")[0] not in REPEATED or not 0 < length <= MAX_DICTIONARY_BYTES:
        raise ValueError(f"{name} in row group {group} has a dictionary of {length} bytes")
