"""Checks every promise that can be checked from a dataset's files, and says where one is broken.

Conservation: listed = kept + rejected. Alignment: the same keys in the same order, maps as large as their images.
Provenance: every file says how it was made, and from which images. Commit: nothing is missing, nothing is left over,
and the bytes are those of the index.

The dataset may come from anybody. A file is read only after its footer was found to be like those that are written
here, and a picture is decoded only after its header was found to be of its row's size: so memory is bounded, and
whatever else is wrong is a fault of its file.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..caches import arrays_of, cache_schema, columns_of
from ..caches import fault as cache_fault
from ..conditions import NAME, NAME_RULE, Condition
from ..dataset import Dataset
from ..errors import MillError, error_text
from ..files.documents import plain
from ..files.layout import LayoutCheck
from ..files.shardfile import Footer, open_parquet, read_footer, read_rows, read_table
from ..files.whole import TEMPORARY
from ..fingerprint import differences, fingerprint, row_key
from ..images.codecs import decode_image, decode_map
from ..index import describe_file
from ..maps.user_maps import coverage
from ..names import GROWING, REDO, shard_file
from ..provenance import Provenance
from ..records import Index
from ..redo import leftovers
from ..retries import retry_faults
from ..stored import stored_condition
from ..tables import BASE_TABLES, CACHES, IMAGES, LATENTS, REJECTED, SOURCES, TABLES, condition_schema, images_schema
from ..terminal.printing import printable
from .card import CARD, stated_indexes

MAX_CARD_BYTES = 1024 * 1024
MAX_TEXT = 1000  # characters of a fault: what it quotes may be of any length


@dataclass(frozen=True)
class Fault:
    """A broken promise: which one, in which file, and what was found."""

    promise: str
    where: str
    found: str

    def __str__(self) -> str:
        return printable(f"{self.promise}: {self.where}: {self.found}")[:MAX_TEXT]


def verify(dataset: Dataset, pixels: bool = True) -> Iterator[Fault]:
    """Every fault of a dataset. With ``pixels`` each picture and map is decoded, and the caches' values are read."""
    yield from _guarded("the folder", _left_over(dataset))
    if not dataset.config.segments:
        yield Fault("commit", "dataset.json", "nothing is listed yet; run the ingest command again")
        return
    complete = []
    with LayoutCheck() as check_layout:
        for table in dataset.tables():
            faults = list(_guarded(table, _table_faults(dataset, table, check_layout)))
            yield from faults
            if not any(fault.promise == "commit" for fault in faults):
                complete.append(table)
    for table in BASE_TABLES:
        if table not in dataset.tables():
            yield Fault("commit", table, "the table is missing")
    if len(complete) == len(dataset.tables()):
        yield from _guarded(CARD, _card_faults(dataset))
    if all(table in complete for table in BASE_TABLES):
        yield from _guarded("dataset.json", _settings(dataset))
        yield from _guarded(SOURCES, (Fault("conservation", SOURCES, found) for found in retry_faults(dataset)))
        for shard in range(dataset.shards):
            yield from _guarded(f"shard {shard}", _conservation(dataset, shard))
            yield from _guarded(f"shard {shard}", _images(dataset, shard, pixels))
            for table in complete:
                if table not in BASE_TABLES:
                    yield from _guarded(f"shard {shard}", _alignment(dataset, table, shard, pixels))


def _guarded(where: str, faults: Iterator[Fault]) -> Iterator[Fault]:
    try:
        yield from faults
    except MillError as error:
        yield Fault("commit", where, f"cannot be read: {error}")
    except Exception as error:  # of a file from anybody, nothing is sure
        yield Fault("commit", where, f"cannot be read: {error_text(error)}")


def _left_over(dataset: Dataset) -> Iterator[Fault]:
    """What jobs leave that did not end, and indexes of tables that are not there."""
    storage = dataset.storage
    for run in storage.folders("_run"):
        yield Fault("commit", f"_run/{run}", "a job is at work, or did not end: the next one removes it then")
    if storage.exists(GROWING):
        yield Fault("commit", GROWING, "an extend or a retry is not ended: the same command goes on with it")
    for left in leftovers(storage):
        yield Fault("commit", REDO, left)
    for name in storage.folders():
        if not name.startswith(("_", ".")) and not NAME.fullmatch(name):
            yield Fault("commit", name, f"is a folder of no table: a table's name is {NAME_RULE}")
    for folder in ("", "_tables"):
        for name in storage.files(folder):
            if TEMPORARY.search(name):
                yield Fault("commit", f"{folder}/{name}".lstrip("/"), "was not written to its end; it can be removed")
            elif folder and name.removesuffix(".json") not in dataset.tables():
                yield Fault("commit", f"{folder}/{name}", "is the index of no table")


def _card_faults(dataset: Dataset) -> Iterator[Fault]:
    """Whether the card offers the tables as they are: by it, `datasets` knows a table that it has read before."""
    states = [dataset.state(table) for table in dataset.tables() if table != SOURCES]
    there = {fingerprint(plain(state.index)) for state in states if state.status == "complete" and state.rows}
    with dataset.storage.open(CARD) as file:
        told = stated_indexes(file.read(MAX_CARD_BYTES).decode())
    if told != there:
        yield Fault("commit", CARD, "was written for other tables: the next job writes it again")


def _table_faults(dataset: Dataset, table: str, check_layout: LayoutCheck) -> Iterator[Fault]:
    """Index, files and provenance of one table."""
    index = dataset.index(table)
    committed, shards = dataset.committed(table), dataset.shards
    beyond = sorted(shard for shard in committed if shard >= shards)
    if beyond:
        yield Fault("commit", table, f"files of no shard: {beyond[:5]}")
    missing = shards - len(committed) + len(beyond)
    if index and len(index.shards) < shards:
        yield Fault("commit", table, f"is behind: its index has {len(index.shards)} shards, the dataset {shards}")
        return
    if missing:
        first = next(shard for shard in itertools.count() if shard not in committed)
        yield Fault("commit", table, f"{missing} of {shards} shards are missing, the first is {first}")
        return
    for folder in dataset.storage.folders(table):
        for name in dataset.storage.files(f"{table}/{folder}"):
            number = name.removesuffix(".parquet")
            if not number.isdigit() or f"{table}/{folder}/{name}" != shard_file(table, int(number)):
                yield Fault("commit", f"{table}/{folder}/{name}", "is not a shard's file")
    if index is None:
        yield Fault("commit", table, "has no index in _tables: the run that made it did not end; run it again")
        return
    if len(index.shards) != shards:
        yield Fault("commit", table, f"its index has {len(index.shards)} shards, the dataset {shards}")
        return
    for shard in range(shards):
        name = shard_file(table, shard)
        yield from _guarded(name, _file_faults(dataset, table, shard, index, check_layout))
    stale = dataset.stale_shards(table, index)
    if stale:
        yield Fault(
            "provenance", table, f"stale: {len(stale)} shards were made from other images, the first is {stale[0]}"
        )


def _schema(table: str, provenance: Provenance, found: pa.Schema) -> pa.Schema:
    """The columns that a table has at least; the arrays of a cache are told by the columns that a file has."""
    if table == IMAGES and provenance.ingest:
        return images_schema(provenance.ingest.columns or {})
    if table in CACHES:
        return cache_schema(table, arrays_of(table, found))
    if table in BASE_TABLES:
        return TABLES[table].schema
    return condition_schema(stored_condition(provenance), {})


def _file_faults(
    dataset: Dataset,
    table: str,
    shard: int,
    index: Index,
    check_layout: LayoutCheck,
) -> Iterator[Fault]:
    """One file against its index; whether its rows can be read safely."""
    name = shard_file(table, shard)
    entry, size_of_shard = index.shards[shard], dataset.config.segments[dataset.config.segment_of(shard)].shard_size
    check_layout(dataset.storage, name)
    with dataset.storage.open(name) as file:
        size = file.seek(0, os.SEEK_END)
        parquet = open_parquet(file)
        footer = read_footer(parquet)
        if footer.rows > size_of_shard:
            yield Fault("commit", name, f"has {footer.rows} rows, a shard of its segment at most {size_of_shard}")
        for column in _schema(table, index.made(shard), footer.schema):
            place = footer.schema.get_field_index(column.name)
            kind = footer.schema.field(place).type if place >= 0 else None
            if kind != column.type:
                yield Fault("commit", name, f"its column {column.name} is {kind or 'not there'}, not {column.type}")
        if size != entry.bytes:
            yield Fault("commit", name, f"has {size} bytes, by its index {entry.bytes}")
        else:
            file.seek(0)
            _, found = describe_file(file)
            changed = ", ".join(name for name, value in vars(found).items() if value != getattr(entry, name))
            if changed:
                yield Fault("commit", name, f"is not the file of the index: {changed}")
    if footer.provenance.shared != index.made(shard):
        yield Fault("provenance", name, "was made in another way than its index says")


def _settings(dataset: Dataset) -> Iterator[Fault]:
    """What ``dataset.json`` says is what the tables say."""
    index, sources = dataset.index(IMAGES), dataset.index(SOURCES)
    for number, segment in enumerate(dataset.config.segments if index and sources else ()):
        assert index and sources
        made, said = index.made(segment.first_shard).ingest, dataset.config.ingest_of(number)
        if made and made != said and segment.shards:
            changed = "; ".join(differences(plain(made), plain(said)))
            where = f"the settings of segment {number} are not those of its images: {changed}"
            yield Fault("provenance", "dataset.json", where)
        if segment.rows != sum(sources.shards[shard].rows for shard in segment.range):
            counted = f"segment {number} counts {segment.rows} listed files, the sources another number"
            yield Fault("conservation", "dataset.json", counted)


def _conservation(dataset: Dataset, shard: int) -> Iterator[Fault]:
    """Each listed source is kept or rejected, once, in the order of the listing."""
    listed, kept, rejected = (_column(dataset, table, shard, "source") for table in (SOURCES, IMAGES, REJECTED))
    if len(listed) != len(kept) + len(rejected):
        yield Fault(
            "conservation", f"shard {shard}", f"{len(listed)} listed, {len(kept)} kept, {len(rejected)} rejected"
        )
    whole = Counter(listed) == Counter(kept) + Counter(rejected)  # names that are not UTF-8 may be spelt as another's
    if not (whole and _in_order(kept, listed) and _in_order(rejected, listed)):
        yield Fault(
            "conservation", f"shard {shard}", "kept and rejected sources are not the listed ones in their order"
        )


def _in_order(part: list[str], whole: list[str]) -> bool:
    left = iter(whole)
    return all(item in left for item in part)


def _column(dataset: Dataset, table: str, shard: int, column: str) -> list[str]:
    with dataset.parquet(table, shard) as parquet:
        values: list[str] = read_table(parquet, [column]).column(column).to_pylist()
        return values


def _images(dataset: Dataset, shard: int, pixels: bool) -> Iterator[Fault]:
    """Keys are those of their rows, and stored pictures have the size that their rows say."""
    with dataset.parquet(IMAGES, shard) as parquet:
        for row in read_rows(parquet, ["key", "source", "sha256"]):
            if row["key"] != row_key(row["source"], row["sha256"]):
                yield Fault("alignment", shard_file(IMAGES, shard), f"{row['key']} is not the key of its row")
        for row in read_rows(parquet, ["key", "image", "width", "height"]) if pixels else ():
            data = (row["image"] or {}).get("bytes") or b""
            try:
                decode_image(data, (row["height"], row["width"]))
            except Exception as error:  # decoders raise nearly anything on damaged data
                yield Fault("alignment", shard_file(IMAGES, shard), f"{row['key']} {error}")


def _alignment(dataset: Dataset, table: str, shard: int, pixels: bool) -> Iterator[Fault]:
    """Keys, row groups and sizes of a table are those of the images; nulls have reasons."""
    name = shard_file(table, shard)
    condition = None if table in CACHES else dataset.condition(table)
    with dataset.parquet(IMAGES, shard) as images, dataset.parquet(table, shard) as parquet:
        footer = read_footer(parquet)
        if read_footer(images).groups != footer.groups:
            yield Fault("alignment", name, "its row groups are not those of the images")
            return
        arrays = () if condition else arrays_of(table, footer.schema)
        cached = columns_of(arrays, table == LATENTS) if arrays and pixels else ["shape"]
        columns = _map_columns(condition, pixels) if condition else cached
        rows = read_rows(parquet, ["key", "reason", *columns])
        for image, row in zip(read_rows(images, ["key", "width", "height"]), rows, strict=True):
            if image["key"] != row["key"]:
                yield Fault("alignment", name, f"has key {row['key']} where the images have {image['key']}")
                return
            faults = _map_faults(condition, image, row) if condition else _cache_faults(table, arrays, footer, row)
            yield from (Fault(promise, name, f"{row['key']}: {found}") for promise, found in faults)


def _map_columns(condition: Condition, pixels: bool) -> list[str]:
    """What says whether a row has a map or a caption; with ``pixels`` the map's bytes too."""
    if condition.kind == "text":
        return ["caption"]
    return ["map.path", "map.bytes", "coverage"] if pixels else ["map.path"]


def _map_faults(condition: Condition, image: dict[str, Any], row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(promise, what is wrong) of a row of a condition; its map is decoded where its bytes were read."""
    stored = row.get("map") or {}
    value = "caption" if condition.kind == "text" else "map"
    if (row["caption"] if value == "caption" else stored.get("path")) is None:
        if not row["reason"]:
            yield "conservation", f"has no {value} and no reason"
    elif "bytes" in stored:
        try:
            array = decode_map(condition.kind, stored["bytes"] or b"", (image["height"], image["width"]))
        except Exception as error:  # decoders raise nearly anything on damaged data
            yield "alignment", str(error)
            return
        found = coverage(condition.kind, array)
        if row["coverage"] is None or abs(row["coverage"] - found) > 1e-6:  # it is stored in 32 bits
            yield "alignment", f"has a coverage of {row['coverage']}, its map of {found:.6f}"


def _cache_faults(
    table: str, arrays: tuple[str, ...], footer: Footer, row: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """(promise, what is wrong) of a row of a cache; its values are looked at where they were read."""
    if row["shape"] is None:
        if not row["reason"]:
            yield "conservation", "has no shape and no reason"
    elif arrays[0] in row:
        found = cache_fault(table, row, arrays, footer.provenance.encoded_by.stored)
        if found:
            yield "alignment", found
