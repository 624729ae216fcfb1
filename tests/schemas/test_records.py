"""The index of a table: that the largest one which can come to be can be read."""

from __future__ import annotations

import json

from controlmill.schemas.bounds import MAX_SHARD_ROWS, MAX_SHARDS
from controlmill.schemas.files.documents import MAX_BYTES, plain
from controlmill.schemas.provenance import IngestRecord, LimitsRecord, Provenance
from controlmill.schemas.reasons import REASONS
from controlmill.schemas.records import CaptionCounts, Entry, Index

MADE = Provenance("images", "images", IngestRecord(1, 512, "crop", LimitsRecord(1000, 1000, 1), None))


def test_the_index_of_the_most_shards_can_be_read_whatever_was_refused() -> None:
    most = 4_000  # pictures refused for each reason, in each shard
    counts = CaptionCounts(MAX_SHARD_ROWS, MAX_SHARD_ROWS)
    refused = dict.fromkeys(REASONS, most)
    entry = Entry(MAX_SHARD_ROWS, MAX_SHARD_ROWS, 10**11, "0" * 64, "0" * 64, refused, counts, 99_999, 99_999, "0" * 64)

    def size(shards: int) -> int:
        return len(json.dumps(plain(Index("images", MADE, (entry,) * shards)), indent=1))

    assert size(1) + (size(101) - size(1)) / 100 * MAX_SHARDS < MAX_BYTES
