"""One Parquet file of a table: written to a scratch file, described by its own footer.

Row groups have the bounds that the images file of the shard has. Pictures are plain and uncompressed (they are
compressed already) and have no statistics (Parquet would copy small ones into the footer).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from .fingerprint import canonical
from .tables import is_image, with_metadata

GROUP_ROWS = 64
GROUP_PIXELS = 64 * 1024 * 1024
GROUP_BYTES = 256 * 1024 * 1024
PER_SHARD = ("shard", "images_sha256")  # provenance that differs from file to file


class ShardWriter:
    """Writes row groups to ``path``; what is known only at the end goes into the footer by :meth:`close`."""

    def __init__(self, path: Path, schema: pa.Schema, provenance: Mapping[str, Any]):
        self.schema = with_metadata(schema, canonical(provenance))
        media = [f"{field.name}.{part}" for field in schema if is_image(field) for part in ("bytes", "path")]
        scalars = [_column_path(field) for field in schema if not is_image(field)]
        self._writer = pq.ParquetWriter(
            path,
            self.schema,
            compression={**dict.fromkeys(media, "NONE"), **dict.fromkeys(scalars, "SNAPPY")},
            use_dictionary=[column for column in scalars if column.split(".")[0] in ("reason", "error")],
            write_statistics=scalars,
            write_page_index=True,
            use_content_defined_chunking=True,
            version="2.6",
        )

    def write_group(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """One row group; nothing is written for no rows (a group of none breaks `datasets`)."""
        if rows:
            table = pa.Table.from_pylist(list(rows), schema=self.schema)
            self._writer.write_table(table.combine_chunks(), row_group_size=len(rows))

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        """Finish the file, with ``summary`` as the footer's ``controlmill_summary``."""
        if summary is not None:
            self._writer.add_key_value_metadata({"controlmill_summary": canonical(summary)})
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
    provenance: dict[str, Any]
    summary: dict[str, Any]
    schema: pa.Schema

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return sum(self.groups)

    @property
    def shared(self) -> dict[str, Any]:
        """Provenance without what differs from file to file."""
        return {key: value for key, value in self.provenance.items() if key not in PER_SHARD}

    @property
    def images_sha256(self) -> str | None:
        """The images file that the maps were made from."""
        return self.provenance.get("images_sha256")


def open_parquet(file: BinaryIO) -> pq.ParquetFile:
    """A Parquet file that starts no threads of Arrow's.

    Where they read through a Python file, they can abort the interpreter as it ends (apache/arrow#34314); and our jobs
    have workers of their own.

    Raises:
        pyarrow.ArrowInvalid: not a Parquet file, or a damaged one.
    """
    return pq.ParquetFile(file, pre_buffer=False)


def read_footer(file: BinaryIO | pq.ParquetFile) -> Footer:
    """The footer of an open file.

    Raises:
        ValueError: not a file that this project wrote.
    """
    parquet = file if isinstance(file, pq.ParquetFile) else open_parquet(file)
    metadata = parquet.metadata.metadata or {}
    if b"controlmill" not in metadata:
        raise ValueError("the file carries no ControlMill provenance")
    groups = tuple(parquet.metadata.row_group(i).num_rows for i in range(parquet.metadata.num_row_groups))
    return Footer(
        groups=groups,
        provenance=json.loads(metadata[b"controlmill"]),
        summary=json.loads(metadata.get(b"controlmill_summary", b"{}")),
        schema=parquet.schema_arrow,
    )


def read_table(parquet: pq.ParquetFile, columns: Sequence[str] | None = None, group: int | None = None) -> pa.Table:
    """Columns of one row group of an open file, or of all, without Arrow's threads."""
    if group is None:
        return parquet.read(columns=columns, use_threads=False)
    return parquet.read_row_group(group, columns=columns, use_threads=False)


def read_rows(parquet: pq.ParquetFile, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of an open file in order, one row group in memory at a time."""
    for group in range(parquet.metadata.num_row_groups):
        yield from read_table(parquet, columns, group).to_pylist()
