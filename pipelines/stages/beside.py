"""Rows of results beside the rows of their source: each picture's own, and another one that it is compared with."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.results import CEILING, OF_ROW, OF_SHARD, PROMPT_KIND
from controlmill.schemas.tables import IMAGES, TRUE
from controlmill.schemas.views.lookup import Place, rows_at
from controlmill.schemas.views.rows import aligned_groups

Columns = Mapping[str, Sequence[str]]  # table → its columns
Found = dict[str, dict[str, Any]]  # table → column → value


def beside(rows: Iterator[dict[str, Any]], source: Dataset, columns: Columns) -> Iterator[tuple[dict[str, Any], Found]]:
    """Rows of the images of results, each with the row that it was made for: see :func:`lookup.rows_at`."""
    rows, ahead = itertools.tee(rows)
    return zip(rows, rows_at(source, columns, (place_of(row) for row in ahead)), strict=True)


def beside_others(
    rows: Iterator[dict[str, Any]], source: Dataset, columns: Columns, others: Mapping[Place, Place]
) -> Iterator[tuple[dict[str, Any], Found | None]]:
    """Rows of the images of results, each with another row than that which it was made for.

    Args:
        rows: with their width and height.
        source: the dataset that they were made for.
        columns: what is read of it.
        others: see :func:`listing.other_places`; a row that is not there has None beside it.
    """
    asked: dict[tuple[int, int], deque[Place]] = {}
    read: dict[tuple[int, int], Iterator[Found]] = {}  # of each size one: among rows of a size, places rarely go back
    for row in rows:
        place, size = others.get(place_of(row)), (row["height"], row["width"])
        if place is None:
            yield row, None
            continue
        queue = asked.setdefault(size, deque())
        queue.append(place)
        if size not in read:
            read[size] = rows_at(source, columns, iter(queue.popleft, None))
        yield row, next(read[size])


def once_a_row(
    rows: Iterator[dict[str, Any]], source: Dataset, table: str, columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """What was read of each row that pictures of results were made for, once for all these.

    ``key`` is the tuple of the pictures' keys. Pictures for the ceiling, which stand behind all others, are put to the
    row before them: theirs have been read.
    """

    def groups() -> Iterator[list[dict[str, Any]]]:
        group: list[dict[str, Any]] = []
        for row in rows:
            if group and row[PROMPT_KIND] != CEILING and place_of(row) != place_of(group[0]):
                yield group
                group = []
            group.append(row)
        if group:
            yield group

    found, ahead = itertools.tee(groups())
    read = rows_at(source, {table: columns}, (place_of(group[0]) for group in ahead))
    for group, row in zip(found, read, strict=True):
        yield {**row[table], "key": tuple(one["key"] for one in group)}


def features_of_rows(results: Dataset, tables: Sequence[str]) -> dict[str, dict[Place, np.ndarray]]:
    """Table → row of the source → its features, float32, of those that results have of their source's rows."""
    found: dict[str, dict[Place, np.ndarray]] = {table: {} for table in tables}
    wanted = {IMAGES: [OF_SHARD, OF_ROW], **{f"{TRUE}{table}": ["features"] for table in tables}}
    for shard in range(results.shards if tables else 0):
        for _, read in aligned_groups(results, shard, wanted):
            places = [place_of(row) for row in read[IMAGES].to_pylist()]
            for table in tables:
                for place, features in zip(places, read[f"{TRUE}{table}"].column("features").to_pylist(), strict=True):
                    if features is not None:
                        found[table].setdefault(place, np.asarray(features, np.float32))
    return found


def place_of(row: Mapping[str, Any]) -> Place:
    """The place in the source of a row of the images of results."""
    return row[OF_SHARD], row[OF_ROW]
