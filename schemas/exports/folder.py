"""The folder of an export: how far it is, whose it is, and that nothing is in its place before all is written.

OUT/.controlmill/export.json     what is exported, and how far it is; last of all "complete"
OUT/.controlmill/parts/0.json    a part is written: its rows, and what was dropped
OUT/.controlmill/files/…         what is written; it is moved into OUT when all of it is there
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..bounds import Count, Sha256
from ..errors import MillError
from ..files.documents import damaged, plain, read_as
from ..files.whole import write_whole
from ..fingerprint import canonical

OWN = ".controlmill"  # trainers and `datasets` leave hidden folders out


@dataclass(frozen=True)
class Record:
    """The files of a row, relative to the export's folder."""

    key: str
    image: str
    maps: dict[str, str]
    caption: str
    width: Count
    height: Count


@dataclass(frozen=True)
class Part:
    """A part that is written. ``records`` is empty where rows are no files of their own."""

    rows: Count
    dropped: dict[str, Count]
    bytes: Count
    records: tuple[Record, ...] = ()


@dataclass(frozen=True)
class State:
    """``export.json``. ``rows`` and ``dropped`` are those of a complete export."""

    target: str
    folder: str  # its address, where what is written holds it, as settings of trainers do; else ""
    sha256: Sha256  # of the plan
    stage: Literal["writing", "placing", "complete"]
    parts: Count
    rows: Count = 0
    dropped: dict[str, Count] = field(default_factory=dict)


class ExportFolder:
    """A local folder that an export is made in."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._own = folder / OWN
        self.files = self._own / "files"

    @contextmanager
    def claimed(self, wanted: State) -> Iterator[State]:
        """The folder for one export, and how far that is; a cut one goes on, one of something else begins anew.

        Raises:
            MillError: the folder holds something else, or another export works in it.
        """
        self._check_free()
        self._own.mkdir(parents=True, exist_ok=True)
        with (self._own / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise MillError(f"{self.folder}: another export is being written there") from None
            yield self._begun(wanted)

    def _check_free(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise MillError(f"{self.folder} is no folder")
        others = sorted({path.name for path in self.folder.iterdir()} - {OWN}) if self.folder.exists() else []
        there = self._state() if others else None
        if others and there is None:
            raise MillError(f"{self.folder} is not empty, and no export: choose another folder")
        if there and there.stage == "writing":  # nothing is in its place yet
            raise MillError(
                f"{self.folder} is not empty, and its export is not done: {others[0]} is not of it, move it"
            )

    def _begun(self, wanted: State) -> State:
        there = self._state()
        if there and (there.target, there.folder, there.sha256) == (wanted.target, wanted.folder, wanted.sha256):
            return there
        if there and there.stage != "writing":
            raise MillError(
                f"{self.folder} holds another export ({there.target}), one of earlier tables, or was moved: "
                "remove it, or choose another folder"
            )
        for path in (self.files, self._own / "parts"):
            shutil.rmtree(path, ignore_errors=True)
        self.save(wanted)
        return wanted

    def _state(self) -> State | None:
        path = self._own / "export.json"
        try:
            return read_as(State, path) if path.exists() else None
        except ValueError as error:
            raise damaged(str(path), error, "remove the folder, and export again") from error

    def save(self, state: State) -> None:
        """Note how far the export is."""
        write_whole(self._own / "export.json", (canonical(plain(state)) + "\n").encode())

    def part(self, number: int) -> Part | None:
        """What was written of a part; None: it is not there, or cut off.

        Raises:
            MillError: its record is damaged.
        """
        path = self._own / "parts" / f"{number}.json"
        try:
            return read_as(Part, path) if path.exists() else None
        except ValueError as error:
            raise damaged(str(path), error, "remove the folder, and export again") from error

    def save_part(self, number: int, part: Part) -> None:
        """Note that a part is written."""
        path = self._own / "parts" / f"{number}.json"
        path.parent.mkdir(exist_ok=True)
        write_whole(path, canonical(plain(part)).encode())

    def place(self, last: str) -> None:
        """Move all that is written into the folder, ``last`` after the rest; can be done again after a cut."""
        names = sorted(os.listdir(self.files), key=lambda name: (name == last, name)) if self.files.exists() else []
        for name in names:
            os.replace(self.files / name, self.folder / name)

    def tidy(self) -> None:
        """Remove what only a cut export needs."""
        shutil.rmtree(self.files, ignore_errors=True)
        shutil.rmtree(self._own / "parts", ignore_errors=True)
