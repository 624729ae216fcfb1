"""Rows of several tables side by side, in the order of the images: what Python programs and the contact sheet read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from ..conditions import Condition
from ..dataset import Dataset
from ..errors import MillError
from ..files.shardfile import ShardFile, read_footer, read_table
from ..images.codecs import decode_image, decode_map
from ..tables import IMAGES

Value = np.ndarray | str | None


class Row:
    """One picture, with its maps and captions from the tables that were asked for, decoded as they are looked at.

    ``row["images"]`` is uint8 (H, W, 3), RGB; ``row["canny"]`` the map's array, of the dtype and shape that its
    condition has (``Condition.kind``); ``row["captions"]`` a string; None stands for a map that could not be made.
    """

    def __init__(self, key: str, stored: dict[str, dict[str, Any]], conditions: dict[str, Condition]):
        self.key = key
        self._stored = stored
        self._conditions = conditions

    def __getitem__(self, table: str) -> Value:
        """What a table has for this picture, decoded.

        Raises:
            KeyError: the table was not asked for.
            MillError: it cannot be decoded.
        """
        row = self._stored[table]
        try:
            if table == IMAGES:
                return decode_image(row["image"]["bytes"], (row["height"], row["width"]))
            condition = self._conditions[table]
            if condition.kind == "text":
                caption: str | None = row["caption"]
                return caption
            data, image = self.data(table), self._stored.get(IMAGES)
            size = (image["height"], image["width"]) if image else None
            return None if data is None else decode_map(condition.kind, data, size)
        except (ValueError, TypeError) as error:
            raise MillError(f"{table}: the row of {self.key} is damaged: it {error}") from error

    def data(self, table: str) -> bytes | None:
        """The stored picture or map, as the bytes of an image file; None where there is none."""
        stored = self._stored[table]["image" if table == IMAGES else "map"]
        return None if stored is None else stored["bytes"] or b""

    def reason(self, table: str) -> str | None:
        """Why there is no map, as a reason code; None where there is one."""
        reason: str | None = self._stored[table].get("reason")
        return reason

    def columns(self, table: str) -> dict[str, Any]:
        """Everything else that the table stores of this picture: its source and caption, thresholds, keypoints…"""
        return {name: value for name, value in self._stored[table].items() if name not in ("key", "image", "map")}

    def __repr__(self) -> str:
        return f"Row({self.key!r}, {', '.join(self._stored)})"


def aligned_rows(dataset: Dataset, tables: Sequence[str], first: int, count: int | None) -> Iterator[Row]:
    """Rows from number ``first`` on, ``count`` of them or all; a row group of each table is in memory at a time.

    Raises:
        MillError: a table is damaged, or its rows are not those of the images.
    """
    index = dataset.index(IMAGES)
    conditions = {table: dataset.condition(table) for table in tables if table != IMAGES}
    left = count
    for shard, entry in enumerate(index.shards if index else ()):
        if left == 0:
            return
        if first >= entry.rows:
            first -= entry.rows
            continue
        for row in _rows_of_shard(dataset, shard, tables, first, left, conditions):
            yield row
            left = None if left is None else left - 1
        first = 0


def _rows_of_shard(
    dataset: Dataset, shard: int, tables: Sequence[str], first: int, count: int | None, conditions: dict[str, Condition]
) -> Iterator[Row]:
    for start, read in aligned_groups(dataset, shard, dict.fromkeys(tables), first):
        keys = read[tables[0]].column("key")
        end = len(keys) if count is None else min(len(keys), first + count - start)
        for number in range(max(first - start, 0), end):
            stored = {table: part.slice(number, 1).to_pylist()[0] for table, part in read.items()}
            yield Row(keys[number].as_py(), stored, conditions)
        if count is not None and start + len(keys) >= first + count:
            return


def aligned_groups(
    dataset: Dataset, shard: int, columns: Mapping[str, Sequence[str] | None], first: int = 0
) -> Iterator[tuple[int, dict[str, pa.Table]]]:
    """Row groups of several tables of a shard, side by side; one of each is read at a time.

    Args:
        dataset: where they are.
        shard: which.
        columns: the tables, and of each the columns that are read beside its key; None: all.
        first: groups that end before this row of the shard are left out.

    Yields:
        The number of the group's first row, and of each table the group.

    Raises:
        MillError: a table is damaged, or its rows are not those of the others.
    """
    with open_aligned(dataset, shard, columns) as (files, groups):
        start = 0
        for group, size in enumerate(groups):
            if start + size > first:
                yield start, read_aligned(dataset, shard, files, columns, group)
            start += size


@contextmanager
def open_aligned(
    dataset: Dataset, shard: int, tables: Iterable[str]
) -> Iterator[tuple[dict[str, ShardFile], tuple[int, ...]]]:
    """(table → its open file, the rows of each row group) of several tables of a shard.

    Raises:
        MillError: a table is damaged, or its row groups are not those of the others.
    """
    with ExitStack() as opened:
        files = {table: opened.enter_context(dataset.parquet(table, shard)) for table in tables}
        groups = {read_footer(file).groups for file in files.values()}
        if len(groups) > 1:
            raise _misaligned(dataset, shard, files)
        yield files, groups.pop()


def read_aligned(
    dataset: Dataset,
    shard: int,
    files: Mapping[str, ShardFile],
    columns: Mapping[str, Sequence[str] | None],
    group: int,
) -> dict[str, pa.Table]:
    """A row group of several tables, with their keys; ``columns`` as for :func:`aligned_groups`.

    Raises:
        MillError: a table is damaged, or its rows are not those of the others.
    """
    read = {}
    for table, file in files.items():
        asked = columns[table]
        names = file.schema_arrow.names if asked is None else [*dict.fromkeys(("key", *asked))]
        read[table] = read_table(file, names, group)
    keys = [part.column("key") for part in read.values()]
    if any(column != keys[0] for column in keys):
        raise _misaligned(dataset, shard, files)
    return read


def _misaligned(dataset: Dataset, shard: int, tables: Iterable[str]) -> MillError:
    return MillError(
        f"{dataset.storage.address}: {', '.join(tables)} do not have the same rows in shard {shard}: "
        "controlmill verify tells more"
    )


def complete_tables(dataset: Dataset) -> list[str]:
    """Tables of pictures, maps and captions that are complete, and made from the images that are there."""
    names = [name for name in dataset.tables() if name == IMAGES or name in dataset.condition_tables()]
    return [name for name in names if dataset.state(name).status == "complete"]


class OpenDataset:
    """A dataset that is read. ``len`` of it are its pictures; ``tables`` are those that can be read."""

    def __init__(self, address: str | os.PathLike[str]):
        self._dataset = Dataset.open(address)
        self.tables = complete_tables(self._dataset)

    def __len__(self) -> int:
        index = self._dataset.index(IMAGES)
        return index.rows if index else 0

    def rows(self, *tables: str, first: int = 0, count: int | None = None) -> Iterator[Row]:
        """The rows of some tables side by side (of all, where none is named), from number ``first`` on.

        Each picture is one row, in the order in which it is stored. A row group of each table is in memory, and what
        the caller keeps; pictures are decoded as they are asked for.

        Raises:
            MillError: a table, or that of the images, is not there or not complete; one is damaged, or its rows are not
                those of the images.
        """
        needed = dict.fromkeys((IMAGES, *tables))  # the images say which rows there are
        lacking = [table for table in needed if table not in self.tables]
        if lacking:
            raise MillError(
                f"{self._dataset.storage.address} has no complete table {', '.join(lacking)}; "
                f"there are: {', '.join(self.tables) or 'none'}"
            )
        if first < 0 or (count is not None and count < 0):
            raise MillError(f"rows: first {first} and count {count} are 0 or more")
        return aligned_rows(self._dataset, tables or self.tables, first, count)

    def summary(self) -> dict[str, Any]:
        """What is there and how it was made, as ``inspect --json`` prints it."""
        from .summary import dataset_summary

        return dataset_summary(self._dataset)


def open_dataset(address: str | os.PathLike[str]) -> OpenDataset:
    """Open a dataset: a local folder or an fsspec address.

    Raises:
        MillError: there is none, or it is damaged or of another schema version.
    """
    return OpenDataset(address)
