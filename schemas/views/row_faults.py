"""Faults of the rows of a shard: conservation in its listing, alignment of its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..caches import arrays_of, columns_of
from ..caches import fault as cache_fault
from ..conditions import Condition
from ..dataset import Dataset
from ..files.shardfile import Footer, read_footer, read_rows
from ..fingerprint import row_key
from ..images.codecs import decode_image, decode_map
from ..maps.user_maps import coverage
from ..names import shard_file
from ..retries import column_of
from ..tables import CACHES, IMAGES, LATENTS, OF_ROWS, REJECTED, SOURCES, WITHOUT_CONDITION
from ..terminal.printing import printable

MAX_TEXT = 1000  # characters of a fault: what it quotes may be of any length


@dataclass(frozen=True)
class Fault:
    """A broken promise: which one, in which file, and what was found."""

    promise: str
    where: str
    found: str

    def __str__(self) -> str:
        return printable(f"{self.promise}: {self.where}: {self.found}")[:MAX_TEXT]


def conservation(dataset: Dataset, shard: int) -> Iterator[Fault]:
    """Each listed source is kept or rejected, once, in the order of the listing."""
    listed, kept, rejected = (column_of(dataset, table, shard, "source") for table in (SOURCES, IMAGES, REJECTED))
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


def images(dataset: Dataset, shard: int, pixels: bool) -> Iterator[Fault]:
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


def alignment(dataset: Dataset, table: str, shard: int, pixels: bool) -> Iterator[Fault]:
    """Keys, row groups and sizes of a table are those of the images; nulls have reasons."""
    name = shard_file(table, shard)
    condition = None if table in WITHOUT_CONDITION else dataset.condition(table)
    with dataset.parquet(IMAGES, shard) as images, dataset.parquet(table, shard) as parquet:
        footer = read_footer(parquet)
        if read_footer(images).groups != footer.groups:
            yield Fault("alignment", name, "its row groups are not those of the images")
            return
        arrays = arrays_of(table, footer.schema) if table in CACHES else ()
        columns = _map_columns(condition, pixels) if condition else _columns(table, arrays, footer, pixels)
        rows = read_rows(parquet, ["key", "reason", *columns])
        for image, row in zip(read_rows(images, ["key", "width", "height"]), rows, strict=True):
            if image["key"] != row["key"]:
                yield Fault("alignment", name, f"has key {row['key']} where the images have {image['key']}")
                return
            if condition:
                faults = _map_faults(condition, image, row)
            elif table in CACHES:
                faults = _cache_faults(table, arrays, footer, row)
            else:  # of features of rows, one of several pictures has them
                faults = iter(()) if table in OF_ROWS else _measure_faults(row)
            yield from (Fault(promise, name, f"{row['key']}: {found}") for promise, found in faults)


def _columns(table: str, arrays: tuple[str, ...], footer: Footer, pixels: bool) -> list[str]:
    """What is read of a table without a condition, beside keys and reasons."""
    if table not in CACHES:
        return [name for name in footer.schema.names if name not in ("key", "reason")]
    return columns_of(arrays, table == LATENTS) if pixels else ["shape"]


def _measure_faults(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a row of numbers: none of them is there, and no reason."""
    numbers = [value for name, value in row.items() if name not in ("key", "reason", "error")]
    if not row["reason"] and all(number is None for number in numbers):
        yield "conservation", "has no number and no reason"


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
