"""The run folder, ``_run/ID`` inside the dataset: how one live job and its workers tell each other things.

Files only, so that it works on every runner. Nothing in it outlives the job, and nothing in it decides what a table
holds: resuming looks at committed files alone.
"""

from __future__ import annotations

import math
import os
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..schemas.documents import Count
from ..schemas.errors import MillError
from ..schemas.storage import Storage, alive

MAX_ATTEMPTS = 5
OWNER = {"host": str, "pid": Count(1, 2**31 - 1)}
STOP = {"why": str}
FAILURE = {"shard": Count(), "error": str}


class Stopped(Exception):
    """The job was asked to stop, or another shard found that going on is pointless."""


STOP_SECONDS = 1.0  # between two looks whether a run is to stop: on object storage each one is paid for


@dataclass
class Run:
    """One live job."""

    storage: Storage
    id: str
    _looked: float = field(default=-math.inf, compare=False)

    @classmethod
    def start(cls, storage: Storage) -> Run:
        """A new run."""
        run = cls(storage, uuid.uuid4().hex[:12])
        storage.write_json(run._name("owner.json"), {"host": socket.gethostname(), "pid": os.getpid()})
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
        self.storage.write_json(self._name("stop.json"), {"why": why})

    def stopped(self) -> str | None:
        """Why the run is to stop, if it is."""
        said = self.storage.read_json(self._name("stop.json"), STOP)
        return said["why"] if said else None

    def check(self) -> None:
        """Raise :class:`Stopped` where the run is to stop; looks at most once in :data:`STOP_SECONDS`."""
        now = time.monotonic()
        if now - self._looked < STOP_SECONDS:
            return
        self._looked = now
        if self.storage.exists(self._name("stop.json")):
            raise Stopped(self.stopped() or "")

    # attempts

    def begin(self, shard: int) -> int:
        """Mark an attempt at a shard; returns how many attempts of this run never ended (their worker died).

        Raises:
            MillError: too many did.
        """
        deaths = sum(name.startswith(f"{shard}.") for name in self.storage.files(self._name("attempts")))
        if deaths >= MAX_ATTEMPTS:
            raise MillError(f"its worker died {deaths} times")
        self.storage.write(self._name(f"attempts/{shard}.{uuid.uuid4().hex[:8]}"), b"")
        return deaths

    def finish(self, shard: int) -> None:
        """The shard was worked on to an end, good or bad: its marks go."""
        for name in self.storage.files(self._name("attempts")):
            if name.startswith(f"{shard}."):
                self.storage.remove(self._name(f"attempts/{name}"))

    # failures

    def fail(self, shard: int, error: str) -> None:
        """Note that a shard could not be done."""
        self.storage.write_json(self._name(f"failed/{shard}.json"), {"shard": shard, "error": error})

    def failures(self) -> list[dict[str, Any]]:
        """Shards that could not be done, with their errors."""
        names = sorted(self.storage.files(self._name("failed")), key=lambda name: int(name.split(".")[0]))
        return [self.storage.read_json(self._name(f"failed/{name}"), FAILURE) for name in names]


def sweep(storage: Storage) -> None:
    """Remove what dead runs of this machine left behind."""
    storage.sweep()
    for other in storage.folders("_run"):
        owner = _owner(storage, other)
        if owner.get("host") in (None, socket.gethostname()) and not alive(owner.get("pid", 0)):
            storage.remove(f"_run/{other}")
    _remove_empty(storage)


def _owner(storage: Storage, run: str) -> dict[str, Any]:
    """Host and process of a run, empty where it does not say them (yet).

    Raises:
        MillError: what it says is malformed.
    """
    advice = f"if no job works on the dataset, remove {storage.path(f'_run/{run}')}"
    owner: dict[str, Any] | None = storage.read_json(f"_run/{run}/owner.json", OWNER, advice)
    return owner or {}


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
        host, pid = owner.get("host"), owner.get("pid", 0)
        if host and pid != os.getpid() and (host != socket.gethostname() or alive(pid)):
            raise MillError(
                f"another job works on {storage.address} (process {pid} on {host}): wait for it or stop it first; "
                f"if it is long dead, remove {storage.path(f'_run/{other}')}"
            )
