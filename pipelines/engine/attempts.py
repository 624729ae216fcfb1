"""One try at a shard, as a file in the run folder: who does it, that it lives, and how many rows are through."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from controlmill.schemas.files.storage import Storage

from .faults import Failure
from .repeating import repeating

NOTE_SECONDS = {True: 0.5, False: 30.0}  # between two notes of an attempt: in a folder, on an object store


@dataclass
class Attempt:
    """A context in which one shard is worked on. Its file is brought up to date while it lasts, also where a row takes
    long: an attempt whose file stays as it is has no process any more.

    ``works`` are tables that are made together, with the rows and seconds that went into them; ``refused`` counts once
    for each table.
    """

    storage: Storage
    name: str
    deaths: int
    marks: tuple[str, ...] = ()  # its own, and those of the attempts before it
    works: list[dict[str, Any]] = field(default_factory=list)
    _noted: float = field(default_factory=time.monotonic)
    _notes: int = 0
    _noting: threading.Lock = field(default_factory=threading.Lock)
    _living: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Attempt:
        self._living.enter_context(repeating(self._note_when_due, NOTE_SECONDS[self.storage.local] or 1.0))
        return self

    def __exit__(self, *_: object) -> None:
        self._living.close()

    def end(self) -> None:
        """The shard is done: the marks go."""
        self._living.close()
        for mark in self.marks:
            self.storage.remove_file(mark)

    def outlive(self) -> None:
        """The rows that workers died of are through: what comes after them is done as in a first attempt."""
        *before, own = self.marks
        for mark in before:
            self.storage.remove_file(mark)
        self.marks, self.deaths = (own,), 0

    def text(self) -> bytes:
        """What the file says."""
        worker = f"process {os.getpid()} on {socket.gethostname()}"
        return json.dumps({"deaths": self.deaths, "works": self.works, "worker": worker, "note": self._notes}).encode()

    def count(self, tables: tuple[str, ...], outcomes: Iterator[Any]) -> Iterator[Any]:
        """The outcomes, counted on their way."""
        started = time.monotonic()
        said: dict[str, Any] = {"tables": list(tables), "rows": 0, "refused": 0, "seconds": 0.0}
        self.works.append(said)
        for outcome in outcomes:
            said["rows"] += 1
            said["refused"] += _refused(outcome, len(tables))
            said["seconds"] = round(time.monotonic() - started, 6)
            self._note_when_due()
            yield outcome

    def _note_when_due(self) -> None:
        now = time.monotonic()
        if now - self._noted >= NOTE_SECONDS[self.storage.local]:
            with self._noting:
                self._noted = now
                self._notes += 1
                self._note()

    def _note(self) -> None:
        """Bring the file up to date. Nothing depends on it, so that nothing may fail by it."""
        with suppress(Exception):
            if self.storage.local:
                with open(self.storage.path(self.name), "r+b") as file:  # not made anew where the run has ended
                    file.write(self.text())
                    file.truncate()
            else:
                self.storage.write(self.name, self.text())


def _refused(outcome: Any, tables: int) -> int:
    if isinstance(outcome, Failure):
        return tables
    return sum(isinstance(value, Failure) for value in outcome.values()) if isinstance(outcome, dict) else 0
