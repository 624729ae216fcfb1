"""A table's index, ``_tables/NAME.json``: what its files have in common, and rows, bytes and sha256 of each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from .errors import MillError
from .files.shardfile import read_footer
from .fingerprint import differences


@dataclass(frozen=True)
class TableState:
    """How far a table is: ``status`` is complete, stale or partial."""

    table: str
    status: str
    committed: int
    index: dict[str, Any] | None

    @property
    def rows(self) -> int:
        """Rows of a finished table."""
        return sum(entry["rows"] for entry in self.index["shards"]) if self.index else 0

    @property
    def bytes(self) -> int:
        """Bytes of a finished table."""
        return sum(entry["bytes"] for entry in self.index["shards"]) if self.index else 0

    @property
    def empty(self) -> int:
        """Maps of which nothing is said (their coverage is 0)."""
        return sum(entry.get("empty", 0) for entry in self.index["shards"]) if self.index else 0

    @property
    def reasons(self) -> Counter[str]:
        """Rows refused, by reason."""
        counts: Counter[str] = Counter()
        for entry in self.index["shards"] if self.index else ():
            counts.update(entry.get("reasons", {}))
        return counts


def describe_file(file: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what all files of the table share, this file's entry in the shard index), from an open file."""
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    size = file.tell()
    file.seek(0)
    footer = read_footer(file)
    entry = {
        "rows": footer.rows,
        "row_groups": len(footer.groups),
        "bytes": size,
        "sha256": digest,
        **({"images_sha256": footer.images_sha256} if footer.images_sha256 else {}),
        **{
            name: footer.summary[name]
            for name in ("reasons", "captions", "several", "empty")
            if footer.summary.get(name)
        },
    }
    return footer.shared, entry


def table_index(table: str, described: Sequence[tuple[dict[str, Any], dict[str, Any]]], redo: str) -> dict[str, Any]:
    """The index of a table, from what :func:`describe_file` says of each file; ``redo`` says how to make it anew.

    Raises:
        MillError: its files were made in different ways.
    """
    provenances = [provenance for provenance, _ in described]
    for shard, provenance in enumerate(provenances):
        if provenance != provenances[0]:
            first = differences(provenances[0], provenance)[0]
            raise MillError(f"{table} is mixed: shard {shard} differs from shard 0 in {first}; {redo}")
    return {
        "table": table,
        "provenance": provenances[0] if provenances else {},
        "shards": [entry for _, entry in described],
    }


def stale_shards(index: Mapping[str, Any], images: Mapping[str, Any] | None) -> list[int]:
    """Shards of a finished table whose images are not the ones that it was made from; none is known without images."""
    if images is None:
        return []
    now = [entry["sha256"] for entry in images["shards"]]
    return [
        shard
        for shard, entry in enumerate(index["shards"])
        if shard >= len(now) or entry["images_sha256"] != now[shard]
    ]
