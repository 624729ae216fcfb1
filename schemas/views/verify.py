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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields

import pyarrow as pa

from ..caches import arrays_of, cache_schema
from ..conditions import NAME, NAME_RULE
from ..dataset import Dataset
from ..errors import MillError, error_text
from ..files.documents import plain
from ..files.layout import LayoutCheck
from ..files.shardfile import ShardFile, read_footer
from ..files.whole import TEMPORARY
from ..fingerprint import differences, fingerprint
from ..index import describe_file
from ..names import GROWING, REDO, SHARD_NAME, shard_file
from ..provenance import Provenance
from ..records import Index
from ..redo import leftovers
from ..retries import retry_faults
from ..stored import stored_condition
from ..tables import BASE_TABLES, CACHES, IMAGES, SOURCES, TABLES, condition_schema, images_schema
from .card import CARD, stated_indexes
from .row_faults import Fault, alignment, conservation, images

MAX_CARD_BYTES = 1024 * 1024


def verify(
    dataset: Dataset, pixels: bool = True, threads: int = 1, done: Callable[[int], None] = lambda _: None
) -> Iterator[Fault]:
    """Every fault of a dataset, in an order that does not depend on ``threads``.

    Args:
        dataset: what is checked.
        pixels: decode each picture and map, and read the caches' values.
        threads: shards that are decoded at a time.
        done: is told how many shards have been, while this goes on.
    """
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
        aligned = [table for table in complete if table not in BASE_TABLES]
        with ThreadPoolExecutor(threads) as pool:
            ahead: deque[Future[list[Fault]]] = deque()
            for shard in range(dataset.shards):
                if shard >= threads:
                    yield from ahead.popleft().result()
                    done(shard - threads + 1)
                ahead.append(pool.submit(_shard_faults, dataset, aligned, shard, pixels))
            for found in ahead:
                yield from found.result()


def _shard_faults(dataset: Dataset, tables: Sequence[str], shard: int, pixels: bool) -> list[Fault]:
    """Of the rows of a shard: those of the listing, of the images, and of the tables that are aligned with them."""
    checks = [conservation(dataset, shard), images(dataset, shard, pixels)]
    checks += [alignment(dataset, table, shard, pixels) for table in tables]
    return [fault for check in checks for fault in _guarded(f"shard {shard}", check)]


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
            if not SHARD_NAME.fullmatch(name) or f"{table}/{folder}/{name}" != shard_file(table, int(name[:8])):
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
    if table in TABLES and TABLES[table].role in ("base", "measure"):
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
        parquet = ShardFile(file)
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
            names = (field.name for field in fields(entry))
            changed = ", ".join(name for name in names if getattr(found, name) != getattr(entry, name))
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
