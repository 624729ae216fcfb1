"""Rows of the tables: read by row group, kept as bytes until they are taken, decoded to samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from controlmill.evaluation.rows import Sample, draws
from controlmill.schemas.caches import columns_of, unpacked
from controlmill.schemas.conditions import Condition
from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.shardfile import ShardFile, read_footer, read_table
from controlmill.schemas.images.codecs import decode_image, decode_map
from controlmill.schemas.maps.transforms import Augment, augment
from controlmill.schemas.names import shard_file
from controlmill.schemas.tables import EMBEDDINGS, LATENTS

from .cache_use import NONE, Caches

CACHE_BYTES = 1024**3  # that a reader keeps


@dataclass(frozen=True)
class StoredRow:
    """A row as it is stored: encoded picture and maps, and rows of caches by table.

    ``due`` is when it is taken; ``size`` is what of it is kept, in bytes.
    """

    image: bytes
    maps: Mapping[str, bytes]
    cached: Mapping[str, Mapping[str, Any]]
    caption: str
    columns: dict[str, Any]
    due: float

    @functools.cached_property
    def size(self) -> int:
        """Bytes of pictures, maps and caches."""
        cached = (value for row in self.cached.values() for value in row.values() if isinstance(value, bytes))
        return sum(map(len, (self.image, *self.maps.values(), *cached)))


class RowReader:
    """Reads rows by (shard, row group, row); the bytes of a group's other rows are kept until they are taken.

    ``due`` says which rows of a group are yet to be taken, and when, given the present sample of each stream. Of more
    than ``cache_bytes`` those that are due last are dropped, and their groups are read again. ``columns`` asks for
    scalar columns of the condition's table beside its map: what was drawn for the row.
    """

    def __init__(
        self,
        dataset: Dataset,
        conditions: dict[str, Condition],
        due: Callable[[int, int, Sequence[int]], dict[int, float]],
        cache_bytes: int = CACHE_BYTES,
        columns: Sequence[str] = (),
        caches: Caches = NONE,
    ):
        self.caches = caches
        self.dataset, self.conditions, self.columns = dataset, conditions, tuple(columns)
        self.captions = "captions" if dataset.index("captions") else "images"
        read = {"images", self.captions, *conditions, *caches.tables}
        self._indexes = {table: dataset.index(table) for table in read}
        self.due, self.cache_bytes = due, cache_bytes
        self.group_reads = 0
        self._rows: dict[tuple[int, int], StoredRow] = {}
        self.held_bytes = 0

    def take(self, location: np.void, now: Sequence[int]) -> StoredRow:
        """One row, which is forgotten once taken; ``now`` is the sample of each stream that is taken now or next."""
        row = int(location["shard"]), int(location["row"])
        if row not in self._rows:
            for number, found in self.read(row[0], int(location["group"]), now).items():
                if (row[0], number) not in self._rows:
                    self._rows[row[0], number] = found
                    self.held_bytes += found.size
        taken = self._rows.pop(row)
        self.held_bytes -= taken.size
        if self.held_bytes > self.cache_bytes:
            self._drop()
        return taken

    def _drop(self) -> None:
        for row in sorted(self._rows, key=lambda row: self._rows[row].due, reverse=True):
            self.held_bytes -= self._rows.pop(row).size
            if self.held_bytes <= self.cache_bytes:
                break

    def read(self, shard: int, group: int, now: Sequence[int]) -> dict[int, StoredRow]:
        """What is due of a row group from ``now`` on, by row."""
        self.group_reads += 1
        image_columns = ["key"] if self.caches.latents else ["key", "image.bytes"]
        tables = {"images": image_columns, **{name: ["key", "map.bytes"] for name in self.conditions}}
        for table, arrays in self.caches.arrays.items():
            tables[table] = ["key", *columns_of(arrays, table == LATENTS and self.caches.mirrored)]
        for name in self.conditions:
            tables[name] += self.columns
        tables.setdefault(self.captions, ["key"]).append("caption")
        parts: dict[str, dict[str, list[Any]]] = {}
        for table, columns in tables.items():
            with self.dataset.parquet(table, shard) as parquet:
                self._check_unchanged(table, shard, parquet)
                read = read_table(parquet, columns, group)
                first = sum(parquet.metadata.row_group(g).num_rows for g in range(group))
                parts[table] = {name: read.column(name).to_pylist() for name in read.column_names}
            if parts[table]["key"] != parts["images"]["key"]:
                raise MillError(f"{shard_file(table, shard)}, row group {group}: its keys are not those of the images")
        rows: dict[int, StoredRow] = {}
        for row, due in self.due(shard, group, now).items():
            i = row - first
            maps = {name: (parts[name]["map"][i] or {}).get("bytes") or b"" for name in self.conditions}
            image = b"" if self.caches.latents else (parts["images"]["image"][i] or {}).get("bytes") or b""
            cached = {table: {name: values[i] for name, values in parts[table].items()} for table in self.caches.tables}
            caption = parts[self.captions]["caption"][i] or ""
            values = {name: parts[table][name][i] for table in self.conditions for name in self.columns}
            rows[row] = StoredRow(image, maps, cached, caption, values, due)
        return rows

    def _check_unchanged(self, table: str, shard: int, parquet: ShardFile) -> None:
        """Raise MillError where a table was made anew since its index was read, at the start."""
        index = self._indexes[table]
        if index is None:
            return
        made = read_footer(parquet).provenance.shared
        if (made, parquet.size) != (index.made(shard), index.shards[shard].bytes):
            raise MillError(
                f"{parquet.name} is not the file that it was when the run began or went on: table {table} was made "
                "anew. Put the old one back to go on with --resume, or begin a new run"
            )

    def decode(self, location: np.void, stored: StoredRow, epoch: int, seed: int, change: Augment) -> Sample:
        """Decode and augment; safe in threads.

        Raises:
            MillError: the stored bytes are damaged, or are not of the size that the row says.
        """
        row = int(location["shard"]), int(location["row"])
        try:
            size = int(location["height"]), int(location["width"])
            image = None if self.caches.latents else decode_image(stored.image, size)
            maps = {name: decode_map(self.conditions[name].kind, data, size) for name, data in stored.maps.items()}
            window = change.draw(draws(seed, epoch, row, "augment"), *size)
            latents = self._arrays(LATENTS, stored.cached, mirrored=window[-1])
            if latents is None and self.caches.latents:
                raise ValueError("the cache has nothing of it")
            prompt = self._arrays(EMBEDDINGS, stored.cached)
        except (ValueError, OSError) as error:
            raise MillError(f"shard {row[0]}, row {row[1]} cannot be decoded: {error}") from error
        image, maps = augment(image, maps, self.conditions, window)
        return Sample(epoch, row, image, maps, stored.caption, stored.columns, latents, prompt)

    def _arrays(
        self, table: str, stored: Mapping[str, Mapping[str, Any]], mirrored: bool = False
    ) -> dict[str, np.ndarray] | None:
        """What a cache has of a row; None where there is none, or it stands for the empty prompt."""
        if table not in stored:
            return None
        return unpacked(stored[table], self.caches.arrays[table], self.caches.stored[table], mirrored)
