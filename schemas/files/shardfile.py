"""One Parquet file of a table: written to a scratch file, described by its own footer.

Row groups have the bounds that the images file of the shard has. Pictures are plain and uncompressed (they are
compressed already) and have no statistics (Parquet would copy small ones into the footer). Pages have checksums, so
that a flipped bit is an error of whoever reads it. They are not cut by content: to a store that keeps equal stretches
once, an edited file has as many new bytes without it, or fewer (pyarrow 25: .046 of the file without and .074 with it,
where one row of 100 KB was edited in each of 8 groups).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ..fingerprint import canonical
from ..provenance import Provenance
from ..records import Summary
from ..tables import is_image, with_metadata
from .documents import damaged, parse, plain

GROUP_ROWS = 64
GROUP_PIXELS = 64 * 1024 * 1024
GROUP_BYTES = 256 * 1024 * 1024
LISTED_GROUP_ROWS = 16 * GROUP_ROWS  # of tables without pictures
REPEATED = ("reason", "error")  # columns whose values are kept in a dictionary
MAX_FOOTER_BYTES = 64 * 1024 * 1024  # of a file that is read here though it may come from anybody
ARROW_TAIL = 64 * 1024  # what Arrow reads of a file first: from a store it is fetched once then, for both


class ShardWriter:
    """Writes row groups to ``path``; what is known only at the end goes into the footer by :meth:`close`."""

    def __init__(self, path: Path, schema: pa.Schema, provenance: Provenance | Mapping[str, Any]):
        self.schema = with_metadata(schema, canonical(plain(provenance)))
        media = [f"{field.name}.{part}" for field in schema if is_image(field) for part in ("bytes", "path")]
        scalars = [_column_path(field) for field in schema if not is_image(field)]
        self._writer = pq.ParquetWriter(
            path,
            self.schema,
            compression={**dict.fromkeys(media, "NONE"), **dict.fromkeys(scalars, "SNAPPY")},
            use_dictionary=[column for column in scalars if column.split(".")[0] in REPEATED],
            write_statistics=scalars,
            write_page_index=True,
            write_page_checksum=True,
            version="2.6",
        )

    def write_group(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """One row group; nothing is written for no rows (a group of none breaks `datasets`)."""
        if rows:
            self.write_table(pa.Table.from_pylist(list(rows), schema=self.schema))

    def write_table(self, table: pa.Table) -> None:
        """One row group of a table's rows; its bytes do not depend on how the table lies in memory."""
        self._writer.write_table(table.combine_chunks(), row_group_size=table.num_rows)

    def close(self, summary: Summary | Mapping[str, Any] | None = None) -> None:
        """Finish the file, with ``summary`` as the footer's ``controlmill_summary``."""
        if summary is not None:
            self._writer.add_key_value_metadata({"controlmill_summary": canonical(plain(summary))})
        self._writer.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer.is_open:
            self._writer.close()


def _column_path(field: pa.Field) -> str:
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name


@dataclass(frozen=True)
class Footer:
    """What a file says of itself: row counts of its groups, provenance, and the summary of its rows."""

    groups: tuple[int, ...]
    provenance: Provenance
    summary: Summary
    schema: pa.Schema

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return sum(self.groups)


class ShardFile(pq.ParquetFile):
    """An open file that knows its name, for errors, and its ``size`` in bytes.

    It starts no threads of Arrow's: where they read through a Python file, they can abort the interpreter as it ends
    (apache/arrow#34314); and our jobs have workers of their own.
    """

    def __init__(self, file: BinaryIO, buffer: int = 0):
        """``buffer``: bytes of a column that are read at a time; 0: all that a row group has of it.

        Raises:
            MillError: not a Parquet file, or a damaged one.
        """
        self.name = str(getattr(file, "path", None) or getattr(file, "name", "a Parquet file"))
        with naming(self.name):
            self.size = _check_footer(file)
            super().__init__(file, buffer_size=buffer, pre_buffer=False, page_checksum_verification=True)

    def close(self, force: bool = True) -> None:
        """Close the file, too."""
        super().close(force)


def _check_footer(file: BinaryIO) -> int:
    """The file's size. Arrow would read whatever length the file's end says."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - ARROW_TAIL, 0))
    end = file.read()[-8:]
    if end[4:] != b"PAR1":
        raise ValueError("it does not end as a Parquet file does: it is cut off, or another file")
    length = int.from_bytes(end[:4], "little")
    if length > MAX_FOOTER_BYTES:
        raise ValueError(f"its footer says that it has {length} bytes")
    file.seek(0)
    return size


@contextmanager
def naming(name: str) -> Iterator[None]:
    """What Arrow finds wrong with a file while it is read becomes an error with the file's name.

    Raises:
        MillError: the file is damaged. What is wrong with a disk or a network stays an OSError with its number.
    """
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise damaged(name, error) from error


def read_footer(file: BinaryIO | ShardFile) -> Footer:
    """The footer of an open file.

    Raises:
        MillError: not a file that this project wrote, or a damaged one.
    """
    parquet = file if isinstance(file, ShardFile) else ShardFile(file)
    with naming(parquet.name):
        metadata = parquet.metadata.metadata or {}
        if b"controlmill" not in metadata:
            raise ValueError("it carries no ControlMill provenance")
        return Footer(
            groups=tuple(parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups)),
            provenance=parse(metadata[b"controlmill"], Provenance),
            summary=parse(metadata.get(b"controlmill_summary", b"{}"), Summary),
            schema=parquet.schema_arrow,
        )


def read_table(parquet: ShardFile, columns: Sequence[str] | None = None, group: int | None = None) -> pa.Table:
    """Columns of one row group of an open file, or of all, without Arrow's threads.

    Raises:
        MillError: the file is damaged, or has no such column.
    """
    with naming(parquet.name):
        if group is None:
            table = parquet.read(columns=columns, use_threads=False)
        else:
            table = parquet.read_row_group(group, columns=columns, use_threads=False)
        return _sound(table, columns)


def read_rows(parquet: ShardFile, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of an open file in order, at most :data:`GROUP_ROWS` in memory at a time.

    Raises:
        MillError: the file is damaged, or has no such column.
    """
    for group in range(parquet.metadata.num_row_groups):
        with naming(parquet.name):
            batches = parquet.iter_batches(GROUP_ROWS, [group], columns, use_threads=False)
        while True:
            with naming(parquet.name):
                batch = next(batches, None)
                if batch is None:
                    break
                rows = _sound(batch, columns).to_pylist()
            yield from rows


T = TypeVar("T", pa.Table, pa.RecordBatch)


def _sound(found: T, columns: Sequence[str] | None) -> T:
    found.validate(full=True)  # texts are UTF-8, offsets lie in their buffers
    lacking = {name.split(".")[0] for name in columns or ()}.difference(found.schema.names)
    if lacking:
        raise ValueError(f"no column {', '.join(sorted(lacking))}")
    return found
