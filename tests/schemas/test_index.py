"""The index of a table, made from its files."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

from controlmill.schemas.index import table_index
from controlmill.schemas.provenance import Provenance
from controlmill.schemas.records import Entry


def test_how_each_file_was_made_is_not_held_in_memory() -> None:
    """It is the same of all, and of 200,000 files it would be a gigabyte."""
    alive: list[weakref.ref[Provenance]] = []
    most = 0

    def described() -> Iterator[tuple[Provenance, Entry]]:
        nonlocal most
        for shard in range(50):
            made = Provenance("rejected", "rejected")
            alive.append(weakref.ref(made))
            yield made, Entry(1, 1, shard, "0" * 64)
            del made
            most = max(most, sum(found() is not None for found in alive))

    index = table_index("rejected", described(), "")
    assert [entry.bytes for entry in index.shards] == list(range(50))
    assert most <= 3
