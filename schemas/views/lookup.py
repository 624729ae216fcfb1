"""Rows at places of a dataset: what results read of the rows that they were made for."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..dataset import Dataset
from ..errors import MillError
from .rows import open_aligned, read_aligned

Place = tuple[int, int]  # shard, row of the shard


def rows_at(
    dataset: Dataset, columns: Mapping[str, Sequence[str]], places: Iterable[Place]
) -> Iterator[dict[str, dict[str, Any]]]:
    """Rows of several tables side by side, at ascending places; one row group of each is in memory at a time.

    Args:
        dataset: where they are.
        columns: the tables, and of each the columns that are read beside its key.
        places: (shard, row), none before the one ahead of it; the same again costs nothing.

    Yields:
        Of each place, table → column → value.

    Raises:
        MillError: there is no such row, a table is damaged, or its rows are not those of the others.
    """
    for shard, wanted in itertools.groupby(places, key=lambda place: place[0]):
        with open_aligned(dataset, shard, columns) as (files, groups):
            starts = [0, *itertools.accumulate(groups)]
            held, read = -1, dict[str, pa.Table]()
            for _, row in wanted:
                group = bisect_right(starts, row) - 1
                if not 0 <= group < len(starts) - 1:
                    raise MillError(f"{dataset.storage.address} has no row {row} in shard {shard}: it changed since")
                if group != held:
                    held, read = group, read_aligned(dataset, shard, files, columns, group)
                at = row - starts[group]
                yield {table: part.slice(at, 1).to_pylist()[0] for table, part in read.items()}
