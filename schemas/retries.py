"""What was refused and taken again: a retry appends a segment, whose rows say which refusals they replace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from .dataset import Dataset
from .files.shardfile import read_table
from .tables import REJECTED, SOURCES

ATTEMPT = ("source", "retries_shard", "retries_row")


def retried_rejects(dataset: Dataset) -> set[tuple[int, int]]:
    """(shard, row) of each refusal, in the table ``rejected``, that was followed by another attempt."""
    retries = [segment.range for segment in dataset.config.segments if segment.retries is not None]
    listed = dataset.committed(SOURCES) if retries else set()
    shards = [shard for shard in sorted(listed) if any(shard in part for part in retries)]
    return {place for shard in shards for _, place in _attempts(dataset, shard)}


def refused_pictures(dataset: Dataset) -> Counter[str]:
    """How many pictures are refused, by reason, the last attempt at each counting; none while that is not known."""
    return dataset.state(REJECTED).reasons - dataset.config.retried


def retry_faults(dataset: Dataset) -> Iterator[str]:
    """What is wrong with retries: each of their rows follows a refusal of the segment that they retry, once."""
    followed: set[Any] = set()
    for number, segment in enumerate(dataset.config.segments):
        if segment.retries is None:
            continue
        earlier = dataset.config.segments[:number]
        parts = [part for n, part in enumerate(earlier) if segment.retries in (n, part.retries)]
        refused = {
            (shard, row): source
            for part in parts
            for shard in part.range
            for row, source in enumerate(column_of(dataset, REJECTED, shard, "source"))
        }
        for shard in segment.range:
            for source, place in _attempts(dataset, shard):
                if refused.get(place) != source:
                    yield f"shard {shard} retries what was not refused: {source}"
                elif place in followed:
                    yield f"shard {shard} retries a refusal that was retried before: {source}"
                followed.add(place)


def _attempts(dataset: Dataset, shard: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """(source, the place of the refusal that it follows) of the rows of a retry's shard."""
    sources, shards, rows = (column_of(dataset, SOURCES, shard, name) for name in ATTEMPT)
    yield from zip(sources, zip(shards, rows, strict=True), strict=True)


def column_of(dataset: Dataset, table: str, shard: int, column: str) -> list[Any]:
    """The values of a column of a shard."""
    with dataset.parquet(table, shard) as parquet:
        values: list[Any] = read_table(parquet, [column]).column(column).to_pylist()
        return values
