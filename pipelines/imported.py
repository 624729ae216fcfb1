"""Import: maps that a user already has, cut and scaled exactly as their images were, into condition tables.

One folder per condition, the same path and stem as the picture's: ``photos/a/b.jpg`` ↔ ``maps/depth/a/b.png``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..schemas.codecs import encode_map
from ..schemas.conditions import CONDITIONS, KINDS, NAME, RESERVED, Condition, Kind, imported
from ..schemas.dataset import Dataset
from ..schemas.errors import MillError, Refused
from ..schemas.fingerprint import package_versions
from ..schemas.maps import map_plane, scaled_map
from ..schemas.pictures import Limits, open_picture
from .aligned import Output, aligned_work
from .files import read_regular
from .folder import check_reachable, inside, list_folder
from .pixels import GATE
from .rows import failure_of
from .run import Run
from .shards import Stage, Work

VERSION = 1
ENDINGS = (".png", ".tif", ".tiff", ".webp", ".bmp", ".jpg", ".jpeg")
ROW_COLUMNS = (
    *("key", "source", "width", "height", "original_width", "original_height"),
    *("crop_x", "crop_y", "crop_w", "crop_h"),
)
MOST_ENLARGED = 8  # times a side: a map coarser than that says nothing of its picture


@dataclass(frozen=True)
class ImportStep:
    """One row of ``images`` and the files beside its source → one row for each imported table."""

    folder: str
    conditions: tuple[Condition, ...]
    limits: Limits
    batch_size: int = 0

    def cost(self, row: Mapping[str, Any]) -> int:
        """Decoded maps of the original size."""
        return int(row["original_width"] * row["original_height"] * 4 * len(self.conditions))

    def load(self, row: Mapping[str, Any]) -> None:
        """Nothing is shared between the maps of a row."""

    def shape(self, item: Any) -> None:
        """No batches."""

    def forward(self, items: list[Any]) -> list[Any]:
        """No network."""
        return items

    def finish(self, row: Mapping[str, Any], item: Any, output: Any) -> dict[str, Any]:
        """Condition → row or Failure."""
        results: dict[str, Any] = {}
        for condition in self.conditions:
            try:
                data = self._map(condition, row)
                results[condition.name] = {"map": {"bytes": data, "path": f"{row['key']}.png"}}
            except Exception as error:
                results[condition.name] = failure_of(error)
        return results

    def _map(self, condition: Condition, row: Mapping[str, Any]) -> bytes:
        base = inside(str(Path(self.folder, condition.name)), row["source"])
        found = [path for ending in ENDINGS if (path := base.with_suffix(ending)).is_file()]
        found += [path for ending in ENDINGS if (path := base.with_suffix(ending.upper())).is_file()]
        if not found:
            check_reachable(str(Path(self.folder, condition.name)), FileNotFoundError(base.name))
            raise Refused("missing", f"no {condition.name}/{base.stem} with any of {', '.join(ENDINGS)}")
        data = read_regular(found[0], self.limits.max_bytes)
        if len(data) > self.limits.max_bytes:
            raise Refused("too_many_bytes", f"{len(data)} bytes; the cap is {self.limits.max_bytes}")
        opened = open_picture(data, Limits(self.limits.max_pixels, self.limits.max_bytes, min_side=1))
        with GATE.hold(opened.memory):
            plane = map_plane(opened.decode(), condition.kind)
        return encode_map(condition.kind, refit(plane, condition.kind, row), (row["height"], row["width"]))


def refit(plane: Image.Image, kind: Kind, row: Mapping[str, Any]) -> np.ndarray:
    """The map through its image's geometry: the same crop box, scaled to the same size.

    Raises:
        Refused: size_mismatch, where the map is not of the original picture's shape, or far too small.
    """
    original = row["original_width"], row["original_height"]
    fx, fy = plane.width / original[0], plane.height / original[1]
    if abs(plane.width - original[0] * fy) > 1 and abs(plane.height - original[1] * fx) > 1:
        raise Refused(
            "size_mismatch", f"the map is {plane.width}x{plane.height}, its picture {original[0]}x{original[1]}"
        )
    size = row["width"], row["height"]
    x, y, w, h = (row[f"crop_{name}"] for name in "xywh")
    box = (x * fx, y * fy, min((x + w) * fx, plane.width), min((y + h) * fy, plane.height))
    if size[0] > MOST_ENLARGED * (box[2] - box[0]) or size[1] > MOST_ENLARGED * (box[3] - box[1]):
        raise Refused("size_mismatch", f"a map of {plane.width}x{plane.height} is too coarse for {size[0]}x{size[1]}")
    return scaled_map(plane, kind, size, box)


@dataclass(frozen=True)
class Import(Stage):
    """The stage. ``folder`` holds one folder for each condition."""

    folder: str
    conditions: tuple[Condition, ...]
    limits: Limits
    listings: Mapping[str, str]  # condition → digest of what its folder held, so that two folders are not mixed

    name = "import"

    @property
    def tables(self) -> tuple[str, ...]:  # type: ignore[override]
        """One for each condition."""
        return tuple(condition.table for condition in self.conditions)

    def outputs(self) -> dict[str, Output]:
        """Table → what is made."""
        return {
            condition.table: Output(
                condition,
                {},
                {
                    "table": condition.table,
                    "kind": condition.kind,
                    "annotator": {
                        "condition": condition.name,
                        "variant": "imported",
                        "version": VERSION,
                        "listing_sha256": self.listings[condition.name],
                        "packages": package_versions("pillow", "numpy"),
                    },
                },
            )
            for condition in self.conditions
        }

    def work(self, dataset: Dataset, run: Run, shard: int, missing: set[str]) -> Iterator[Work]:
        """All missing tables together."""
        outputs = {table: output for table, output in self.outputs().items() if table in missing}
        step = ImportStep(self.folder, tuple(output.condition for output in outputs.values()), self.limits)
        yield aligned_work(dataset, run, shard, outputs, step, ROW_COLUMNS)


def listing_sha256(folder: str) -> str:
    """Digest of the names and sizes of the maps below a folder."""
    digest = hashlib.sha256()
    for source in list_folder(folder):
        digest.update(f"{source.source}\0{source.size}\n".encode())
    return digest.hexdigest()


def parse_columns(folder: str, columns: Sequence[str]) -> tuple[Condition, ...]:
    """``NAME=KIND`` (or the bare name of a known condition) for each folder below ``folder`` that is imported.

    Without any, all folders with the name of a known condition are.

    Raises:
        MillError: a folder is missing, or a kind is unknown or not the condition's.
    """
    if not os.path.isdir(folder):
        raise MillError(f"--conditions-from {folder}: no such folder")
    there = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not columns:
        columns = [name for name in there if name in CONDITIONS]
        unknown = [name for name in there if name not in CONDITIONS]
        if unknown:
            said = " ".join(f"--condition-column {name}=KIND" for name in unknown)
            raise MillError(f"--conditions-from {folder}: say what kind each unknown condition is, {said}; {_kinds()}")
    conditions = tuple(_parse_column(word) for word in columns)
    missing = [condition.name for condition in conditions if condition.name not in there]
    if missing or not conditions:
        raise MillError(f"--conditions-from {folder}: no folder {', '.join(missing) or 'of a condition'} in it")
    return conditions


def _parse_column(word: str) -> Condition:
    name, _, kind = word.partition("=")
    known = CONDITIONS.get(name)
    if known and known.kind == "text":
        raise MillError(f"--condition-column {word}: captions are not imported from maps")
    if known and kind in ("", known.kind):
        return known
    if known:
        raise MillError(f"--condition-column {word}: {name} is {known.kind}")
    if not NAME.fullmatch(name) or name in RESERVED:
        raise MillError(f"--condition-column {word}: a name is lower-case letters, digits and _, and not a table's")
    if kind not in KINDS:
        raise MillError(f"--condition-column {word}: {_kinds()}")
    return imported(name, kind)  # type: ignore[arg-type]


def _kinds() -> str:
    return f"kinds are {', '.join(KINDS)}"
