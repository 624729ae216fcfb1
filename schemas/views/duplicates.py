"""Pictures that a dataset has twice: rows of shards that were appended, whose bytes an earlier row has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..dataset import Dataset
from ..files.shardfile import read_table
from ..tables import IMAGES
from ..terminal.printing import printable

NAMED = 5
NONE = np.zeros(0, "S16")


@dataclass
class Duplicates:
    """New rows that have the bytes of an earlier row; of these ``same_key`` have its name too.

    ``named`` are the first of them: (source of the new row, source of the earlier one).
    """

    rows: int = 0
    same_key: int = 0
    named: list[tuple[str, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people; nothing where there are none."""
        if not self.rows:
            return []
        named = [f"{printable(new)} is {printable(old)}" if new != old else printable(new) for new, old in self.named]
        more = ", …" if self.rows > len(named) else ""
        names = f", {self.same_key:,} of them under the same name" if self.same_key else ""
        return [
            f"{self.rows:,} new pictures were in the dataset before, byte for byte{names}: {', '.join(named)}{more}"
        ]


def duplicates(dataset: Dataset, first_shard: int) -> Duplicates:
    """What of the shards from ``first_shard`` on is in an earlier row too. Memory: 80 bytes for each new picture.

    Args:
        dataset: its images are complete.
        first_shard: the first of the new shards.
    """
    parts = [_hashes(dataset, shard) for shard in range(first_shard, dataset.shards)]
    starts = np.cumsum([0, *(len(digests) for digests, _ in parts)])
    digests, keys = (np.concatenate([part[column] for part in parts] or [NONE]) for column in (0, 1))
    orders = [np.argsort(hashes, kind="stable") for hashes in (digests, keys)]
    earlier = np.full((len(digests), 2), -1)  # shard and row of the first that has the same bytes
    same_key = np.zeros(len(digests), bool)
    for shard in range(first_shard):
        old_digests, old_keys = _hashes(dataset, shard)
        for row, new in _matches(old_digests, digests, orders[0]):
            earlier[new[earlier[new, 0] < 0]] = shard, row
        for _, new in _matches(old_keys, keys, orders[1]):
            same_key[new] = True
    again = np.flatnonzero(earlier[:, 0] >= 0)
    found = Duplicates(len(again), int(same_key.sum()))
    for row in again[:NAMED].tolist():
        part = int(np.searchsorted(starts, row, "right")) - 1
        new_source = _source(dataset, first_shard + part, row - int(starts[part]))
        found.named.append((new_source, _source(dataset, *earlier[row].tolist())))
    return found


def _hashes(dataset: Dataset, shard: int) -> tuple[np.ndarray, np.ndarray]:
    """16 bytes of the sha256, and the key, of each row."""
    with dataset.parquet(IMAGES, shard) as parquet:
        columns = read_table(parquet, ["sha256", "key"])
    digests, keys = (
        np.array([bytes.fromhex(text)[:16] for text in columns.column(name).to_pylist()], "S16")
        for name in ("sha256", "key")
    )
    return digests, keys


def _matches(old: np.ndarray, new: np.ndarray, order: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(row, the new rows of the same value) of each old row that has any; ``order`` sorts ``new``."""
    left, right = (np.searchsorted(new, old, side, sorter=order) for side in ("left", "right"))
    for row in np.flatnonzero(left < right).tolist():
        yield row, order[left[row] : right[row]]


def _source(dataset: Dataset, shard: int, row: int) -> str:
    with dataset.parquet(IMAGES, shard) as parquet:
        return str(read_table(parquet, ["source"]).column("source")[row])
