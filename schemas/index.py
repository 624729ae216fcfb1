"""A table's index, ``_tables/NAME.json``, made from its files; and how far a table is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from .errors import MillError
from .files.documents import plain
from .files.shardfile import read_footer
from .fingerprint import differences
from .provenance import Provenance
from .records import Entry, Index


@dataclass(frozen=True)
class TableState:
    """How far a table is: ``status`` is complete, stale or partial; the numbers are those of a finished one."""

    table: str
    status: str
    committed: int
    index: Index | None

    @property
    def rows(self) -> int:
        """Rows."""
        return self.index.rows if self.index else 0

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.bytes for entry in self.index.shards) if self.index else 0

    @property
    def empty(self) -> int:
        """Maps of which nothing is said (their coverage is 0)."""
        return sum(entry.empty for entry in self.index.shards) if self.index else 0

    @property
    def reasons(self) -> Counter[str]:
        """Rows refused, by reason."""
        return self.index.reasons if self.index else Counter()


def describe_file(file: BinaryIO) -> tuple[Provenance, Entry]:
    """(what all files of the table share, this file's entry in the index), from an open file."""
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    size = file.tell()
    file.seek(0)
    footer = read_footer(file)
    found = footer.summary
    made_from = footer.provenance.images_sha256
    entry = Entry(
        *(footer.rows, len(footer.groups), size, digest, made_from),
        *(found.reasons, found.captions, found.several, found.empty),
    )
    return footer.provenance.shared, entry


def table_index(table: str, described: Sequence[tuple[Provenance, Entry]], redo: str) -> Index:
    """The index of a table, from what :func:`describe_file` says of each file; ``redo`` says how to make it anew.

    Raises:
        MillError: its files were made in different ways.
    """
    first = described[0][0]
    for shard, (provenance, _) in enumerate(described):
        if provenance != first:
            changed = differences(plain(first), plain(provenance))[0]
            raise MillError(f"{table} is mixed: shard {shard} differs from shard 0 in {changed}; {redo}")
    return Index(table, first, tuple(entry for _, entry in described))


def stale_shards(index: Index, images: Index | None) -> list[int]:
    """Shards of a finished table whose images are not the ones that it was made from; none is known without images."""
    if images is None:
        return []
    now = images.digests
    return [shard for shard, entry in enumerate(index.shards) if shard >= len(now) or entry.images_sha256 != now[shard]]
