"""Import: maps that a user already has, cut and scaled exactly as their images were, into condition tables.

One folder per condition, the same path and stem as the picture's: ``photos/a/b.jpg`` ↔ ``maps/depth/a/b.png``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controlmill.schemas.dataset import Dataset
from controlmill.schemas.errors import MillError, Refused
from controlmill.schemas.files.shardfile import read_rows
from controlmill.schemas.fingerprint import package_versions, sha256_bytes
from controlmill.schemas.images.codecs import encode_map
from controlmill.schemas.images.formats import Limits
from controlmill.schemas.images.pixels import GATE
from controlmill.schemas.maps.meaning import Plane, Reading
from controlmill.schemas.maps.planes import read_map
from controlmill.schemas.maps.user_maps import coverage, scaled_map
from controlmill.schemas.tables import condition_schema

from ..corpora.files import read_regular
from ..corpora.folder import FolderCorpus
from ..engine.rows import JobFault, RowStep, failure_of
from ..engine.run_folder import Run
from ..engine.stage import GroupTask, Output, Stage
from .aligned import aligned_task
from .columns import Column, folders_in, said_of

VERSION = 2
ROW_COLUMNS = (
    *("key", "source", "width", "height", "original_width", "original_height"),
    *("crop_x", "crop_y", "crop_w", "crop_h"),
)
COLUMNS = {"file_sha256": "string"}  # beside those of every condition
COLUMNS_OF_DEPTH = {**COLUMNS, "raw_min": "float32", "raw_max": "float32"}
MOST_ENLARGED = 8  # times a side: a map coarser than that says nothing of its picture
OTHER_FILES = 10_000  # of a folder, that are known by name
READERS = 8
NAMED = 3  # changed files in a message


@dataclass(frozen=True)
class ImportStep(RowStep):
    """One row of ``images`` and the files beside its source → one row for each imported table."""

    folder: str
    columns: tuple[Column, ...]
    limits: Limits

    def cost(self, row: Mapping[str, Any]) -> int:
        """A map of the original size, decoded and as what is made of it; a row's maps follow one another."""
        return int(row["original_width"] * row["original_height"] * 16)

    def do(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Condition → row. One that is refused says of which file, so that it is noticed when that is mended."""
        return {column.name: self._row(column, row) for column in self.columns}

    def _row(self, column: Column, row: Mapping[str, Any]) -> dict[str, Any]:
        said: dict[str, Any] = {}
        try:
            data = read_file(self.folder, column, row["source"], self.limits.max_bytes)
            said["file_sha256"] = sha256_bytes(data)
            limits = Limits(self.limits.max_pixels, self.limits.max_bytes, min_side=1)
            plane = read_map(data, column.reading, limits, GATE.hold)
            array, measured = refit(plane, column.reading, row)
            encoded = encode_map(
                column.condition.kind, array, (row["height"], row["width"]), palette_of(column.reading)
            )
        except Exception as error:
            failure = failure_of(error)
            return {**said, "reason": failure.reason, "error": failure.error}
        path = f"{row['key']}.png"
        share = coverage(column.condition.kind, array)
        return {**said, **measured, "map": {"bytes": encoded, "path": path}, "coverage": share}


def palette_of(reading: Reading) -> bytes | None:
    """What paints labels; None for the default."""
    return reading.labels.palette() if reading.labels else None


def find_file(folder: str, column: Column, source: str) -> Path:
    """The map of a picture.

    Raises:
        Refused: missing, with the name of what is there instead.
        JobFault: the folder cannot be read any more.
    """
    maps = FolderCorpus(os.path.join(folder, column.name))
    base = maps.path(source)
    for ending in (*column.endings, *(ending.upper() for ending in column.endings)):
        path = base.with_suffix(ending)
        if path.is_file():
            return path
    fault = maps.explain(FileNotFoundError(base.name))
    if isinstance(fault, JobFault):
        raise fault
    other = _others_in(str(base.parent), column.endings).get(base.stem)
    there = f"; {other} is there" if other else ""
    raise Refused("missing", f"no {column.name}/{base.stem} with any of {', '.join(column.endings)}{there}")


def read_file(folder: str, column: Column, source: str, max_bytes: int) -> bytes:
    """The bytes of a picture's map.

    Raises:
        Refused: missing, too_many_bytes.
    """
    data = read_regular(find_file(folder, column, source), max_bytes)
    if len(data) > max_bytes:
        raise Refused("too_many_bytes", f"more than {max_bytes} bytes, the cap")
    return data


@functools.lru_cache(maxsize=8)
def _others_in(folder: str, endings: tuple[str, ...]) -> dict[str, str]:
    """Stem → name of the files in a folder that are not looked at, the first of them."""
    found: dict[str, str] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, ending = os.path.splitext(entry.name)
                if ending.lower() not in endings and len(found) < OTHER_FILES:
                    found.setdefault(stem, entry.name)
    except OSError:
        return {}
    return found


def refit(plane: Plane, reading: Reading, row: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, float]]:
    """The map through its image's geometry, the same crop box, scaled to the same size; and what was measured of it.

    Raises:
        Refused: size_mismatch, where the map is not of the original picture's shape, or far too small; wrong_kind.
    """
    original = row["original_width"], row["original_height"]
    width, height = plane.size
    fx, fy = width / original[0], height / original[1]
    if abs(width - original[0] * fy) > 1 and abs(height - original[1] * fx) > 1:
        raise Refused("size_mismatch", f"the map is {width}x{height}, its picture {original[0]}x{original[1]}")
    size = row["width"], row["height"]
    x, y, w, h = (row[f"crop_{name}"] for name in "xywh")
    box = (x * fx, y * fy, min((x + w) * fx, width), min((y + h) * fy, height))
    if size[0] > MOST_ENLARGED * (box[2] - box[0]) or size[1] > MOST_ENLARGED * (box[3] - box[1]):
        raise Refused("size_mismatch", f"a map of {width}x{height} is too coarse for {size[0]}x{size[1]}")
    return scaled_map(plane, reading, size, box)


@dataclass(frozen=True)
class Import(Stage):
    """The stage. ``folder`` holds one folder for each condition."""

    folder: str
    columns: tuple[Column, ...]
    limits: Limits

    name = "import"

    def input_folders(self) -> tuple[str, ...]:
        """The folder, and those of the conditions in it, which may be links."""
        return (self.folder, *(os.path.join(self.folder, column.name) for column in self.columns))

    def messages(self) -> Iterator[str]:
        """What is imported, how it is read, and what is left out."""
        for column in self.columns:
            yield from said_of(self.folder, column)
        known = {column.name for column in self.columns}
        left = [name for name in folders_in(self.folder) if name not in known]
        if left:
            yield f"not imported: {', '.join(left)} (--condition-kind NAME=KIND says what they are)"

    def outputs(self) -> dict[str, Output]:
        """Table → what is made."""
        return {
            column.condition.table: Output(
                condition_schema(column.condition, COLUMNS_OF_DEPTH if column.reading.meaning else COLUMNS),
                {
                    "table": column.condition.table,
                    "kind": column.condition.kind,
                    "annotator": {
                        "condition": column.condition.name,
                        "variant": "imported",
                        "version": VERSION,
                        "reading": column.reading.provenance(),
                        "packages": package_versions("pillow", "numpy"),
                    },
                },
            )
            for column in self.columns
        }

    def tasks(self, dataset: Dataset, run: Run, shard: int, missing: Mapping[str, Output]) -> Iterator[GroupTask]:
        """All missing tables together."""
        columns = tuple(column for column in self.columns if column.condition.table in missing)
        step = ImportStep(self.folder, columns, self.limits)
        yield aligned_task(dataset, run, shard, missing, step, ROW_COLUMNS)

    def check_unchanged(self, dataset: Dataset, overwrite: Sequence[str]) -> None:
        """Compare the files with the digests of those that the tables were made from.

        Raises:
            MillError: some were edited, brought or taken away since, with the way to take them in.
        """
        for column in self.columns:
            table = column.condition.table
            if table in overwrite:
                continue
            shards = sorted(dataset.committed(table))
            changed = [source for shard in shards for source in self._changed(dataset, shard, column)]
            if changed:
                names = ", ".join(changed[:NAMED]) + (", …" if len(changed) > NAMED else "")
                raise MillError(
                    f"{len(changed):,} maps of {table} in {os.path.join(self.folder, column.name)} are not those that "
                    f"the table was made from (of {names}): --overwrite {table} takes them in"
                )

    def _changed(self, dataset: Dataset, shard: int, column: Column) -> list[str]:
        with dataset.parquet("images", shard) as images, dataset.parquet(column.condition.table, shard) as maps:
            sources = [row["source"] for row in read_rows(images, ["source"])]
            digests = [row["file_sha256"] for row in read_rows(maps, ["file_sha256"])]
        with ThreadPoolExecutor(READERS) as pool:
            now = pool.map(lambda source: self._digest(column, source), sources)
            return [source for source, old, new in zip(sources, digests, now, strict=True) if old != new]

    def _digest(self, column: Column, source: str) -> str | None:
        try:
            return sha256_bytes(read_file(self.folder, column, source, self.limits.max_bytes))
        except (Refused, OSError):  # then the row has none either
            return None
