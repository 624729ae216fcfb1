"""Layouts of files: a picture, its maps and perhaps its caption each are one; and the scripts that start a trainer."""

from __future__ import annotations

import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from ..folder import Record, State
from ..plan import Plan
from ..samples import Sample, lossless
from .target import PART_BYTES, Written

SCRIPT = "train.sh"


class FilesTarget:
    """``images/PART/NAME.jpg``, ``depth/PART/NAME.png``: a folder for each part, since trainers search their folders.

    ``images`` and ``maps`` name the folders (``maps`` "": each after its table). ``texts``: whether a caption is a file
    beside its picture, NAME.txt, which ends in ``line_end``; ``texts_of_maps``: beside its maps too. ``are_png``:
    whether pictures are encoded as PNG, so that a map's file can have the name of its picture's.
    """

    part_bytes: ClassVar[int] = PART_BYTES
    images: ClassVar[str] = "images"
    maps: ClassVar[str] = ""
    texts: ClassVar[bool] = False
    texts_of_maps: ClassVar[bool] = False
    line_end: ClassVar[str] = "\n"
    are_png: ClassVar[bool] = False

    def write(self, folder: Path, part: int, samples: Iterable[Sample], plan: Plan) -> Written:
        """See :meth:`Target.write`."""
        records, size, place = [], 0, f"{part:08d}"
        for name in (self.images, *(self.maps or table for table in plan.tables)):
            (folder / name / place).mkdir(parents=True, exist_ok=True)
        for sample in samples:
            record, files = self._files(sample, place)
            for name, data in files.items():
                (folder / name).write_bytes(data)
                size += len(data)
            records.append(record)
        return Written(len(records), size, tuple(records))

    def _files(self, sample: Sample, place: str) -> tuple[Record, dict[str, bytes]]:
        ending, data = ("png", lossless(sample)) if self.are_png else (sample.ending, sample.image)
        image = f"{self.images}/{place}/{sample.name}.{ending}"
        maps = {table: f"{self.maps or table}/{place}/{sample.name}.png" for table in sample.maps}
        files = {image: data, **{maps[table]: data for table, data in sample.maps.items()}}
        beside = [*([image] if self.texts else []), *(maps.values() if self.texts_of_maps else ())]
        text = (sample.caption + self.line_end).encode()
        files |= {f"{name.rsplit('.', 1)[0]}.txt": text for name in beside}
        return Record(sample.key, image, maps, sample.caption, sample.width, sample.height), files


class TrainerTarget(FilesTarget, ABC):
    """Files, a trainer's configuration, and the script that starts it, ``train.sh``, which is placed last."""

    last: ClassVar[str] = SCRIPT
    is_movable: ClassVar[bool] = False

    @abstractmethod
    def configure(self, folder: Path, records: Iterator[Record], plan: Plan) -> None:
        """Write what names the rows, and the trainer's settings."""

    @abstractmethod
    def command(self, plan: Plan) -> str:
        """See :meth:`Target.command`."""

    def finish(self, folder: Path, records: Iterator[Record], plan: Plan, state: State, size: int) -> None:
        """See :meth:`Target.finish`."""
        self.configure(folder, records, plan)
        (folder / SCRIPT).write_text(f"#!/bin/sh\nset -e\n{self.command(plan)}\n", "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Settings as JSON. It is ASCII: some trainers open it in whatever encoding the system has."""
    path.write_text(json.dumps(value, indent=2) + "\n", "ascii")


def write_json_lines(path: Path, values: Iterable[Any]) -> None:
    """A JSON object a line, in ASCII."""
    with path.open("w", encoding="ascii") as file:
        for value in values:
            file.write(json.dumps(value) + "\n")


def write_json_list(path: Path, values: Iterable[Any]) -> None:
    """A list of JSON objects, in ASCII; they are not in memory together."""
    with path.open("w", encoding="ascii") as file:
        for number, value in enumerate(values):
            file.write((",\n" if number else "[\n") + json.dumps(value))
        file.write("\n]\n")


def toml(value: str | int | float | bool | Path) -> str:
    """A value as TOML writes it."""
    said = json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
    return said.replace("\x7f", "\\u007f")  # which JSON leaves as it is


def folders_of(records: Iterable[Record], plan: Plan) -> list[tuple[Path, list[Path]]]:
    """Absolute folders of pictures, each with those of its maps, of the parts that have rows."""
    found: dict[Path, list[Path]] = {}
    for record in records:
        image = (plan.folder / record.image).parent
        if image not in found:
            found[image] = [(plan.folder / name).parent for name in record.maps.values()]
    return list(found.items())


def quoted(path: Path | str) -> str:
    """A path for a shell."""
    return shlex.quote(str(path))
