"""The run folder, ``_run/ID`` inside the dataset: how one live job and its workers tell each other things.

Files only, so that it works on every runner. Nothing in it outlives the job, and nothing in it decides what a table
holds: resuming looks at committed files alone.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from controlmill.schemas.bounds import Count
from controlmill.schemas.errors import MillError
from controlmill.schemas.files.documents import plain
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.machine import is_dead, may_live, process_stamp

from .rows import Failure

MAX_ATTEMPTS = 5
NEW = ".new-"  # begins the name of a run's folder until its owner is in it: .new-ID-PID-HOST


@dataclass(frozen=True)
class Owner:
    """``owner.json``: the process that a run is of; see :func:`machine.process_stamp`."""

    host: str
    pid: Annotated[int, Field(ge=1, lt=2**31)]
    started: int | None = None
    boot: str | None = None


@dataclass(frozen=True)
class Stop:
    """``stop.json``: why a run is to stop."""

    why: str


@dataclass(frozen=True)
class ShardFailure:
    """``failed/SHARD.json``: why a shard could not be done."""

    shard: Count
    error: str


@dataclass(frozen=True)
class Agreed:
    """``agreed/NAME.json``: what the first of a run's workers said, and the machine that it is on."""

    said: str
    host: str


class Stopped(Exception):
    """The job was asked to stop, or another shard found that going on is pointless."""


NEW_SECONDS = 60.0  # after which a run's folder that never got its name belongs to a dead process
STOP_SECONDS = {True: 1.0, False: 10.0}  # between two looks whether a run is to stop: in a folder, on an object store
NOTE_SECONDS = {True: 0.5, False: 30.0}  # between two notes of an attempt: in a folder, on an object store


@dataclass
class Run:
    """One live job."""

    storage: Storage
    id: str
    _looked: float = field(default=-math.inf, compare=False)

    @classmethod
    def start(cls, storage: Storage) -> Run:
        """A new run. Its folder is there with its owner in it, or not at all."""
        run = cls(storage, uuid.uuid4().hex[:12])
        if storage.local:
            stamp = process_stamp()
            unnamed = f"_run/{NEW}{run.id}-{stamp['pid']}-{stamp['host']}"
            storage.write_json(f"{unnamed}/owner.json", stamp)
            storage.move(unnamed, f"_run/{run.id}")
        else:
            storage.write_json(run._name("owner.json"), process_stamp())
        return run

    def _name(self, name: str) -> str:
        return f"_run/{self.id}/{name}"

    def end(self) -> None:
        """Remove the run folder; on a disk that became read-only it stays, until the next run sweeps it."""
        with suppress(OSError):  # it must not hide what the job ended with
            self.storage.remove(f"_run/{self.id}")
            _remove_empty(self.storage)

    # stopping

    def stop(self, why: str) -> None:
        """Ask every worker to stop before its next row."""
        self.storage.write_json(self._name("stop.json"), Stop(why))

    def stopped(self) -> str | None:
        """Why the run is to stop, if it is."""
        stop = self.storage.read_json(self._name("stop.json"), Stop)
        return stop.why if stop else None

    def check(self) -> None:
        """Raise :class:`Stopped` where the run is to stop; looks at most once in :data:`STOP_SECONDS`."""
        now = time.monotonic()
        if now - self._looked < STOP_SECONDS[self.storage.local]:
            return
        self._looked = now
        self.storage.require()
        if self.storage.has_file(self._name("stop.json")):
            raise Stopped(self.stopped() or "")

    def agree(self, name: str, said: str) -> Agreed:
        """What the first worker said under a name, which is this one where nobody said anything yet."""
        name = self._name(f"agreed/{name}.json")
        own = Agreed(said, socket.gethostname())
        known = self.storage.read_json(name, Agreed)
        if known is None:
            with self.storage.scratch(self.id) as path:
                path.write_text(json.dumps(plain(own)), "utf-8")
                if self.storage.commit(path, name):
                    return own
            known = self.storage.read_json(name, Agreed)
        return known or own

    # attempts

    def begin(self, shard: int) -> Attempt:
        """Mark an attempt at a shard. Marks that are there already are of attempts whose worker died.

        Raises:
            MillError: too many did.
        """
        before = [name for name in self.storage.files(self._name("attempts")) if name.startswith(f"{shard}.")]
        deaths = len(before)
        if deaths >= MAX_ATTEMPTS:
            raise MillError(f"its worker died {deaths} times")
        name = f"{shard}.{uuid.uuid4().hex[:8]}"
        marks = tuple(self._name(f"attempts/{mark}") for mark in (*before, name))
        attempt = Attempt(self.storage, self._name(f"attempts/{name}"), deaths, marks)
        self.storage.mark(attempt.name, attempt.text())
        return attempt

    def attempts(self) -> dict[int, dict[str, Any]]:
        """Shard → what its last attempt notes (:class:`Attempt`), of the shards that are being worked on."""
        found: dict[int, dict[str, Any]] = {}
        for name in self.storage.files(self._name("attempts")):
            shard = int(name.split(".")[0])
            with suppress(OSError, ValueError):  # it ends, or is being written
                said = json.loads(self.storage.read(self._name(f"attempts/{name}")))
                if shard not in found or said["deaths"] > found[shard]["deaths"]:
                    found[shard] = said
        return found

    def finish(self, shard: int) -> None:
        """The shard was worked on to an end, good or bad: its marks go."""
        for name in self.storage.files(self._name("attempts")):
            if name.startswith(f"{shard}."):
                self.storage.remove(self._name(f"attempts/{name}"))

    # failures

    def fail(self, shard: int, error: str) -> None:
        """Note that a shard could not be done."""
        self.storage.write_json(self._name(f"failed/{shard}.json"), ShardFailure(shard, error))

    def failures(self) -> list[ShardFailure]:
        """Shards that could not be done, with their errors."""
        names = sorted(self.storage.files(self._name("failed")), key=lambda name: int(name.split(".")[0]))
        found = (self.storage.read_json(self._name(f"failed/{name}"), ShardFailure) for name in names)
        return [failure for failure in found if failure]


@dataclass
class Attempt:
    """One try at a shard: a file in the run folder, which says now and then how many rows are through.

    ``works`` are tables that are made together, with the rows and seconds that went into them; ``refused`` counts once
    for each table.
    """

    storage: Storage
    name: str
    deaths: int
    marks: tuple[str, ...] = ()  # its own, and those of the attempts before it
    works: list[dict[str, Any]] = field(default_factory=list)
    _noted: float = field(default_factory=time.monotonic)

    def end(self) -> None:
        """The shard is done: the marks go."""
        for mark in self.marks:
            self.storage.remove_file(mark)

    def text(self) -> bytes:
        """What the file says."""
        return json.dumps({"deaths": self.deaths, "works": self.works}).encode()

    def count(self, tables: tuple[str, ...], outcomes: Iterator[Any]) -> Iterator[Any]:
        """The outcomes, counted on their way."""
        started = time.monotonic()
        said: dict[str, Any] = {"tables": list(tables), "rows": 0, "refused": 0, "seconds": 0.0}
        self.works.append(said)
        for outcome in outcomes:
            now = time.monotonic()
            said["rows"] += 1
            said["refused"] += _refused(outcome, len(tables))
            said["seconds"] = round(now - started, 6)
            if now - self._noted >= NOTE_SECONDS[self.storage.local]:
                self._note()
                self._noted = now
            yield outcome

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


def sweep(storage: Storage) -> None:
    """Remove what dead runs of this machine left behind."""
    storage.sweep()
    for other in storage.folders("_run"):
        if other.startswith(NEW) and _may_get_its_name(storage, other):
            continue
        if not may_live(_owner(storage, other)):
            storage.remove(f"_run/{other}")
    _remove_empty(storage)


def _may_get_its_name(storage: Storage, folder: str) -> bool:
    """Whether the process that made a run's folder may be about to name it: it is not known to be dead, nor late."""
    pid, _, host = folder.removeprefix(NEW).partition("-")[2].partition("-")
    if pid.isdecimal() and is_dead(host, int(pid)):
        return False
    return storage.age(f"_run/{folder}") < NEW_SECONDS


def _owner(storage: Storage, run: str) -> dict[str, Any]:
    """Host and process of a run, empty where it does not say them (yet).

    Raises:
        MillError: what it says is malformed.
    """
    advice = f"if no job works on the dataset, remove {storage.path(f'_run/{run}')}"
    owner = storage.read_json(f"_run/{run}/owner.json", Owner, advice)
    return plain(owner) if owner else {}


def _remove_empty(storage: Storage) -> None:
    if storage.local:
        with suppress(OSError):  # another run is live
            os.rmdir(storage.path("_run"))


def require_alone(storage: Storage) -> None:
    """Before something is removed: make sure that no other job works on the dataset.

    Raises:
        MillError: one does, as far as can be seen from here.
    """
    for other in storage.folders("_run"):
        owner = _owner(storage, other)
        if may_live(owner):
            raise MillError(
                f"another job works on {storage.address} (process {owner.get('pid')} on {owner.get('host')}): wait for "
                "it or stop it first; "
                f"if it is long dead, remove {storage.path(f'_run/{other}')}"
            )
