"""Pictures that a dataset has twice: rows of shards that were appended, whose bytes an earlier row has."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..dataset import Dataset
from ..files.shardfile import read_table
from ..tables import IMAGES
from ..terminal.printing import printable

NAMED = 5


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
    """What of the shards from ``first_shard`` on is in an earlier row too. Memory: 40 bytes a picture.

    Args:
        dataset: its images are complete.
        first_shard: the first of the new shards.
    """
    hashes, keys, rows = bytearray(), bytearray(), []
    for shard in range(dataset.shards):
        with dataset.parquet(IMAGES, shard) as parquet:
            columns = read_table(parquet, ["sha256", "key"])
        rows.append(columns.num_rows)
        hashes += b"".join(bytes.fromhex(text)[:16] for text in columns.column("sha256").to_pylist())
        keys += b"".join(bytes.fromhex(text)[:16].ljust(16, b"\0") for text in columns.column("key").to_pylist())
    starts = np.concatenate([[0], np.cumsum(rows, dtype=int)])
    new = np.arange(starts[first_shard], starts[-1])
    earlier, same = (_earliest(np.frombuffer(found, "S16"), new) for found in (hashes, keys))
    again = earlier < starts[first_shard]
    found = Duplicates(int(again.sum()), int((same < starts[first_shard]).sum()))
    for pair in zip(new[again][:NAMED], earlier[again][:NAMED], strict=True):
        named = [_source(dataset, starts, int(row)) for row in pair]
        found.named.append((named[0], named[1]))
    return found


def _earliest(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """For each of some rows the first row of the same value."""
    order = np.argsort(values, kind="stable")
    first: np.ndarray = order[np.searchsorted(values[order], values[rows])]
    return first


def _source(dataset: Dataset, starts: np.ndarray, row: int) -> str:
    shard = int(np.searchsorted(starts, row, "right")) - 1
    with dataset.parquet(IMAGES, shard) as parquet:
        return str(read_table(parquet, ["source"]).column("source")[row - int(starts[shard])])
