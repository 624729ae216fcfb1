"""The run folder, ``_run/ID`` inside the dataset: how one live job and its workers tell each other things.

Files only, so that it works on every runner. Nothing in it outlives the job, and nothing in it decides what a table
holds: resuming looks at committed files alone.

Workers stop where the folder is gone, where it says so (``stop.json``), and where ``owner.json`` says that the command
gives signs of life, and it gives none. A folder that is gone is not made again.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from controlmill.schemas.bounds import Count
from controlmill.schemas.errors import Gone, MillError, error_text
from controlmill.schemas.files.documents import plain
from controlmill.schemas.files.storage import Storage
from controlmill.schemas.machine import process_stamp

from .attempts import Attempt
from .owners import GONE_SECONDS, NEW, OLD, SIGN_SECONDS, Owner, remove_empty
from .repeating import repeating
from .silence import Silence

MAX_ATTEMPTS = 5
FOLDERS = ("attempts", "failed", "scratch")


@dataclass(frozen=True)
class Stop:
    """``stop.json``: why a run is to stop, and the machine that found so."""

    why: str
    host: str = ""


@dataclass(frozen=True)
class ShardFailure:
    """``failed/SHARD.json``: why a shard could not be done, and the machine where it was tried."""

    shard: Count
    error: str
    host: str = ""

    def __str__(self) -> str:
        return f"shard {self.shard}{_elsewhere(self.host)}: {self.error}"


@dataclass(frozen=True)
class Agreed:
    """``agreed/NAME.json``: what the first of a run's workers said, and the machine that it is on."""

    said: str
    host: str


class Stopped(Exception):
    """The job was asked to stop, or another shard found that going on is pointless."""


STOP_SECONDS = {True: 1.0, False: 10.0}  # between two looks whether a run is to stop: in a folder, on an object store
OVER = "the run is over"


@dataclass
class Run:
    """One live job."""

    storage: Storage
    id: str
    makes: tuple[str, ...] = ()
    _looked: float = field(default=-math.inf, compare=False)
    _over: str = field(default="", compare=False)
    _silence: Silence = field(default_factory=Silence, compare=False)

    @classmethod
    def start(cls, storage: Storage, makes: Iterable[str] = ()) -> Run:
        """A new run, which makes some tables. Its folder is there with its owner in it, or not at all."""
        run = cls(storage, uuid.uuid4().hex[:12], tuple(makes))
        stamp = run._stamp(0)
        if storage.local:
            unnamed = f"_run/{NEW}{run.id}-{stamp['pid']}-{stamp['host']}"
            storage.write_json(f"{unnamed}/owner.json", stamp)
            for folder in FOLDERS:
                os.mkdir(storage.path(f"{unnamed}/{folder}"))
            storage.move(unnamed, f"_run/{run.id}")
        else:
            storage.write_json(run._name("owner.json"), stamp)
        return run

    def _stamp(self, sign: int) -> dict[str, Any]:
        return {**process_stamp(), "sign": sign, "makes": list(self.makes)}

    def _name(self, name: str) -> str:
        return f"_run/{self.id}/{name}"

    def _mark(self, name: str, data: bytes) -> None:
        """Write a file of the run.

        Raises:
            Stopped: the run is over.
        """
        try:
            self.storage.mark(self._name(name), data)
        except FileNotFoundError:
            self.storage.require()
            raise Stopped(OVER) from None

    @contextmanager
    def giving_signs(self) -> Iterator[None]:
        """While the block lasts, workers can see that this process lives: for those that do not end with it."""
        numbers = itertools.count(1)

        def sign() -> None:
            with suppress(OSError, MillError, Stopped):  # a disk that is full, say: the next may pass
                self._mark("owner.json", _json(self._stamp(next(numbers))))

        sign()
        with repeating(sign, SIGN_SECONDS[self.storage.local]):
            yield

    def end(self) -> None:
        """Remove the run folder; on a disk that became read-only it stays, until the next run sweeps it."""
        name = f"_run/{self.id}"
        with suppress(OSError, Gone):  # it must not hide what the job ended with
            if self.storage.local:
                self.storage.move(name, f"_run/{OLD}{self.id}")  # workers may write to it yet
                name = f"_run/{OLD}{self.id}"
        with suppress(OSError):
            self.storage.remove(name)
            remove_empty(self.storage)

    # stopping

    def stop(self, why: str) -> None:
        """Ask every worker to stop before its next row; nothing happens where the run is over."""
        self._over = why
        with suppress(Stopped):
            self._mark("stop.json", _json(Stop(why, socket.gethostname())))

    def stopped(self) -> str | None:
        """Why the run is to stop, and on which machine that was found, if it is to."""
        stop = self.storage.read_json(self._name("stop.json"), Stop)
        if stop is None:
            return None
        where = _elsewhere(stop.host).lstrip()
        return f"{where}: {stop.why}" if where and where not in stop.why else stop.why

    def check(self) -> None:
        """Look whether the run goes on, at most once in :data:`STOP_SECONDS`.

        Raises:
            Stopped: it does not.
            Gone: the dataset was removed.
        """
        now = time.monotonic()
        if not self._over and now - self._looked >= STOP_SECONDS[self.storage.local]:
            self._looked = now
            self.storage.require()
            self._over = self._why_over(now)
        if self._over:
            raise Stopped(self._over)

    def _why_over(self, now: float) -> str:
        """Why the run does not go on, or ''."""
        why = self.stopped()
        if why:
            return why
        owner = self.storage.read_json(self._name("owner.json"), Owner)
        if owner is None:
            return OVER
        if owner.sign and self._silence.seconds(owner.sign, now) >= GONE_SECONDS[self.storage.local]:
            seconds = GONE_SECONDS[self.storage.local]
            self.stop(
                f"the command on {owner.host} gave no sign of life for {seconds:g} s: it was killed, or suspended"
            )
            return OVER
        return ""

    def agree(self, name: str, said: str) -> Agreed:
        """What the first worker said under a name, which is this one where nobody said anything yet."""
        name = self._name(f"agreed/{name}.json")
        own = Agreed(said, socket.gethostname())
        known = self.storage.read_json(name, Agreed)
        if known is None:
            with self.storage.scratch(self.id) as path:
                path.write_bytes(_json(own))
                if self.storage.commit(path, name):
                    return own
            known = self.storage.read_json(name, Agreed)
        return known or own

    # attempts

    def begin(self, shard: int) -> Attempt:
        """Mark an attempt at a shard. Marks that are there already are of attempts whose worker died.

        Raises:
            MillError: too many did.
            Stopped: the run is over.
        """
        before = [name for name in self.storage.files(self._name("attempts")) if name.startswith(f"{shard}.")]
        deaths = len(before)
        if deaths >= MAX_ATTEMPTS:
            raise MillError(f"its worker died {deaths} times")
        name = f"{shard}.{uuid.uuid4().hex[:8]}"
        marks = tuple(self._name(f"attempts/{mark}") for mark in (*before, name))
        attempt = Attempt(self.storage, self._name(f"attempts/{name}"), deaths, marks)
        self._mark(f"attempts/{name}", attempt.text())
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
        """Note that a shard could not be done.

        Raises:
            Stopped: the run is over.
        """
        self._mark(f"failed/{shard}.json", _json(ShardFailure(shard, error, socket.gethostname())))

    def failures(self) -> list[ShardFailure]:
        """Shards that could not be done, with their errors."""
        names = sorted(self.storage.files(self._name("failed")), key=lambda name: int(name.split(".")[0]))
        found = (self.storage.read_json(self._name(f"failed/{name}"), ShardFailure) for name in names)
        return [failure for failure in found if failure]


def _json(value: Any) -> bytes:
    return json.dumps(plain(value)).encode()


def _elsewhere(host: str) -> str:
    """`` on HOST``, where that is another machine than this one."""
    return f" on {host}" if host and host != socket.gethostname() else ""


def unseen(storage: Storage, run: str) -> str:
    """Why this process does not see a run of a dataset, or ''."""
    try:
        return "" if storage.has_file(f"_run/{run}/owner.json") else "nothing there, or another folder"
    except Exception as error:  # of any kind of storage
        return error_text(error)
