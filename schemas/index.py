"""A table's index, ``_tables/NAME.json``, made from its files; and how far a table is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import BinaryIO

from .errors import MillError
from .files.documents import plain
from .files.shardfile import read_footer
from .fingerprint import differences
from .provenance import Provenance
from .records import Change, Entry, Index


@dataclass(frozen=True)
class TableState:
    """How far a table is; the numbers are those of a finished one.

    ``status`` is complete; stale (made from other images or captions than are there now); behind (it was complete, and
    shards were appended to the dataset since); or partial.
    """

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
        *(found.reasons, found.captions, found.several, found.empty, footer.provenance.captions_sha256),
    )
    return footer.provenance.shared, entry


def table_index(
    table: str, described: Iterable[tuple[Provenance, Entry]], redo: str, starts: Collection[int] = ()
) -> Index:
    """The index of a table.

    Args:
        table: which.
        described: what :func:`describe_file` says of each file. How a file was made is held of two at a time: of many
            files it would take more memory than all else.
        redo: how to make the table anew.
        starts: shards from which on it may have been made in another way than before.

    Raises:
        MillError: its files were made in different ways.
    """
    first: Provenance | None = None
    last: Provenance | None = None
    changes, entries = [], []
    for shard, (provenance, entry) in enumerate(described):
        entries.append(entry)
        if last is None:
            first = last = provenance
        elif provenance != last and shard in starts:
            changes.append(Change(shard, provenance))
            last = provenance
        elif provenance != last:
            changed = differences(plain(last), plain(provenance))[0]
            raise MillError(f"{table} is mixed: shard {shard} differs from those before it in {changed}; {redo}")
    assert first is not None
    return Index(table, first, tuple(entries), tuple(changes))


def stale_shards(index: Index, images: Index | None, captions: Index | None = None) -> list[int]:
    """Shards of a finished table that were made from other images or captions than those of now, as far as known.

    ``captions`` is the index of the table of captions, where the table was made from it.
    """
    now, said = images.digests if images else None, captions.digests if captions else []
    return [
        shard
        for shard, entry in enumerate(index.shards)
        if (now is not None and (shard >= len(now) or entry.images_sha256 != now[shard]))
        or (shard < len(said) and entry.captions_sha256 != said[shard])
    ]
